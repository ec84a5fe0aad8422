"""Recipe `sfc`: a small file beside a network that stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adafocus_cli import Tagger, checkpoint, weights_file
from adafocus_cli.cli.app import run
from adafocus_cli.errors import ModelError
from adafocus_cli.models import build, default_spec
from adafocus_cli.spec import Network
from adafocus_cli.weights_file import About
from tests.cli.test_networks import published

LABELS = ("high", "low")
ASKED = ["--recipe", "sfc", "--frames", "8", "--epochs", "1", "--batch-size", "2", "--workers", "0", "-q"]


def save(path, family="slow-r50", labels=LABELS):
    torch.manual_seed(0)
    network = Network(default_spec(family).glance.arch, 32, 0.125)
    spec = replace(default_spec(family), classes=len(labels), frame_size=32, short_side=None)
    model = build(replace(spec, glance=network, focus=network))
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        weights_file.write(file, About(spec=model.spec, labels=labels, labels_source="here"), model.state_dict())
    return path


@pytest.fixture
def backbone(videos):
    return save(videos.parent / "net.safetensors")


def train(*arguments):
    return run(["train", "videos", *map(str, arguments), *ASKED])


def test_only_the_module_learns_and_is_kept(backbone, videos):
    assert train("--init", backbone, "--compression", 2, "-o", "run") == 0
    file = videos.parent / "run" / "model.safetensors"
    assert {name.split(".")[0] for name in weights_file.read(file)[1]} == {"compress"}
    assert file.stat().st_size < backbone.stat().st_size / 10
    loaded, whole = checkpoint.load(file), checkpoint.load(backbone)
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in whole.tensors.items())
    result = Tagger.load(file, device="cpu").tag_video(videos / "low" / "0.mp4")
    assert (result.model.family, len(result.trajectory)) == ("sfc", 4)
    assert {tag.label for tag in result.labels} == set(LABELS)


def test_a_run_goes_on_and_its_file_can_be_made_whole(backbone, videos):
    assert train("--init", backbone, "-o", "run") == 0
    folder = videos.parent / "run"
    assert run(["train", "--resume", str(folder), "-q"]) == 0
    assert run(["models", "convert", str(folder / "model.safetensors"), "--output", "whole.safetensors"]) == 0
    (folder / backbone.name).unlink()
    assert checkpoint.load(videos.parent / "whole.safetensors").spec.family == "sfc"


def test_without_its_network_it_says_what_is_missing(backbone, videos, capsys):
    assert train("--init", backbone, "-o", "run") == 0
    beside = videos.parent / "run" / backbone.name
    beside.unlink()
    arguments = ["classify", "videos", "-w", "run/model.safetensors"]
    assert run(arguments) == 1
    assert (
        "needs the network that it was taught in; put net.safetensors into the same folder" in capsys.readouterr().err
    )
    save(beside, "i3d-r50")
    assert run(arguments) == 1
    assert "is not the network that model.safetensors was taught in" in capsys.readouterr().err


def test_a_network_that_is_called_like_a_file_of_the_run_is_kept_under_another_name(videos):
    path = save(videos.parent / "model.safetensors")
    assert train("--init", path, "-o", "run") == 0
    run_folder = videos.parent / "run"
    assert checkpoint.files_of(run_folder / "model.safetensors")[1] == run_folder / "network-model.safetensors"
    assert checkpoint.load(run_folder / "model.safetensors").spec.family == "sfc"


def test_a_folder_with_another_file_of_that_name_is_refused_before_anything_is_learnt(backbone, videos, capsys):
    save(videos.parent / "run" / backbone.name, "i3d-r50")
    assert train("--init", backbone, "-o", "run") == 2
    assert "net.safetensors exists and is not" in capsys.readouterr().err


def test_a_file_that_names_no_network_is_one_line(tmp_path):
    spec = replace(default_spec("sfc"), backbone="", backbone_sha256="")
    with (tmp_path / "small.safetensors").open("wb") as file:
        weights_file.write(file, About(spec=spec), {})
    with pytest.raises(ModelError, match="needs the network that it was taught in"):
        checkpoint.load(tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--compression", 1], "compresses nothing"),
        (["--insertion", "res9"], "'res9' is not a part of the network"),
        (["--glance", "resnet18"], "--glance does not apply to recipe sfc, whose network does not change"),
        (["--dropout", 0.5], "--dropout does not apply to recipe sfc"),
        (["--init", "imagenet"], "recipe sfc needs a network over whole clips; give one after --init: slow-r50"),
        (["--recipe", "v2"], "--insertion and --compression are for recipe sfc, not v2"),
    ],
)
def test_what_makes_no_sense_is_one_line(backbone, capsys, change, words):
    arguments = ["train", "videos", *ASKED, "--init", backbone, "-o", "run", "--compression", 2, *change]
    assert run([*map(str, arguments)]) in (1, 2)
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


class TestClasses:
    def test_a_network_of_others_is_refused(self, videos, capsys):
        path = save(videos.parent / "net.safetensors", labels=("up", "down"))
        assert train("--init", path, "-o", "run") == 2
        assert "answers 2 classes and does not change, but videos has 2 with other names" in capsys.readouterr().err

    def test_videos_may_show_some_of_them(self, videos, capsys):
        path = save(videos.parent / "net.safetensors", labels=("low", "middle", "high"))
        assert train("--init", path, "-o", "run") == 2
        assert "but videos has 2; name all of its classes, in its order, with --labels" in capsys.readouterr().err
        (videos.parent / "names.txt").write_text("low\nmiddle\nhigh\n")
        assert train("--init", path, "-o", "run", "--labels", "names.txt") == 0
        assert weights_file.read_about(videos.parent / "run" / "model.safetensors").labels == ("low", "middle", "high")

    def test_a_published_file_knows_those_of_its_data_set(self, videos, capsys):
        names = [f"other {number}" for number in range(398)]
        (videos.parent / "names.txt").write_text("\n".join(["high", "low", *names]))
        assert (
            train("--init", published("r3d-18", videos.parent / "r3d.pth"), "--labels", "names.txt", "-o", "run") == 2
        )
        assert "answers 400 classes and does not change, but videos has 400 with other names" in capsys.readouterr().err
