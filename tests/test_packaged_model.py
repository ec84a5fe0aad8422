"""The model that comes with adafocus: it is the one that the catalogue means, used when none is named, and stays."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import av
import numpy as np
import pytest

from adafocus_cli import Tagger, weights_file
from adafocus_cli.cli.app import run
from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from adafocus_cli.flops import cost_of
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import included_path
from adafocus_cli.library.store import find_model
from adafocus_cli.requests import DEFAULT_MODEL
from bench import timeline
from tests.clips import has_encoder

ROOT = Path(__file__).parents[1]
ENTRY = catalogue.packaged()[DEFAULT_MODEL]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder in the place of the package's models."""
    monkeypatch.setattr(catalogue, "_FOLDERS", (tmp_path,))
    return tmp_path / f"{DEFAULT_MODEL}.safetensors"


def test_the_catalogue_describes_the_file_that_is_there():
    file = included_path(DEFAULT_MODEL)
    about = weights_file.read_about(file)
    assert sha256_of(file) == ENTRY.sha256
    assert (about.name, about.spec.family, about.spec.patch_size) == (ENTRY.name, ENTRY.family, ENTRY.patch_size)
    assert about.spec == replace(about.spec, **ENTRY.spec)
    assert f"{cost_of(about.spec).gmacs:.2f}" == f"{ENTRY.gmacs:.2f}"
    assert ENTRY.sha256 in (ROOT / "weights/motion.md").read_text("utf-8")


def test_it_answers_where_no_model_is_named(capsys):
    video = str(ROOT / "examples/object-moves-left.mp4")
    assert run(["classify", video, "--device", "cpu", "--format", "jsonl", "-q"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"]["name"], record["model"]["sha256"]) == (DEFAULT_MODEL, ENTRY.sha256)
    assert Tagger.load(DEFAULT_MODEL, device="cpu").model.sha256 == ENTRY.sha256


@pytest.fixture
def answers():
    """Of the examples, by their names."""
    with (ROOT / "examples/answers.csv").open(newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


def test_every_example_has_an_answer_that_the_model_knows(answers):
    labels = weights_file.read_about(included_path(DEFAULT_MODEL)).labels
    assert sorted(answers) == sorted(path.name for path in (ROOT / "examples").glob("*.mp4"))
    assert set(answers.values()) <= set(labels)


def thinned(source: Path, target: Path, count: int) -> None:
    """So many frames of a video, from its first to its last, two a second."""
    with av.open(source) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    with av.open(target, "w") as file:
        height, width, _ = frames[0].shape
        stream = file.add_stream("mpeg4", rate=2, width=width, height=height, bit_rate=8_000_000)
        for number in np.linspace(0, len(frames) - 1, count).round().astype(int):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frames[number], "rgb24")))
        file.mux(stream.encode())


@pytest.mark.parametrize("count", [6, 8])
def test_a_few_frames_are_enough(count, answers, tmp_path):
    tagger, found = Tagger.load(DEFAULT_MODEL, device="cpu"), {}
    for name in answers:
        thinned(ROOT / "examples" / name, tmp_path / name, count)
        result = tagger.tag_video(tmp_path / name)
        assert result.frames_decoded == count
        found[name] = result.labels[0].label
    assert found == answers


def test_it_is_listed_verified_and_needs_no_download(capsys):
    assert run(["models", "list"]) == 0
    assert "✓ included" in capsys.readouterr().out
    assert run(["models", "verify", "--all", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": DEFAULT_MODEL, "state": "intact"}]
    assert run(["models", "pull", DEFAULT_MODEL]) == 0
    assert "already installed and intact" in capsys.readouterr().err


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV has no libx264 encoder")
def test_segments_are_where_the_parts_of_a_film_are(tmp_path):
    labels = timeline.make(tmp_path / "film.mp4", 0)
    result = Tagger.load(DEFAULT_MODEL, device="cpu").tag_video(tmp_path / "film.mp4", window=5, stride=2.5)
    match = timeline.match(result.segments, labels)
    assert [segment.label for segment in result.segments] == labels
    assert fmean(match.overlaps) >= 0.8
    assert max(match.distances) <= 2.5


@pytest.mark.parametrize(
    "arguments",
    [("remove", DEFAULT_MODEL), ("add", "x.pth", "--name", DEFAULT_MODEL), ("pull", DEFAULT_MODEL, "--accept-changed")],
)
def test_it_can_neither_be_removed_nor_replaced(arguments, capsys):
    assert run(["models", *arguments]) == 2
    assert f"{DEFAULT_MODEL} comes with adafocus, and can neither be replaced" in capsys.readouterr().err
    assert included_path(DEFAULT_MODEL).is_file()


def test_a_changed_file_is_noticed(elsewhere, capsys):
    content = bytearray(find_model(ROOT / "weights" / elsewhere.name).read_bytes())
    content[-1] ^= 1
    elsewhere.write_bytes(content)
    assert run(["models", "verify", DEFAULT_MODEL]) == 1
    assert "changed since adafocus was installed; reinstall adafocus" in capsys.readouterr().out


def test_a_missing_file_says_what_to_do(elsewhere, capsys):
    with pytest.raises(ModelError, match="it comes with adafocus, so reinstall adafocus"):
        find_model(DEFAULT_MODEL)
    assert run(["models", "verify", DEFAULT_MODEL]) == 1
    assert "reinstall adafocus" in capsys.readouterr().out
