"""Cost: counted from the layers, equal to what really runs, and to what the papers print."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adafocus_cli.flops import CostMeter, cost_of
from adafocus_cli.models import FAMILIES, build, default_spec
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.spec import Network
from tests.tiny import LOOKING

# G multiply-adds a frame or patch, as the authors' evaluation code has them.
MOBILENET_224 = 0.299511328
RESNET_50 = {96: 0.750725056, 128: 1.334601664, 160: 2.08530016, 192: 3.002820544}
SPATIAL_POLICY, TEMPORAL_POLICY = 0.822485376, 0.00412992  # of Uni, a clip


@pytest.mark.parametrize("patch_size", RESNET_50)
def test_backbones_cost_what_is_published(patch_size):
    stages = cost_of(default_spec("adafocus-v1", patch_size=patch_size)).stages
    assert stages["glance"] / 16 == pytest.approx(MOBILENET_224, rel=5e-3)
    assert stages["focus"] / 16 == pytest.approx(RESNET_50[patch_size], rel=5e-3)


@pytest.mark.parametrize(
    ("glance", "patch_size", "published"),
    [
        (Network("mobilenet_v2", 224), 96, 1.10096541),
        (Network("mobilenet_v2", 224), 128, 1.684842018),
        (Network("mobilenet_v2", 224), 160, 2.435540514),
        (Network("mobilenet_v2", 224), 192, 3.353060898),
        (Network("resnet50", 96), 96, 1.547401154),
        (Network("resnet50", 96), 128, 2.131277762),
        (Network("resnet50", 96), 160, 2.881976258),
    ],
)
def test_v2_costs_a_frame_what_is_published(glance, patch_size, published):
    spec = replace(default_spec("adafocus-v2", patch_size=patch_size), glance=glance)
    assert cost_of(spec).gmacs / 16 == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (Network("efficientnet_lite0", 224), 0.407),
        (Network("efficientnet_lite1", 240), 0.631),
        (Network("efficientnet_lite2", 260), 0.899),
    ],
)
def test_efficientnet_lite_costs_what_its_layers_run_and_about_what_is_published(network, published):
    """Published is a count of the graph in TensorFlow, some 5 % above that of the convolutions."""
    spec = replace(default_spec("adafocus-v2"), glance=network, frame_size=network.size)
    counted = cost_of(spec).stages["glance"] / 16
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        build_backbone(network).eval()(torch.zeros(1, 3, network.size, network.size))
    assert counted == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-9)
    assert 0.94 * published < counted < published


@pytest.mark.parametrize("patch_size", RESNET_50)
def test_the_parts_of_uni_cost_what_is_published(patch_size):
    meter = CostMeter(default_spec("uni-adafocus", patch_size=patch_size))
    stages = meter.whole_clip().stages
    assert stages["glance"] / 16 == pytest.approx(MOBILENET_224, rel=0.01)
    assert stages["focus"] / 16 == pytest.approx(RESNET_50[patch_size], rel=0.01)
    for part, shape, published in (
        ("spatial_policy", (1, 16, 1280, 7, 7), SPATIAL_POLICY),
        ("temporal_policy", (1, 16, 1280), TEMPORAL_POLICY),
    ):
        getattr(meter._model, part)(torch.zeros(shape))
        assert meter._take() / 1e9 == pytest.approx(published, rel=0.01)
    assert stages["policy"] == pytest.approx(SPATIAL_POLICY + TEMPORAL_POLICY, rel=0.01)


@pytest.mark.parametrize(
    ("family", "patch_size", "published"),
    [
        ("adafocus-v1", 128, 26.6),
        ("adafocus-v1-tsm", 144, 23.5),
        ("adafocus-v1-tsm", 160, 27.5),
        ("adafocus-v1-tsm", 176, 33.7),
    ],
)
def test_whole_models_cost_what_is_published(family, patch_size, published):
    assert cost_of(default_spec(family, patch_size=patch_size)).gmacs == pytest.approx(published, rel=0.02)


def test_whole_frames_cost_what_a_patch_of_that_size_would():
    spec = default_spec("adafocus-v1-tsm")
    whole = cost_of(spec.with_patch_size(spec.frame_size))
    assert cost_of(spec).full_frame_gmacs == whole.full_frame_gmacs == whole.stages["focus"]


@pytest.mark.parametrize("family", LOOKING)
def test_the_counted_cost_is_that_of_the_layers_that_run(family):
    """Torch's own counter watches the real stages, by shapes alone; it counts a multiply-add as two."""
    spec = default_spec(family)
    with torch.device("meta"):
        model = build(spec)
        (turn,) = model.turns()
        frames = torch.zeros(1, len(turn.glance), 3, *spec.framing.shape[:2])
    memory, ran = {}, {}

    def watched(stage, function, *arguments):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            answer = function(*arguments)
        ran[stage] = counter.get_total_flops() / 2
        return answer

    seen = watched("glance", model.glance, frames)
    gaze = watched("policy", model.locate, turn, seen, memory)
    patches = torch.zeros(1, gaze.frames.shape[1], 3, spec.patch_size, spec.patch_size, device="meta")
    focused = watched("focus", model.focus, patches)
    watched("classify", model.classify, turn, seen, focused, memory)
    (counted,) = CostMeter(spec).of_turns((turn,))
    means = 3e6 if family == "evidence" else 0  # over cells, which are no layers
    assert counted == pytest.approx(ran, rel=1e-3, abs=means)


def test_a_layer_that_the_meter_does_not_know_is_an_error(monkeypatch):
    class Strange(FAMILIES["adafocus-v1"]):
        def __init__(self, spec):
            super().__init__(spec)
            self.extra = torch.nn.PReLU()

    monkeypatch.setattr("adafocus_cli.models.family_named", lambda name: Strange)
    with pytest.raises(TypeError, match=r"do not know what PReLU \(extra\) costs"):
        CostMeter(default_spec("adafocus-v1"))
