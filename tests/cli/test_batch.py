"""`adafocus batch`, inside the test: real clips and decoding processes, a tiny model."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from adafocus_cli.cli.batch import Shard
from adafocus_cli.output.texts import duration
from tests.cli.conftest import Adafocus, Outcome
from tests.clips import numbered_clip
from tests.conftest import without_timings
from tests.tiny import tiny_tagger


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for n in range(4):
        numbered_clip(folder / f"{n}.mp4", frames=20 + 5 * n, first_number=100 * n)
    return folder


@dataclass
class Library:
    """A folder `videos` in the current folder, and a way to run over it."""

    adafocus: Adafocus

    def run(self, *arguments: object, inputs: tuple[str, ...] = ("videos",)) -> Outcome:
        return self.adafocus("batch", *inputs, "-w", "model.pth", "-o", "tags.jsonl", "--workers", 1, *arguments)

    def records(self, name: str = "tags.jsonl") -> dict[str, dict]:
        found = [json.loads(line) for line in Path(name).read_text().splitlines()]
        assert len({record["video"]["path"] for record in found}) == len(found)
        return {record["video"]["path"]: record for record in found}


@pytest.fixture
def library(made, tmp_path, monkeypatch, adafocus):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adafocus_cli.tagger.ClipTagger.of", lambda request: tiny_tagger("adafocus-v2"))
    Path("model.pth").touch()
    Path("videos").mkdir()
    for clip in made.iterdir():
        Path("videos", clip.name).write_bytes(clip.read_bytes())
    return Library(adafocus)


def test_every_video_has_the_record_it_has_alone(library):
    done = library.run("--logits")
    assert (done.code, done.out) == (0, "")
    alone = {r.video.path: r for r in tiny_tagger("adafocus-v2").tag_videos(sorted(map(str, Path("videos").iterdir())))}
    found = library.records()
    assert set(found) == set(alone)
    for path, record in found.items():
        expected = json.loads(json.dumps(without_timings(alone[path].to_dict(logits=True))))
        ours = without_timings(record)
        assert {name: ours[name] for name in expected} == expected


def test_the_same_command_again_skips_what_is_done(library):
    assert library.run().code == 0
    before = Path("tags.jsonl").read_text()
    done = library.run()
    assert (done.code, Path("tags.jsonl").read_text()) == (0, before)
    assert "0 tagged · 4 done before · 0 failed" in done.err


def test_segments_are_those_of_all_runs_into_the_file(library):
    assert library.run("--window", 1, "--segments", "segments.csv", inputs=("videos/0.mp4",)).code == 0
    of_first = Path("segments.csv").read_text()
    assert of_first.startswith("path,start,end,label,index,score\nvideos/0.mp4,0.0,")
    assert library.run("--window", 1, "--segments", "segments.csv").code == 0
    text = Path("segments.csv").read_text()
    assert text.startswith(of_first)
    assert {line.partition(",")[0] for line in text.splitlines()[1:]} == {f"videos/{n}.mp4" for n in range(4)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["-o", "tags.csv", "--window", 1, "--segments", "s.csv"],
            "an output file that ends in .jsonl or .sqlite",
        ),
        (["--segments", "s.csv"], "add --window SECONDS"),
        (["--window", 1, "--segments", "tags.jsonl"], "give a file for each"),
        (["--window", 1, "--segments", "notes.csv"], "notes.csv is there already"),
    ],
)
def test_a_file_of_segments_that_cannot_be_made_is_refused_in_one_line(library, options, said):
    Path("notes.csv").write_text("dear diary\n")
    refused = library.run(*options)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert said in refused.err


def test_failures_are_in_the_stream_and_in_a_file_that_can_be_fed_back_in(library, made):
    Path("videos/bad\n.mp4").write_text("rubbish")
    done = library.run("--failed", "bad.jsonl")
    assert done.code == 3
    assert "4 tagged · 1 failed (1 could not be opened)" in done.err
    assert library.records()["videos/bad\n.mp4"]["status"] == "error"
    assert set(library.records("bad.jsonl")) == {"videos/bad\n.mp4"}
    Path("videos/bad\n.mp4").write_bytes((made / "0.mp4").read_bytes() + b"x")
    done = library.run("--files-from", "bad.jsonl", "--failed", "worse.jsonl", inputs=())
    assert done.code == 0
    assert len(library.records()) == 5
    assert library.records("worse.jsonl") == {}


def test_shards_share_the_videos_and_never_change(library):
    parts = []
    for number in (1, 2, 3):
        assert library.run("--shard", f"{number}/3", "--overwrite").code == 0
        parts.append(library.records())
    assert sorted(path for part in parts for path in part) == sorted(map(str, Path("videos").iterdir()))
    assert [number for number in range(1, 17) if "videos/0.mp4" in Shard(number, 16)] == [2]


def test_a_shard_without_videos_is_done(library):
    (number,) = [number for number in range(1, 17) if "videos/0.mp4" in Shard(number, 16)]
    assert library.run("--shard", f"{number % 16 + 1}/16", inputs=("videos/0.mp4",)).code == 0


def test_the_summary_tells_what_it_cost_and_where_the_time_went(library):
    err = library.run().err
    assert re.search(r"videos/s in .* · 0\.\d+ GMACs a video, \d+ % of whole frames", err)
    assert re.search(r"the model took .*, decoding .*, summed", err)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--shard", "4/3"], "--shard 4/3 must be K/N with 1 ≤ K ≤ N"),
        (["--overwrite", "--append"], "exclude each other"),
        (["--failed", "tags.jsonl"], "give a file for each"),
        (["--failed", "lost.mp4"], "would be overwritten"),
        (["--files-from", "list.txt", "--watch"], "not a list"),
        (["--files-from", "list.txt", "--failed", "list.txt"], "would be overwritten"),
        (["--decode-memory", "0"], "give GiB above 0"),
        (["-o", "tags.txt"], "has no known format"),
        (["-o", "absent/tags.jsonl"], "folder that exists"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(library, arguments, complaint):
    Path("list.txt").touch()
    done = library.run(*arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert complaint in done.err


def test_other_settings_into_the_same_file_are_refused_unless_asked_for(library):
    library.run()
    assert library.run("-k", 2).code == 2
    assert "top_k was 5 and is 2" in library.run("-k", 2).err
    assert library.run("-k", 2, "--overwrite").code == 0
    assert {len(record["labels"]) for record in library.records().values()} == {2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--exit", "typo.yaml"], "cannot read exit file typo.yaml"), (["--max-gmacs", "1e-9"], "--max-gmacs")],
)
def test_what_does_not_fit_the_model_is_refused_before_the_file_is_touched(library, arguments, said):
    library.run()
    before = Path("tags.jsonl").read_bytes()
    done = library.run("--overwrite", *arguments)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert Path("tags.jsonl").read_bytes() == before


def test_a_list_without_videos_is_done(library):
    Path("list.txt").touch()
    assert library.run("--files-from", "list.txt", inputs=()).code == 0


def test_a_folder_without_videos_is_an_error(library):
    Path("empty").mkdir()
    done = library.run(inputs=("empty",))
    assert (done.code, "no videos among the inputs" in done.err) == (1, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_unreadable_files_cost_nothing_but_their_record(library):
    os.mkfifo("videos/pipe.mp4")
    Path("videos/dangling.mp4").symlink_to("nowhere")
    done = library.run(inputs=("videos", "videos/pipe.mp4"))
    assert done.code == 3
    assert "4 tagged · 2 failed" in done.err


def test_durations_are_told_in_two_units():
    assert [duration(seconds) for seconds in (0.4, 61, 7300, 90000)] == ["0.4 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]


def test_quiet_says_what_failed_and_nothing_else(library):
    Path("videos/bad.mp4").write_text("rubbish")
    done = library.run("-q")
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert done.err.startswith("adafocus: videos/bad.mp4: ")


def test_a_folder_that_is_named_in_several_ways_is_one(library, made):
    Path("videos/twin.mp4").write_bytes(Path("videos/0.mp4").read_bytes())
    done = library.run(inputs=("videos", "./videos", str(Path("videos").absolute())))
    assert "4 tagged · 1 copied from duplicates · 0 failed" in done.err
    assert len(library.records()) == 5
    done = library.run(inputs=(str(Path("videos").absolute()), "./videos"))
    assert "0 tagged · 5 done before" in done.err
    assert set(library.records()) == set(map(str, Path("videos").iterdir()))


def test_a_file_whose_name_is_no_text_can_be_fed_back_in(library, made):
    name = os.fsdecode(b"videos/\xff.mp4")
    Path(name).write_text("rubbish")
    assert library.run("--failed", "bad.jsonl").code == 3
    Path("bad.jsonl").read_bytes().decode().encode()
    assert json.loads(Path("bad.jsonl").read_text())["video"]["path"] == "videos/\\udcff.mp4"
    Path(name).write_bytes((made / "0.mp4").read_bytes() + b"x")
    done = library.run("--files-from", "bad.jsonl", inputs=())
    assert (done.code, "1 tagged" in done.err) == (0, True)
    assert "5 done before" in library.run().err


@pytest.mark.parametrize("text", ["dear diary", '{"name": "a"}'])
def test_the_file_of_failures_replaces_nothing_else(library, text):
    Path("notes.jsonl").write_text(text)
    done = library.run("--failed", "notes.jsonl")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "notes.jsonl is there already" in done.err
    assert Path("notes.jsonl").read_text() == text


def test_records_of_files_that_are_gone_are_removed_when_asked_to(library):
    Path("others").mkdir()
    Path("videos/3.mp4").rename("others/3.mp4")
    Path("videos/2.mp4").rename("others/2.mp4")
    library.run(inputs=("videos", "others"))
    Path("videos/0.mp4").rename("videos/moved.mp4")
    Path("others/2.mp4").unlink()
    assert len({**library.records()}) == 4
    done = library.run("--prune", inputs=("videos",))
    assert "0 tagged · 1 copied from duplicates" in done.err
    assert "removed 1 record of missing files" in done.err
    assert set(library.records()) == {"videos/moved.mp4", "videos/1.mp4", "others/2.mp4", "others/3.mp4"}
    done = library.run("--prune", inputs=("vid*", str(Path("others").absolute())))
    assert "removed 1 record of missing files" in done.err
    assert set(library.records()) == {"videos/moved.mp4", "videos/1.mp4", "others/3.mp4"}
    assert "removed 0 records" in library.run("--prune").err


def test_an_empty_folder_may_be_a_disk_that_is_not_there(library):
    library.run()
    Path("videos").rename("moved")
    Path("videos").mkdir()
    done = library.run("--prune", inputs=("videos", "moved"))
    assert "videos is empty" in done.err
    assert len(library.records()) == 8


@pytest.mark.parametrize("inputs", [("videos/0.mp4",), ("--files-from", "list.txt"), ("videos", "-")])
def test_prune_needs_a_folder(library, inputs):
    Path("list.txt").touch()
    done = library.run("--prune", inputs=inputs)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--prune" in done.err
