"""The network to which motion is visible: what it compares, and what it can be part of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adafocus_cli.errors import ModelError
from adafocus_cli.flops import cost_of
from adafocus_cli.models import build, default_spec
from adafocus_cli.nn.matching import CELL, Likeness, MatchingNet
from adafocus_cli.spec import Network


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -2), (-1, 3), (3, 3)])
@pytest.mark.parametrize("level", [2, 4])
def test_a_place_is_most_like_the_one_to_which_it_moved(level, down, right):
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 96 // level, 96 // level)
    moved = torch.roll(picture, (down, right), dims=(2, 3))
    clip = torch.stack((picture, moved), dim=1).repeat_interleave(level, 3).repeat_interleave(level, 4)
    likeness = Likeness(level)(clip)
    assert likeness.shape == (1, 1, Likeness.channels, 96 // CELL, 96 // CELL)
    inside = likeness[0, 0, :, 3:-3, 3:-3]
    offset = (down + 3) * 7 + right + 3
    assert (inside.argmax(dim=0) == offset).all()
    assert inside[offset].mean() > 0.8


def test_a_place_may_be_looked_for_in_a_later_frame():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 48, 48)
    moving = torch.stack([torch.roll(picture, (0, step), dims=(2, 3)) for step in range(4)], dim=1)
    clip = moving.repeat_interleave(2, 3).repeat_interleave(2, 4)
    likeness = Likeness(2, ahead=3)(clip)
    assert likeness.shape[1] == 1
    assert (likeness[0, 0, :, 3:-3, 3:-3].argmax(dim=0) == 3 * 7 + 6).all()


def test_at_first_it_attends_to_everything_alike():
    network = MatchingNet(0.5, 4).eval()
    frames = torch.rand(4, 3, 64, 64)
    maps = network(frames)
    with torch.no_grad():
        network.attention.weight.normal_()
    assert not torch.allclose(network(frames).mean((-2, -1)), maps.mean((-2, -1)))
    assert torch.equal(torch.zeros_like(network.attention.weight), MatchingNet(0.5, 4).attention.weight)


def test_brightness_and_contrast_do_not_matter():
    torch.manual_seed(0)
    clip = 8 * torch.rand(1, 4, 3, 96, 96)
    likeness = Likeness(2)
    assert torch.allclose(likeness(clip), likeness(clip * 0.6 + 0.3), atol=0.02)


def test_its_maps_have_the_size_that_it_says():
    network = MatchingNet(0.5, 4).eval()
    for side in (64, 80, 96):
        maps = network(torch.rand(8, 3, side, side))
        assert maps.shape == (8, network.channels, network.map_side(side), network.map_side(side))


def test_it_needs_a_clip_and_whole_cells():
    with pytest.raises(ModelError, match=r"sees a clip together.* 4 frames or more"):
        build(replace(default_spec("adafocus-v2"), focus=Network("matching", 96)))
    with pytest.raises(ModelError, match="multiples of 16 px, not 100"):
        build(replace(default_spec("adafocus-v1-tsm"), focus=Network("matching", 100)))


def test_comparing_is_counted():
    spec = replace(default_spec("adafocus-v1-tsm"), glance=Network("matching", 80), glance_frames=8)
    (frames, offsets) = (8, 49)
    compared = offsets * ((frames - 1) * ((80 // 2) ** 2 + (80 // 4) ** 2) + (frames - 3) * (80 // 2) ** 2)
    layers = 0
    network = MatchingNet(1.0, frames)

    def count(layer, inputs, output):
        nonlocal layers
        layers += output.numel() * layer.weight[0].numel()

    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(count)
    network.eval()(torch.zeros(frames, 3, 80, 80))
    assert cost_of(spec).stages["glance"] == pytest.approx((compared + layers) / 1e9, rel=1e-9)
