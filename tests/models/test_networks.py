"""Backbones against torchvision's, and the blocks that only we have."""

from __future__ import annotations

import pytest
import torch

from adafocus_cli.models import FAMILIES
from adafocus_cli.nn.backbones import TemporalShift
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.nn.pixels import boxes_at, crop, sample
from adafocus_cli.spec import Network

torchvision_models = pytest.importorskip("torchvision.models")


@pytest.mark.parametrize(
    ("network", "theirs"),
    [
        (Network("mobilenet_v2", 96), "mobilenet_v2"),
        (Network("mobilenet_v2", 96, width=0.5), "mobilenet_v2"),
        (Network("resnet18", 96), "resnet18"),
        (Network("resnet50", 96), "resnet50"),
    ],
    ids=lambda value: getattr(value, "arch", "") + str(getattr(value, "width", "")),
)
def test_backbone_has_torchvisions_names_and_answers(network, theirs):
    torch.manual_seed(0)
    options = {"width_mult": network.width} if theirs == "mobilenet_v2" else {}
    reference = getattr(torchvision_models, theirs)(weights=None, **options).eval()
    for name, buffer in reference.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    weights = {n: t for n, t in reference.state_dict().items() if not n.startswith(("fc.", "classifier."))}
    ours = build_backbone(network).eval()
    ours.load_state_dict(weights)
    frames = torch.randn(2, 3, network.size, network.size)
    with torch.inference_mode():
        if theirs == "mobilenet_v2":
            expected = reference.features(frames)
        else:
            reference.avgpool = reference.fc = torch.nn.Identity()
            expected = reference(frames).view(2, -1, 3, 3)
        maps = ours(frames)
    assert maps.shape[1] == ours.channels
    torch.testing.assert_close(maps, expected)


def test_shift_moves_an_eighth_each_way_and_fills_with_zeros():
    maps = torch.arange(3.0)[:, None, None, None].expand(3, 16, 1, 1) + 1
    shifted = TemporalShift(3)(maps).view(3, 16)
    assert shifted[:, 0].tolist() == [2, 3, 0]  # from the next frame
    assert shifted[:, 2].tolist() == [0, 1, 2]  # from the one before
    assert shifted[:, 4].tolist() == [1, 2, 3]  # its own
    two_clips = TemporalShift(3)(torch.cat((maps, maps)))
    assert torch.equal(two_clips.view(2, 3, 16), shifted.expand(2, 3, 16))


def test_crop_cuts_whole_pixels_and_sample_agrees_there():
    frames = torch.rand(2, 3, 64, 64)
    boxes = boxes_at(torch.tensor([[0.0, 1.0], [0.51, 0.24]]), 64, 32, whole_pixels=True)
    assert boxes.tolist() == [[32, 0, 64, 32], [7, 16, 39, 48]]
    cut = crop(frames.movedim(1, -1), boxes, 32).movedim(-1, 1)
    assert torch.equal(cut[1], frames[1, :, 16:48, 7:39])
    torch.testing.assert_close(sample(frames, boxes, 32), cut, atol=1e-5, rtol=0)


def test_sample_between_pixels_is_bilinear_and_differentiable_in_the_place():
    ramp = torch.arange(64.0).expand(1, 1, 64, 64).contiguous()
    place = torch.tensor([[0.5, 0.3]], requires_grad=True)
    boxes = boxes_at(place, 64, 32, whole_pixels=False)
    patch = sample(ramp, boxes, 32)
    torch.testing.assert_close(patch[0, 0, 0], torch.arange(32.0) + 0.3 * 32, atol=1e-4, rtol=0)
    patch.mean().backward()
    assert place.grad is not None
    assert place.grad[0, 1] == pytest.approx(32, rel=1e-3)


def test_a_family_is_found_by_its_own_name():
    assert [family.name for family in FAMILIES.values()] == list(FAMILIES)
