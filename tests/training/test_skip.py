"""Recipe `skip`: a head learns which frames need no look, and the answers learn to do without those."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adafocus_cli import Tagger, checkpoint, weights_file
from adafocus_cli.cli.app import run
from adafocus_cli.models import build
from adafocus_cli.models.base import Turn
from adafocus_cli.nn.heads import pooled
from adafocus_cli.training.forward_pass import ForwardPass
from adafocus_cli.training.skip import AnswersWithSkips, SkipByReward, answers_with_and_without
from adafocus_cli.weights_file import About
from tests.tiny import tiny_spec
from tests.training.test_resume import Interrupted

STEP_WISE = ["adafocus-v1", "adafocus-v2"]
CLIPS, FRAMES = 3, 4
TARGETS = torch.tensor([2, 5, 0])
LABELS = ("high", "low")


def model_of(family, *, skips=True, classes=7):
    torch.manual_seed(0)
    sizes = {"glance_frames": FRAMES, "focus_frames": FRAMES, "skips": skips, "classes": classes}
    return build(replace(tiny_spec(family), **sizes))


def batch(model):
    chance = torch.Generator().manual_seed(1)
    small = torch.randint(0, 256, (CLIPS, len(model.plan(9).frames), 8, 8, 3), generator=chance)
    return small.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)


@pytest.mark.parametrize("family", STEP_WISE)
@torch.no_grad()
def test_a_look_is_worth_what_it_adds_to_the_same_past(family):
    model = model_of(family)
    chance = torch.Generator().manual_seed(2)
    maps, focused = (
        torch.rand(CLIPS, FRAMES, net.channels, 2, 2, generator=chance) for net in (model.glance_net, model.focus_net)
    )
    kept = torch.rand(CLIPS, FRAMES, generator=chance) < 0.5
    with_look, without = answers_with_and_without(model, maps, focused, kept.float())
    (turn,) = model.turns()

    def answer(step, last):
        """After the looks that are kept before a step, and, or not, its own."""
        taken = kept[:, : step + 1].clone()
        taken[:, step] = last
        until = Turn(turn.glance[: step + 1], range(step + 1), range(step + 1))
        seen = focused[:, : step + 1] * taken[..., None, None, None]
        return model.classify(until, maps[:, : step + 1], seen, {})[:, -1]

    for step in range(FRAMES):
        assert torch.allclose(with_look[:, step], answer(step, True), atol=1e-5)
        assert torch.allclose(without[:, step], answer(step, False), atol=1e-5)


@pytest.mark.parametrize("family", STEP_WISE)
def test_only_the_head_and_its_critic_learn_when_to_skip(family):
    model = model_of(family)
    learner = SkipByReward(model).train()
    learner(batch(model), TARGETS).loss.backward()
    learnt = {name for name, parameter in learner.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in learnt} == {"model", "critic"}
    assert all(name.startswith(("model.skip_policy.", "critic.")) for name in learnt)


@pytest.mark.parametrize(("looks", "rises"), [(0.5, True), (FRAMES, False)])
def test_the_price_of_a_look_moves_towards_the_looks_that_were_asked_for(looks, rises):
    model = model_of("adafocus-v1")
    with torch.no_grad():
        model.skip_policy.gain.bias.fill_(3.0 if rises else -3.0)
    learner = SkipByReward(model, looks=looks).train()
    before = learner.price.clone()
    measures = learner(batch(model), TARGETS).measures
    assert measures["looks"] == (FRAMES if rises else 0)
    assert (learner.price > before) == rises
    assert learner.price != before
    learner.eval()(batch(model), TARGETS)
    assert learner.price == measures["price"]


def test_looks_that_tell_the_class_are_learnt_to_be_kept():
    """What a look adds is put in by hand: only frames whose glance is bright are worth one."""
    model = model_of("adafocus-v1")
    learner = SkipByReward(model, looks=1)
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3)
    torch.manual_seed(0)
    maps = torch.rand(64, FRAMES, model.glance_net.channels, model.map_side, model.map_side)
    bright = torch.zeros(64, FRAMES).scatter_(1, torch.randint(FRAMES, (64, 1)), 1.0)
    maps = maps * (0.2 + bright[..., None, None, None])
    for _ in range(60):
        optimizer.zero_grad()
        states, _ = model.skip_policy.states(maps, None)
        gains = model.skip_policy.gain(states).squeeze(-1)
        learner.loss_of(states, gains, lambda kept: 0.5 * bright)[0].backward()
        optimizer.step()
    gains, _ = model.skip_policy(maps, None)
    assert ((gains > 0) == (bright > 0)).float().mean() > 0.95


@torch.no_grad()
def test_answers_learn_without_the_looks_that_are_skipped_but_some_at_random():
    model = model_of("adafocus-v1")
    learner = AnswersWithSkips(model).train()
    torch.manual_seed(0)
    forward = ForwardPass.of(model, batch(model).repeat(40, 1, 1, 1, 1))
    greedy, gaze = forward.policy_gaze(), learner.gaze(forward)
    changed = (gaze.kept != greedy.kept).float().mean()
    assert 0.03 < changed < 0.2
    vectors = pooled(forward.focus(gaze))
    assert (vectors[~gaze.kept] == 0).all()
    assert (vectors[gaze.kept] != 0).any(dim=-1).all()


@pytest.mark.parametrize("scale", [1.0, 30.0])
@torch.no_grad()
def test_as_many_looks_are_kept_in_the_end_as_were_asked_for(scale):
    """However strongly a head speaks that would keep nearly all at first."""
    model = model_of("adafocus-v1")
    head = model.skip_policy
    head.gain.weight.mul_(scale)
    chance = torch.Generator().manual_seed(3)
    maps = 3 * torch.rand(40, FRAMES, model.glance_net.channels, model.map_side, model.map_side, generator=chance)
    gains, _ = head(maps, None)
    head.gain.bias += 3 * gains.std() - gains.mean()
    learner = AnswersWithSkips(model, looks=1.5).train()
    forward = ForwardPass(model, model.turns()[0], maps, torch.zeros(40, FRAMES, 64, 64, 3, dtype=torch.uint8))
    for _ in range(150):
        learner.gaze(forward)
    gains, _ = head(maps, None)
    assert (gains > 0).sum(dim=1).float().mean() == pytest.approx(1.5, abs=0.1)
    bias = head.gain.bias.clone()
    learner.eval().gaze(forward)
    assert head.gain.bias == bias


def save(path, family="adafocus-v1"):
    model = model_of(family, skips=False, classes=2)
    with path.open("wb") as file:
        weights_file.write(file, About(spec=model.spec, labels=LABELS, labels_source="here"), model.state_dict())
    return path


ASKED = ["--recipe", "skip", "--epochs", "1,1", "--batch-size", "4", "--workers", "0", "--threads", "1", "-q"]


def train(*arguments):
    return run(["train", "videos", *map(str, arguments), *ASKED])


@pytest.mark.parametrize("family", STEP_WISE)
def test_a_ready_model_gets_its_head_and_nothing_else_changes_but_the_answers(family, videos):
    start = save(videos.parent / "start.safetensors", family)
    assert train("--init", start, "--looks", 2, "-o", "run") == 0
    before, after = checkpoint.load(start), checkpoint.load(videos.parent / "run" / "model.safetensors")
    assert after.spec == replace(before.spec, skips=True)
    changed = {name for name, tensor in before.tensors.items() if not torch.equal(tensor, after.tensors[name])}
    assert {name.split(".")[0] for name in changed} <= {"classifier", "vector", "classifiers"}
    result = Tagger.load(videos.parent / "run", device="cpu").tag_video(videos / "low" / "0.mp4")
    assert len(result.trajectory) + len(result.skipped) == FRAMES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "recipe skip needs a model that looks step by step; give one after --init (adafocus-v1, adafocus-v2)"),
        (["--init", "start.safetensors", "--labels", "labels.txt"], "answers 2 classes and does not change"),
        (["--init", "start.safetensors", "--glance", "resnet18@64"], "--glance does not apply to recipe skip"),
        (["--init", "start.safetensors", "--frames", "8"], "--frames does not apply to recipe skip"),
        (["--init", "start.safetensors", "--compression", "2"], "--compression does not apply to recipe skip"),
        (["--init", "start.safetensors", "--insertion", "res3"], "--insertion does not apply to recipe skip"),
        (["--init", "uni.safetensors"], "is a uni-adafocus model, which does not look step by step"),
    ],
)
def test_what_cannot_be_taught_to_skip_is_refused(arguments, said, videos, capsys):
    save(videos.parent / "start.safetensors")
    if "uni.safetensors" in arguments:
        model = build(replace(tiny_spec("uni-adafocus"), classes=2))
        with (videos.parent / "uni.safetensors").open("wb") as file:
            weights_file.write(file, About(spec=model.spec, labels=LABELS, labels_source="here"), model.state_dict())
    (videos.parent / "labels.txt").write_text("low\nhigh\nmiddle\n", "utf-8")
    assert train(*arguments, "-o", "run") == 2
    assert said in capsys.readouterr().err


def test_looks_are_for_this_recipe(videos, capsys):
    assert run(["train", "videos", "--recipe", "v1", "--looks", "5", "-o", "run", "-q"]) == 2
    assert "--looks is for recipe skip, not v1; leave it out" in capsys.readouterr().err


def test_broken_off_and_resumed_the_head_is_the_same(videos, monkeypatch):
    start = save(videos.parent / "start.safetensors")
    given = ("--init", start, "--epochs", "2,1")
    assert run(["train", "videos", "-o", "whole", *ASKED, *map(str, given)]) == 0
    with monkeypatch.context() as patch:
        Interrupted(patch, "skip", 2)
        assert run(["train", "videos", "-o", "broken", *ASKED, *map(str, given)]) == 130
    assert run(["train", "--resume", "broken", "--workers", "0", "-q"]) == 0
    whole, broken = (checkpoint.load(Path(folder, "model.safetensors")).tensors for folder in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())
