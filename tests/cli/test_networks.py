"""Networks over whole clips, from files as they were published to records: their real sizes, on a processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adafocus_cli import checkpoint
from adafocus_cli.benchmark import peak
from adafocus_cli.benchmark.bench_model import with_random_weights
from adafocus_cli.models import build, default_spec, dense
from tests.cli.conftest import Adafocus
from tests.clips import numbered_clip
from tests.tiny import tiny_spec

PYTORCHVIDEO = ("slow-r50", "i3d-r50", "x3d-s", "x3d-m")  # torchvision's files are nothing but their tensors


def published(family: str, path: Path) -> Path:
    """Made-up weights under the published names, so that no answer grows beyond numbers."""
    with torch.device("meta"):
        wanted = build(default_spec(family)).state_dict()
    torch.manual_seed(0)
    made = {}
    for name, tensor in wanted.items():
        low, high = (-0.05, 0.05) if tensor.ndim > 1 else (0.5, 1.0)
        made[name.removeprefix("net.")] = torch.empty(tensor.shape).uniform_(low, high)
    torch.save({"model_state": made, "epoch": 196} if family in PYTORCHVIDEO else made, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_of(90, tmp_path_factory.mktemp("clips"))


def clip_of(frames: int, folder: Path) -> Path:
    return numbered_clip(folder / "clip.mp4", frames=frames, size=(340, 256), options={"preset": "ultrafast"})


@pytest.mark.parametrize("family", [family.name for family in dense.FAMILIES if family.name != "x3d-l"])
def test_every_network_tags_a_clip(
    adafocus: Adafocus, tmp_path: Path, clip: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published(family, tmp_path / f"{family}.pth")
    if family == "s3d":  # a quarter of the 128 frames that take as long as all the other networks, and fewer than that
        monkeypatch.setattr(dense.S3D, "published", dense.S3D.published.with_frames(32))
        clip = clip_of(30, tmp_path)
    outcome = adafocus("classify", clip, "-w", file, "--device", "cpu", "-f", "json")
    assert outcome.code == 0, outcome.err
    (record,) = json.loads(outcome.out)
    assert (record["model"]["family"], record["model"]["dataset"]) == (family, "kinetics400")
    assert len(record["labels"]) == 5
    assert not record["labels"][0]["label"].startswith("class ")
    assert record["trajectory"] == []
    assert record["cost"]["gmacs"] == pytest.approx(record["cost"]["full_frame_gmacs"], rel=1e-3)
    frames = default_spec(family).glance_frames
    assert record["frames_decoded"] == (16 if family == "s3d" else frames)  # every second one and the last


def test_of_networks_with_the_same_tensors_the_name_tells_which_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def family(name: str) -> str:
        return checkpoint.load(published("x3d-s", tmp_path / name)).spec.family

    assert family("X3D_S.pyth") == "x3d-s"
    assert family("X3D_M.pyth") == "x3d-m"
    assert not caplog.records
    assert family("best.pyth") == "x3d-m"
    assert "has the tensors of x3d-s and x3d-m alike, and its name does not tell which it is" in caplog.text
    expected = checkpoint.load(tmp_path / "best.pyth", changes={"family": "x3d-s"})
    assert expected.spec.family == "x3d-s"


def test_what_is_said_of_a_network_names_no_patches(
    adafocus: Adafocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    file = published("mc3-18", tmp_path / "network.pth")
    outcome = adafocus("models", "convert", file, "--output", tmp_path / "own.safetensors")
    assert "mc3-18, 400 classes, whole frames of 112 px" in outcome.err
    assert adafocus("models", "add", tmp_path / "own.safetensors", "--name", "mine").code == 0
    for name in ("mine", "mc3-18-k400"):
        assert "patches    none, it uses whole frames" in adafocus("models", "show", name).out
    own = tmp_path / "own.yaml"  # a list that leaves the size of the patches to the file
    own.write_text("groups: [{family: adafocus-v1, models: [{name: ours, file: ours.pth}]}]")
    assert "patches    not given" in adafocus("models", "show", "ours", "--catalogue", own).out


def test_files_that_are_not_whole_say_what_is_missing(adafocus: Adafocus, tmp_path: Path, clip: Path) -> None:
    file = published("r3d-18", tmp_path / "network.pth")
    tensors = torch.load(file)
    for change, words in (
        (lambda: tensors.pop("layer3.1.conv2.1.running_var"), "lacks layer3.1.conv2.1.running_var, which r3d-18 needs"),
        (lambda: tensors.update({"fc.weight": torch.zeros(400, 7)}), "fc.weight is 400×7, but"),
    ):
        change()
        torch.save(tensors, file)
        outcome = adafocus("classify", clip, "-w", file, "--device", "cpu")
        assert outcome.code == 1
        assert words in outcome.err
        assert outcome.err.count("\n") == 1
        tensors["layer3.1.conv2.1.running_var"] = torch.zeros(256)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--patch-size", "96"], "mc3-18 sees whole frames, so it has no patches of 96 px; leave --patch-size out"),
        (["--views", "7"], "7 views are not possible; give 1, 10 or 30"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    adafocus: Adafocus, tmp_path: Path, clip: Path, arguments: list[str], words: str
) -> None:
    outcome = adafocus("classify", clip, "-w", published("mc3-18", tmp_path / "network.pth"), *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("family", ["uni-adafocus-x3d", "x3d-m"])
def test_every_command_takes_a_network_over_clips(
    adafocus: Adafocus, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Small ones; the second is one that `train --recipe dense` has taught other classes."""
    monkeypatch.setattr(peak, "_SECONDS", 0.0)
    file = with_random_weights(tiny_spec(family), "tiny", tmp_path).path
    on_cpu = ("--device", "cpu")
    for label in ("high", "low"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in range(2):
            numbered_clip(tmp_path / "clips" / label / f"{number}.mp4", frames=8, first_number=number, size=(96, 80))
    if family == "x3d-m":
        asked = ("--recipe", "dense", "--init", file, "--frames", 4, "--epochs", 1, "--batch-size", 2, "--workers", 0)
        assert adafocus("train", tmp_path / "clips", *asked, *on_cpu, "-o", tmp_path / "run").code == 0
        file = tmp_path / "run" / "model.safetensors"
    (record,) = adafocus("classify", clip, "-w", file, *on_cpu, "-f", "jsonl").records
    assert (record["model"]["family"], len(record["trajectory"])) == (family, 0 if family == "x3d-m" else 32)
    tags = tmp_path / "tags.jsonl"
    assert adafocus("batch", tmp_path / "clips", "-o", tags, "-w", file, *on_cpu).code == 0
    assert [json.loads(line)["status"] for line in tags.read_text("utf-8").splitlines()] == ["ok"] * 4
    assert adafocus("report", tags, "-o", tmp_path / "report.html").code == 0
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\nclips/high/0.mp4,0\nclips/low/0.mp4,1\n")
    outcome = adafocus("evaluate", listed, "-w", file, *on_cpu, "-f", "json")
    assert json.loads(outcome.out)["videos"]["tagged"] == 2, outcome.err
    once = ("--runtime", "torch", "--precision", "fp32", "--rounds", 1)
    outcome = adafocus("bench", tmp_path / "clips", "-m", file, *on_cpu, *once, "-f", "json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["end_to_end"]
