"""Everything that runs on a CUDA device runs on it alone; no GPU is needed to see that."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adafocus_cli.exits import ExitRule, Schedule
from adafocus_cli.loop import Loop
from adafocus_cli.models import FAMILIES, build
from adafocus_cli.nn.x3d import SHAPES
from adafocus_cli.runtime.cuda import Graphs, Uploads
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.tagger import clip_of
from adafocus_cli.training.clips import TrainingBatch
from adafocus_cli.training.fit import Fit, ProcessGroup, RunningMeans, WaitClock
from adafocus_cli.training.recipes import RECIPES, TrainingSettings
from adafocus_cli.training.run_folder import RunProgress
from adafocus_cli.training.train import _device_of_run
from tests.fake_cuda import DEVICE, Stream, fake_cuda
from tests.tiny import CLASSES, LOOKING, tiny_spec

LANES, CLIPS = 3, 2  # a batch that is filled up with a copy
SIZES_ALONE = ("x3d-m", "x3d-l")  # they are x3d-s with other sizes
LOOPS = [
    *((family, None) for family in FAMILIES if family not in SIZES_ALONE),
    ("adafocus-v1", 2),
    ("adafocus-v2", 2),
    ("uni-adafocus", 2),
]
STAGES = [(recipe.name, number) for recipe in RECIPES.values() for number in range(len(recipe.usual))]


@pytest.fixture(autouse=True)
def _few_blocks(monkeypatch):
    """Of an X3D: each operator takes its time here, whatever it is given."""
    monkeypatch.setitem(SHAPES, "x3d_s", replace(SHAPES["x3d_s"], blocks=(1, 2, 1, 1)))


class FreeOfCost:
    """A meter whose counting would need numbers."""

    def of_turns(self, turns, frame=None):
        return [Counter()] * len(turns)


def model_of(family, **sizes):
    """Of four frames where a family takes any number."""
    if family in ("adafocus-v1", "adafocus-v2", "uni-adafocus"):
        sizes |= {"glance_frames": 4, "focus_frames": 4}
    if family == "uni-adafocus":
        sizes["candidate_frames"] = 12
    with torch.device("meta"):
        return build(replace(tiny_spec(family), **sizes))


def runtime_of(family, **how):
    return TorchRuntime(model_of(family), device="cuda", **how)


def noise_of(model):
    plan = model.plan(100)
    clip = clip_of(np.zeros((len(plan.frames), *model.spec.framing.shape), np.uint8), plan)
    clip.decode = black
    return clip


def black(clip, request):
    """What looks into a source that is black see."""
    for look in request.due:
        clip.add_cut(look, np.zeros((look.size, look.size, 3), np.uint8))
    done = Future()
    done.set_result(None)
    return done


@pytest.mark.parametrize(("family", "group"), LOOPS)
def test_the_loop_tags_on_the_device_alone(family, group, monkeypatch):
    with fake_cuda(monkeypatch):
        runtime = runtime_of(family, batch_size=LANES)
        turns = runtime.model.turns(group)
        loop = Loop(runtime, Schedule(turns, FreeOfCost(), turns[-1].answers.stop), ExitRule())
        for place in range(CLIPS):
            loop.add(noise_of(runtime.model), place)
        over = []
        while len(loop):
            over += loop.step()
    for run in over:
        if run.error is not None:
            raise run.error
    assert len(over) == CLIPS
    assert all(np.concatenate(run.answers).shape == (turns[-1].answers.stop, CLASSES) for run in over)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_networks_in_half_precision_run_on_the_device_alone(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with fake_cuda(monkeypatch):
        runtime = runtime_of("adafocus-v2", precision=precision)
        (turn,) = runtime.model.turns()
        seen = runtime.glance(runtime.upload([noise_of(runtime.model).pixels(turn.glance)]))
        gaze = runtime.locate(turn, seen, {})
    assert (seen.device, seen.dtype, gaze.boxes.device) == (DEVICE, torch.float32, DEVICE)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", [False, False]), ("tf32", [True, False])])
def test_tf32_is_for_the_networks_alone_and_only_where_it_is_asked_for(precision, allowed, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with fake_cuda(monkeypatch):
        runtime = runtime_of("r3d-18", precision=precision)
        (turn,) = runtime.model.turns()
        seen = []
        monkeypatch.setattr(runtime.model, "glance", lambda some: seen.append(torch.backends.cudnn.allow_tf32) or some)
        monkeypatch.setattr(runtime.model, "classify", lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
        frames = runtime.glance(runtime.upload([noise_of(runtime.model).pixels(turn.glance)]))
        runtime.classify(turn, frames, None, {})
    assert (seen, runtime.precision) == (allowed, precision)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_training_in_full_precision_is_without_tf32(precision, monkeypatch):
    settings = SimpleNamespace(precision=precision, threads=None)
    with _device_of_run(settings, SimpleNamespace(device="cpu"), ProcessGroup()):
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")


@pytest.mark.parametrize(("recipe", "number"), STAGES)
def test_a_step_of_every_stage_learns_on_the_device_alone(recipe, number, monkeypatch):
    # They look at numbers, which there are none of.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    sums = []

    def means(running, processes=None):
        sums.extend(running.sums.values())
        return {"loss": 0.0, "accuracy": 0.0}

    monkeypatch.setattr(RunningMeans, "means", means)
    recipe = RECIPES[recipe]
    # Places are learned from maps of several cells; torch has no grid of one on a device that is not there.
    sizes = {}
    if recipe.family in LOOKING:
        tiny = tiny_spec(recipe.family)
        sizes = {"frame_size": 128, "glance": replace(tiny.glance, size=128), "focus": replace(tiny.focus, size=64)}
    sizes |= {"skips": True} if recipe.name == "skip" else {}

    def backward(loss):
        """torch's own has a thread for each device that is there."""
        assert (loss.device, loss.requires_grad) == (DEVICE, True)
        for group in at.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with fake_cuda(monkeypatch):
        model = model_of(recipe.family or "r3d-18", **sizes).to(DEVICE)
        frames = torch.zeros(3, len(model.plan(100).frames), *model.spec.framing.shape, dtype=torch.uint8)
        batch = TrainingBatch(frames, torch.zeros(3, dtype=torch.int64), ((0,),) * 3, {})
        loader = SimpleNamespace(steps=1, training=lambda *_: [batch], validation=lambda *_: [batch])
        fit = Fit(
            run=SimpleNamespace(settings=TrainingSettings(data="", recipe=recipe.name), pieces_of=lambda number: 1),
            model=model,
            loader=loader,
            folder=None,
            observer=SimpleNamespace(epoch_started=lambda *_: None, step_done=lambda *_: None),
            processes=ProcessGroup(),
            device=DEVICE,
            precision=None,
            check=lambda unreadable: None,
            progress=RunProgress(),
            learning=None,
            several_labels=False,
        )
        at = fit._begin(number, recipe.usual[number])
        tally, norms, _ = fit._learn(at, 0, WaitClock())
        fit._validate(at)
    learned = [parameter for group in at.optimizer.param_groups for parameter in group["params"]]
    assert learned
    assert {tensor.device for tensor in (*learned, *tally.sums.values(), *norms.sums.values(), *sums)} == {DEVICE}


def test_stages_wait_until_the_frames_are_copied(monkeypatch):
    computing = Stream()
    clips = [np.zeros((2, 8, 8, 3), np.uint8)] * 3
    with fake_cuda(monkeypatch):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
        frames = Uploads(DEVICE).copy(clips)
    assert (frames.device, tuple(frames.shape)) == (DEVICE, (3, 2, 8, 8, 3))
    assert computing.asked == ["wait until copied"]


def test_graphs_begin_when_a_shape_comes_again_and_end_at_the_first_failure(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    captured = []

    def capture(graphs, stage, given):
        if len(given) == 2:
            raise torch.OutOfMemoryError("no room")
        captured.append(given.shape)
        return SimpleNamespace(replay=lambda given: stage(given) + 100)

    monkeypatch.setattr(Graphs, "_captured", capture)
    graphs = Graphs(DEVICE)

    def answers(count, times):
        return [graphs.run("glance", lambda some: some + 1, torch.zeros(count)).tolist() for _ in range(times)]

    assert answers(1, 4) == [[1.0], [1.0], [101.0], [101.0]]
    assert captured == [(1,)]
    assert answers(2, 4) == [[1.0, 1.0]] * 4
    assert answers(1, 4) == [[1.0]] * 4
    assert caplog.messages == ["cuda:0 runs glance without CUDA graphs: no room"]


def test_a_stage_and_a_shape_have_a_graph_of_their_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(Graphs, "_captured", lambda graphs, stage, given: SimpleNamespace(replay=stage))
    graphs = Graphs(DEVICE)
    for _ in range(3):
        for name, step in (("glance", 1.0), ("focus", 2.0)):
            for count in (1, 2):
                answer = graphs.run(name, lambda some, step=step: some + step, torch.zeros(count))
                assert answer.tolist() == [step] * count
