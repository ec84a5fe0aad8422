"""Recipe `dense`: a network over whole clips learns other classes, and SFC is taught on top of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from adafocus_cli import Tagger, checkpoint, weights_file
from adafocus_cli.cli.app import run
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.models import build
from adafocus_cli.training.data import Split, TrainingData, clip_sets
from adafocus_cli.training.dense import FineTuning
from adafocus_cli.training.recipes import Resources, TrainingSettings
from tests.tiny import tiny_model, tiny_spec
from tests.training.test_sfc import LABELS, save

ASKED = ["--batch-size", "2", "--workers", "0", "--device", "cpu", "-q"]


@pytest.fixture(params=["slow-r50", "x3d-s"])
def backbone(videos, request):
    """It knows three other classes."""
    return save(videos.parent / "net.safetensors", request.param, ("up", "down", "left"))


def train(*arguments):
    return run(["train", "videos", "--recipe", "dense", *map(str, arguments), *ASKED])


def test_the_network_learns_the_classes_of_the_videos_and_keeps_its_stem(backbone, videos):
    assert train("--init", backbone, "--frames", 8, "--epochs", 2, "-o", "run") == 0
    file = videos.parent / "run" / "model.safetensors"
    before, after = checkpoint.load(backbone), checkpoint.load(file)
    changed = {name for name, tensor in after.tensors.items() if not torch.equal(tensor, before.tensors[name])}
    stem = {name for name in after.tensors if name.startswith("net.blocks.0.")}
    assert changed.isdisjoint(stem)
    assert {"net.blocks.1.res_blocks.0.branch2.conv_a.weight", "net.blocks.5.proj.weight"} <= changed
    assert (after.spec.classes, after.spec.glance_frames, after.spec.dataset) == (2, 8, None)
    result = Tagger.load(file, device="cpu", views=30).tag_video(videos / "low" / "0.mp4")
    assert {tag.label for tag in result.labels} == set(LABELS)


def test_a_clip_is_shown_otherwise_at_every_look_and_as_it_is_tagged_where_it_is_judged(videos):
    samples = tuple(Sample(str(path), path.parent.name) for path in sorted(videos.glob("*/*.mp4")))
    split = Split("videos", dataset=Dataset(samples, "videos"))
    for recipe, spec in (("dense", tiny_spec("slow-r50")), ("sfc", tiny_spec("sfc"))):
        settings = TrainingSettings(data="videos", recipe=recipe)
        clips, _ = clip_sets(TrainingData(LABELS, split, split), spec, settings, Resources(), None)
        first, second, judged = (clips.read(0, moment).pixels for moment in ((0, 0), (0, 1), ()))
        clips.close()
        assert np.array_equal(first, judged) == np.array_equal(first, second) == (recipe == "sfc")


def test_a_run_that_is_broken_off_goes_on_as_if_it_had_not_been(videos, monkeypatch):
    save(videos.parent / "net.safetensors", "x3d-s", ("up", "down", "left"))
    asked = ["--init", "net.safetensors", "--frames", 4, "--epochs", 2]
    assert train(*asked, "-o", "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr("adafocus_cli.training.fit.Fit._validate", _interrupted_in_epoch(2))
        assert train(*asked, "-o", "run") == 130
    assert run(["train", "--resume", "run", "-q"]) == 0
    whole, resumed = (weights_file.read(videos.parent / name / "last.safetensors")[1] for name in ("whole", "run"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def _interrupted_in_epoch(epoch):
    from adafocus_cli.training.fit import Fit

    validate, epochs = Fit._validate, []

    def validated(self, pieces):
        epochs.append(pieces)
        if len(epochs) == epoch:
            raise KeyboardInterrupt
        return validate(self, pieces)

    return validated


def test_sfc_is_taught_in_a_network_that_has_learnt_them(videos):
    save(videos.parent / "net.safetensors", "x3d-s", ("up", "down", "left"))
    assert train("--init", "net.safetensors", "--frames", 4, "--epochs", 1, "-o", "dense") == 0
    asked = ["--recipe", "sfc", "--init", "dense/model.safetensors", "--frames", 8, "--epochs", 1, "-o", "sfc"]
    assert run(["train", "videos", *map(str, asked), *ASKED]) == 0
    result = Tagger.load(videos.parent / "sfc" / "model.safetensors", device="cpu").tag_video(videos / "low" / "0.mp4")
    assert (result.model.family, len(result.trajectory)) == ("sfc", 2)


@pytest.mark.parametrize(("freeze", "learning"), [("none", "blocks.0."), ("stem", "blocks.1."), ("res5", "blocks.5.p")])
def test_parts_up_to_the_frozen_one_neither_learn_nor_average(freeze, learning):
    model = tiny_model("x3d-s")
    learner = FineTuning(model, freeze).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learner(torch.randint(0, 256, (2, 13, 64, 64, 3), dtype=torch.uint8), torch.tensor([0, 1])).loss.backward()
    learnt = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert learnt[0].startswith(f"net.{learning}")
    averaged = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert all(name >= f"net.{learning}" for name in averaged)
    assert bool(averaged) == (freeze != "res5")


def test_on_a_processor_the_stem_is_frozen_where_nobody_says_otherwise():
    model = build(tiny_spec("slow-r50"))
    FineTuning(model)
    frozen = {name.split(".")[2] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"0"}


def test_the_journal_says_what_was_frozen(videos):
    save(videos.parent / "net.safetensors")
    assert train("--init", "net.safetensors", "--freeze", "res4", "--epochs", 1, "-o", "run") == 0
    settings = json.loads((videos.parent / "run" / "log.jsonl").read_text().splitlines()[0])["settings"]
    assert (settings["recipe"], settings["freeze"]) == ("dense", "res4")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--freeze", "res9"], "--freeze res9 is not a part of the network; give none, stem, res2, res3, res4, res5"),
        (["--glance", "resnet18"], "--glance does not apply to recipe dense, which takes the network of --init as it"),
        (["--init", "imagenet"], "recipe dense needs a network over whole clips; give one after --init: slow-r50"),
        (["--recipe", "sfc", "--freeze", "stem"], "--freeze is for recipe dense, not sfc; leave it out"),
        (["--insertion", "res3"], "--insertion and --compression are for recipe sfc, not dense; leave them out"),
    ],
)
def test_what_makes_no_sense_is_one_line(videos, capsys, change, words):
    save(videos.parent / "net.safetensors")
    assert train("--init", "net.safetensors", "-o", "run", *change) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
