"""X3D and Uni-AdaFocus on it: views beside one another, what is told from tensors, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adafocus_cli.flops import CostMeter
from adafocus_cli.models import build, with_views
from adafocus_cli.models.uni_x3d import UniAdaFocusX3D
from adafocus_cli.nn.x3d import X3D
from adafocus_cli.spec import Network
from adafocus_cli.video.framing import Framing
from tests.test_exits import clip_of
from tests.tiny import tiny_model, tiny_spec, tiny_tagger

CASE = "uni-k400-p128-x3d-16x32"


def answers(model, frames, candidates):
    """Both answers of clips of pixels (b, t, s, views · s, 3), and the gaze."""
    (turn,) = model.turns()
    with torch.inference_mode():
        maps = model.glance(model.normalised(frames))
        gaze = model.locate(turn, maps, {})
        looked = candidates[torch.arange(len(frames))[:, None], gaze.frames].flatten(0, 1)
        patches = model.patches(looked, gaze.boxes.flatten(0, 1))
        focused = model.focus(patches.view(len(frames), -1, *patches.shape[1:]))
        return model.classify(turn, maps, focused, {}), gaze


def test_three_views_are_each_seen_as_if_alone_and_averaged():
    one, three = tiny_model("uni-adafocus-x3d"), tiny_model("uni-adafocus-x3d", views=3)
    torch.manual_seed(1)
    for model in (one, three):
        model.load_state_dict(one.state_dict())
    frames, candidates = (torch.randint(0, 256, (2, count, 64, 192, 3), dtype=torch.uint8) for count in (16, 96))
    together, gaze = answers(three, frames, candidates)
    alone = [answers(one, *(part[:, :, :, left : left + 64] for part in (frames, candidates))) for left in (0, 64, 128)]
    torch.testing.assert_close(together, torch.stack([each for each, _ in alone]).mean(0), rtol=1e-4, atol=1e-4)
    for number, (_, own) in enumerate(alone):
        looks = slice(32 * number, 32 * (number + 1))
        assert torch.equal(gaze.frames[:, looks], own.frames)
        moved = own.boxes + 64 * number * torch.tensor((1.0, 0.0, 1.0, 0.0))
        torch.testing.assert_close(gaze.boxes[:, looks], moved)


def test_boxes_of_three_views_lie_in_the_picture_where_their_square_was_cut_from():
    geometry = Framing(224, 256, crops=3).geometry(512, 256)
    for square, left in enumerate((0, 144, 288)):
        box = geometry.to_source((224.0 * square + 10, 20.0, 224.0 * square + 110, 120.0))
        assert box == (left + 10.0, 36.0, left + 110.0, 136.0)
    upright = Framing(224, 256, crops=3).geometry(256, 512)
    assert upright.to_source((448.0, 0.0, 672.0, 224.0)) == (16.0, 288.0, 240.0, 512.0)


def test_a_record_has_the_looks_of_all_views():
    tagger = tiny_tagger("uni-adafocus-x3d")
    (result,) = tagger.tag([clip_of(tagger, 3)])
    assert len(result.trajectory) == 32
    assert len({look.box for look in result.trajectory}) == 1
    assert len(result.step_logits) == 2


def test_three_views_cost_three_times_as_much():
    one, three = (CostMeter(with_views(tiny_spec("uni-adafocus-x3d"), views)).whole_clip() for views in (1, 3))
    assert three.gmacs == pytest.approx(3 * one.gmacs)
    assert three.full_frame_gmacs == pytest.approx(3 * one.full_frame_gmacs)


def test_multiply_adds_of_its_parts_are_those_of_the_authors_layers(golden):
    """The spatial policy ran twice there; two of the heads are for training only."""
    expected = {name.removeprefix("macs_"): float(value) for name, value in golden(CASE).items() if "macs" in name}
    stages = CostMeter(UniAdaFocusX3D.published).whole_clip().stages
    networks = 1e9 * (stages["glance"] + stages["focus"] + stages["classify"])
    authors = expected["global_CNN"] + expected["local_CNN"] + expected["global_CNN_head"]
    assert networks == pytest.approx(authors, rel=1e-3)
    policies = expected["spatial_policy"] / 2 + expected["temporal_policy"]
    assert 1e9 * stages["policy"] == pytest.approx(policies, rel=1e-3)


def test_a_shortcut_has_a_norm_where_channels_are_added_or_where_slowfast_has_one():
    def norms(**how):
        net = X3D(Network("x3d_s", 64), 3, **how)
        return [f"blocks.{stage}.res_blocks.0.branch1_norm.weight" in net.state_dict() for stage in (1, 2, 3, 4)]

    assert norms() == [False, True, True, True]
    assert norms(norms_shortcuts=True) == [True] * 4


def test_the_classifier_sees_the_published_windows_one_by_one():
    """The layers after the mean are not linear, so that the mean of the windows' answers is not that of their mean."""
    torch.manual_seed(0)
    net = X3D(Network("x3d_s", 64, 0.125), 3).eval()
    maps = torch.randn(1, list(net.widths.values())[-1], 13, 6, 5)
    with torch.inference_mode():
        windows = [net.vectors(maps[:, :, :, top : top + 5]) for top in (0, 1)]
        torch.testing.assert_close(net.vectors(maps), (windows[0] + windows[1]) / 2)
        small = maps[:, :, :9, :2, :2]
        assert net.vectors(small).shape == (1, net.channels)


def test_sizes_of_uni_on_x3d_are_told_from_the_tensors():
    spec = replace(
        tiny_spec("uni-adafocus-x3d"), glance=Network("x3d_l", 96), focus=Network("x3d_s", 64), glance_frames=8
    )
    with torch.device("meta"):
        tensors = build(spec).state_dict()
    published = {UniAdaFocusX3D.published_name(name): tensor for name, tensor in tensors.items()}
    assert UniAdaFocusX3D.recognises(published)
    told = UniAdaFocusX3D.spec_of(published)
    assert (told.glance, told.focus.arch, told.glance_frames, told.classes) == (Network("x3d_l", 96), "x3d_s", 8, 7)
    assert told.dataset is None
