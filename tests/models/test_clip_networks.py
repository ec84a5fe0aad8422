"""Networks over clips: torchvision's answers from its own files, and parts that are together the whole."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import get_args

import pytest
import torch

from adafocus_cli.errors import ModelError
from adafocus_cli.models import build, default_spec
from adafocus_cli.models.sfc import around
from adafocus_cli.nn.clip_networks import build_clip_net
from adafocus_cli.spec import ClipArch, Network
from tests.tiny import OF_TORCHVISION

ARCHS = get_args(ClipArch)
FRAMES, SIDE = 16, 32


def family_of(arch):
    return arch.replace("_", "-")


def small(arch):
    network = Network(arch, SIDE, 1.0 if arch in OF_TORCHVISION else 0.125)
    spec = replace(default_spec(family_of(arch)), classes=5, frame_size=SIDE, glance=network, focus=network)
    return replace(spec, glance_frames=FRAMES, focus_frames=FRAMES, frame_step=1)


@pytest.mark.parametrize("arch", OF_TORCHVISION)
def test_the_answers_are_torchvisions(arch):
    video = pytest.importorskip("torchvision.models.video")
    torch.manual_seed(0)
    reference = getattr(video, arch)(weights=None, num_classes=7).eval()
    for name, buffer in reference.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
            if name.endswith("mean"):
                buffer -= 1
    ours = build_clip_net(Network(arch, 112), 7).eval()
    ours.load_state_dict(reference.state_dict())
    clips = torch.randn(1, 3, *((16, 224, 224) if arch == "s3d" else (8, 40, 40)))
    with torch.inference_mode():
        expected, answers = reference(clips), ours.answer(ours.pool(ours(clips)))
    assert expected.std() > 0
    torch.testing.assert_close(answers, expected)


@pytest.mark.parametrize("arch", ARCHS)
def test_divided_anywhere_and_with_nothing_between_it_is_the_whole_network_bit_by_bit(arch):
    torch.manual_seed(0)
    whole = build(small(arch))
    frames = torch.rand(1, FRAMES, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = whole.classify(whole.turns()[0], whole.glance(frames), None, {})
        for place in list(whole.net.widths)[:-1]:
            divided = build(around(small(arch), insertion=place, compression=1.0, frames=FRAMES))
            divided.load_state_dict(whole.state_dict())
            (turn,) = divided.turns()
            seen = divided.glance(frames)
            gaze = divided.locate(turn, seen, {})
            assert seen.shape[1:3] == (len(turn.looks), divided.net.widths[place])
            assert torch.equal(divided.classify(turn, seen, divided.focus(gaze.features), {}), expected)


def test_a_place_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="'res9' is not a part of the network; give one of stem, res2, res3, res4"):
        build(around(small("slow_r50"), insertion="res9", compression=4.0))
    with pytest.raises(ModelError, match="18 frames do not fit: the network sees 4 as one after res4; give a mul"):
        build(around(small("r3d_18"), insertion="res4", compression=4.0, frames=18))


def test_torchvision_has_its_networks_in_one_width():
    with pytest.raises(ModelError, match=r"torchvision has no s3d of width 0\.5; give 1"):
        build_clip_net(Network("s3d", 224, 0.5), 400)


def test_a_torchvision_that_cannot_be_loaded_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModelError, match=r"torchvision cannot be loaded beside torch \d.* pip install --upgrade torch"):
        build_clip_net(Network("s3d", 224), 400)
    build_clip_net(Network("slow_r50", 64, 0.125), 5)
