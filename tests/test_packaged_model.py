"""The models that come with adafocus: those of the catalogue, of which one answers when none is named; they stay."""

from __future__ import annotations

import csv
import json
import re
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
from adafocus_cli.library.catalogue import INCLUDED, included_path
from adafocus_cli.library.store import find_model
from adafocus_cli.requests import DEFAULT_MODEL
from bench import objects_model, timeline
from tests.clips import has_encoder

ROOT = Path(__file__).parents[1]
EXAMPLES = {"objects": ROOT / "examples", "motion": ROOT / "examples/motion"}

each_model = pytest.mark.parametrize("name", INCLUDED)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder in the place of the package's models."""
    monkeypatch.setattr(catalogue, "_FOLDERS", (tmp_path,))
    return tmp_path


@each_model
def test_the_catalogue_describes_the_file_that_is_there(name):
    file, entry = included_path(name), catalogue.packaged()[name]
    about = weights_file.read_about(file)
    assert sha256_of(file) == entry.sha256
    assert (about.name, about.spec.family, about.spec.patch_size) == (entry.name, entry.family, entry.patch_size)
    assert about.spec == replace(about.spec, **entry.spec)
    assert f"{cost_of(about.spec).gmacs:.2f}" == f"{entry.gmacs:.2f}"
    assert entry.sha256 in (ROOT / f"weights/{name}.md").read_text("utf-8")


def test_one_answers_where_no_model_is_named(capsys):
    video, sha256 = str(ROOT / "examples/tripod.mp4"), catalogue.packaged()[DEFAULT_MODEL].sha256
    assert run(["classify", video, "--device", "cpu", "--format", "jsonl", "-q"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"]["name"], record["model"]["sha256"]) == (DEFAULT_MODEL, sha256)
    assert Tagger.load(DEFAULT_MODEL, device="cpu").model.sha256 == sha256


def test_the_file_of_objects_is_a_spec_and_nothing_else(tmp_path, monkeypatch):
    written = tmp_path / "objects.safetensors"
    monkeypatch.setattr("sys.argv", ["objects_model.py", str(written)])
    objects_model.main()
    assert written.read_bytes() == included_path("objects").read_bytes()
    assert weights_file.read_about(written).spec == objects_model.spec()
    assert written.stat().st_size < 4096


def answers_of(name):
    """Of a model's examples, by their names."""
    with (EXAMPLES[name] / "answers.csv").open(newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


@pytest.fixture
def answers():
    return answers_of("motion")


@each_model
def test_every_example_has_an_answer_that_the_model_knows(name):
    answers, model = answers_of(name), Tagger.load(name, device="cpu")
    without = {"objects": ["grass.mp4"], "motion": []}[name]
    assert sorted([*answers, *without]) == sorted(path.name for path in EXAMPLES[name].glob("*.mp4"))
    assert set(answers.values()) <= set(model.labels.names)


def test_objects_names_what_is_in_its_examples_and_nothing_where_there_is_nothing():
    tagger = Tagger.load("objects", device="cpu")
    found = {name: tagger.tag_video(EXAMPLES["objects"] / name) for name in answers_of("objects")}
    assert {name: result.labels[0].label for name, result in found.items()} == answers_of("objects")
    assert [tag.label for tag in found["cat-and-tripod.mp4"].labels] == ["tripod", "Egyptian cat"]
    empty = tagger.tag_video(EXAMPLES["objects"] / "grass.mp4")
    assert empty.labels == ()
    assert empty.best_guess is not None


def test_a_label_of_objects_says_where_its_thing_is():
    """The photograph of the cat is 286 × 190 pixels; its middle goes from (200, 380) to (560, 360)."""
    result = Tagger.load("objects", device="cpu").tag_video(EXAMPLES["objects"] / "cat-on-grass.mp4")
    (cat,) = result.labels
    assert cat.parent == "cat"
    assert cat.looks
    for look in (result.trajectory[step] for step in cat.looks):
        x = 200 + 360 * look.time / 3.96
        left, top, right, bottom = look.box
        assert left < x + 143
        assert x - 143 < right
        assert top < 465
        assert bottom > 275


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
    tagger, found = Tagger.load("motion", device="cpu"), {}
    for name in answers:
        thinned(EXAMPLES["motion"] / name, tmp_path / name, count)
        result = tagger.tag_video(tmp_path / name)
        assert result.frames_decoded == count
        found[name] = result.labels[0].label
    assert found == answers


@each_model
def test_it_is_listed_verified_and_needs_no_download(name, capsys):
    assert run(["models", "list"]) == 0
    assert re.search(rf"^{name} .*✓ included", capsys.readouterr().out, re.MULTILINE)
    assert run(["models", "verify", "--all", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": each, "state": "intact"} for each in INCLUDED]
    assert run(["models", "pull", name]) == 0
    assert "already installed and intact" in capsys.readouterr().err


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV has no libx264 encoder")
def test_segments_are_where_the_parts_of_a_film_are(tmp_path):
    labels = timeline.make(tmp_path / "film.mp4", 0)
    result = Tagger.load("motion", device="cpu").tag_video(tmp_path / "film.mp4", window=5, stride=2.5)
    match = timeline.match(result.segments, labels)
    assert [segment.label for segment in result.segments] == labels
    assert fmean(match.overlaps) >= 0.8
    assert max(match.distances) <= 2.5


@each_model
@pytest.mark.parametrize(
    "arguments", [("remove", "{}"), ("add", "x.pth", "--name", "{}"), ("pull", "{}", "--accept-changed")]
)
def test_it_can_neither_be_removed_nor_replaced(name, arguments, capsys):
    assert run(["models", *(argument.format(name) for argument in arguments)]) == 2
    assert f"{name} comes with adafocus, and can neither be replaced" in capsys.readouterr().err
    assert included_path(name).is_file()


@each_model
def test_a_changed_file_is_noticed(name, elsewhere, capsys):
    file = f"{name}.safetensors"
    content = bytearray((ROOT / "weights" / file).read_bytes())
    content[-1] ^= 1
    (elsewhere / file).write_bytes(content)
    assert run(["models", "verify", name]) == 1
    assert "changed since adafocus was installed; reinstall adafocus" in capsys.readouterr().out


@each_model
def test_a_missing_file_says_what_to_do(name, elsewhere, capsys):
    with pytest.raises(ModelError, match="it comes with adafocus, so reinstall adafocus"):
        find_model(name)
    assert run(["models", "verify", name]) == 1
    assert "reinstall adafocus" in capsys.readouterr().out
