"""Options for windows and for files beside the results, with an engine that tags nothing, and with a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from adafocus_cli.cli.terminal import ProgressBar, video_progress
from tests.clips import numbered_clip
from tests.output.made_up import tagged
from tests.tiny import tiny_tagger


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("adafocus_cli.tagger.ClipTagger.of", lambda request: tiny_tagger("adafocus-v2"))


def test_windows_reach_the_engine(adafocus, engine, weights):
    assert adafocus("classify", "a.mp4", "-w", weights, "--window", 10, "--stride", 4).code == 0
    assert (engine.request.windows.seconds, engine.request.windows.stride) == (10, 4)
    adafocus("classify", "a.mp4", "-w", weights, "--window", 10)
    assert engine.request.windows.stride == 5
    adafocus("classify", "a.mp4", "-w", weights)
    assert engine.request.windows is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stride", 2], "add --window SECONDS"),
        (["--window", 0], "--window 0 does not fit"),
        (["--subtitles", "vtt"], "--subtitles vtt shows what happens when; add --window SECONDS"),
        (["--chapters"], "--chapters shows what happens when; add --window SECONDS"),
        (["--segments", "s.csv"], "--segments s.csv shows what happens when; add --window SECONDS"),
        (["--window", 4, "--subtitles", "srt"], "give one with --sidecars"),
        (["--sidecars", "side"], "add --subtitles vtt or --xmp"),
        (
            ["--xmp", "--sidecars", "side", "--map", "absent.yaml"],
            "cannot read tag map absent.yaml: No such file or directory; check the path (--map FILE)",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(adafocus, engine, weights, options, said):
    outcome = adafocus("classify", "a.mp4", "-w", weights, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert engine.paths == []


def test_batch_writes_files_beside_its_output_and_a_twin_has_them_too(adafocus, tiny, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    content = numbered_clip("videos/a.mp4", frames=100).read_bytes()
    (tmp_path / "videos/twin.mp4").write_bytes(content)
    (tmp_path / "map.yaml").write_text("class 1: own name\n")
    command = ["batch", "videos/", "-w", weights, "-o", "out/tags.jsonl", "--window", 2, "--subtitles", "vtt", "--xmp"]
    (tmp_path / "out").mkdir()
    assert adafocus(*command, "--chapters", "--map", "map.yaml", "--workers", 1).code == 0
    names = sorted(path.name for path in (tmp_path / "out/videos").iterdir())
    assert names == [f"{video}.mp4{end}" for video in ("a", "twin") for end in (".chapters.txt", ".vtt", ".xmp")]
    assert "--> 00:00:04.000" in (tmp_path / "out/videos/a.mp4.vtt").read_text()
    again = adafocus(*command, "--stride", 0.5)
    assert again.code == 2
    assert "stride was 1.0 and is 0.5" in again.err
    assert "2 done before" in adafocus(*command).err
    (tmp_path / "map.yaml").write_text("clas 1: x\n")
    outcome = adafocus("classify", "videos/a.mp4", "-w", weights, "--xmp", "--sidecars", ".", "--map", "map.yaml")
    assert (outcome.code, outcome.out) == (2, "")
    assert "maps 'clas 1', which is not a label of the model; the nearest is 'class " in outcome.err


def test_tags_inside_videos_do_not_make_other_videos_of_them(adafocus, tiny, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    content = numbered_clip("videos/a.mp4", frames=100).read_bytes()
    (tmp_path / "videos/twin.mp4").write_bytes(content)
    command = ["batch", "videos/", "-w", weights, "-o", "tags.jsonl", "--window", 2, "--workers", 1, "--write-tags"]
    assert "1 tagged · 1 copied from duplicates" in adafocus(*command).err
    written = {path: path.stat().st_ino for path in Path("videos").iterdir()}
    for path in written:
        assert path.read_bytes().startswith(content)
        assert b"xmpmeta" in path.read_bytes()
    assert "0 tagged · 2 done before" in adafocus(*command).err
    assert {path: path.stat().st_ino for path in Path("videos").iterdir()} == written
    assert adafocus("classify", "videos/a.mp4", "-w", weights, "--write-tags", "-q").code == 0


def test_progress_is_told_in_the_time_of_the_film():
    shown = []
    bar = ProgressBar(visible=False)
    bar.within = lambda text, share: shown.append((text, share))
    watch = video_progress(bar)
    watch(tagged("films/[red]long.mp4", duration=7200.0).video, 0.25)
    watch(tagged("clip.mp4", duration=None).video, 0.5)
    assert shown == [("[red]long.mp4 30:00 of 2:00:00", 0.25), ("clip.mp4 50 %", 0.5)]
