"""The networks over clips that everybody compares with, as published for Kinetics-400: whole frames, no choice.

A video is tested with one view, its middle, or densely as the papers do it: ten clips from its start to its end, the
middle of the picture or three squares along its longer side, and the mean of the answers' shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import WholeClip, blocks_of
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.x3d import shape_of
from adafocus_cli.spec import ClipArch, ModelSpec, Network
from adafocus_cli.video.sampling import Chance, FramePlan, evenly, same_frames

_PIXELS = 30 * 8 * 256**2  # of a video in one pass: all 30 views of a ResNet-50, of S3D's only two

_KINETICS = "kinetics400"
_CLASSES = 400

_PYTORCHVIDEO = {"short_side": 256, "mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)}
_TORCHVISION = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}


class Dense(WholeClip):
    views = (1, 10, 30)
    answers: ClassVar[str]
    """The published name of the biases of its answers."""
    kernels: ClassVar[Mapping[str, tuple[int, int, int]]]
    """Published convolutions, and the sides of their kernels, by which a checkpoint is told from the others'."""

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        spec = self.spec
        return same_frames(evenly(count, spec.glance_frames, spec.frame_step, clips=min(spec.views, 10), chance=chance))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames * min(self.spec.views, 10))), range(0), range(1)),)

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, s, crops · s) → vectors (b, views, channels, 1, 1)."""
        clips, length, size = len(frames), self.spec.glance_frames, frames.shape[-2]
        crops = frames.view(clips, -1, length, 3, size, frames.shape[-1] // size, size)
        views = crops.permute(0, 1, 5, 3, 2, 4, 6).flatten(1, 2)
        at_once = max(1, _PIXELS // (length * size**2))
        vectors = [
            self.net.vectors(self.net(some.flatten(0, 1))).view(clips, -1, self.net.channels)
            for some in torch.split(views, at_once, dim=1)
        ]
        return torch.cat(vectors, dim=1)[..., None, None]

    def on_whole_frames(self, frames: Tensor) -> Tensor:
        return self.glance(frames)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        raise NotImplementedError  # its one turn has no looks

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        logits = self.answer(pooled(glance_maps))
        views = logits.shape[1]
        return logits if views == 1 else logits.log_softmax(-1).logsumexp(1, keepdim=True) - math.log(views)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return all(name in tensors and tensors[name].shape[2:] == sides for name, sides in cls.kernels.items())

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        classes = len(tensors[cls.answers])
        return replace(cls.published, classes=classes, dataset=_KINETICS if classes == _CLASSES else None)


def _published(name: str, arch: ClipArch, *, size: int, frames: int, step: int, more: dict[str, Any]) -> ModelSpec:
    network = Network(arch, size)
    return ModelSpec(
        family=name,
        classes=_CLASSES,
        frame_size=size,
        glance_frames=frames,
        focus_frames=frames,
        frame_step=step,
        glance=network,
        focus=network,
        **more,
    )


# Of pytorchvideo.


class SlowR50(Dense):
    name = "slow-r50"
    published = _published(name, "slow_r50", size=256, frames=8, step=8, more=_PYTORCHVIDEO)
    answers = "blocks.5.proj.bias"
    kernels: ClassVar = {"blocks.0.conv.weight": (1, 7, 7)}


class I3DR50(Dense):
    name = "i3d-r50"
    published = _published(name, "i3d_r50", size=256, frames=8, step=8, more=_PYTORCHVIDEO)
    answers = "blocks.6.proj.bias"
    kernels: ClassVar = {"blocks.0.conv.weight": (5, 7, 7)}


class _X3D(Dense):
    """All sizes but L have the same tensors."""

    answers = "blocks.5.proj.bias"

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "blocks.0.conv.conv_t.weight" in tensors and blocks_of(tensors, "blocks.{}.res_blocks.{}.", first=1) == (
            shape_of(cls.published.glance).blocks
        )


def _published_x3d(arch: ClipArch, *, size: int, frames: int, step: int) -> ModelSpec:
    """As they were tested: the whole height of the picture."""
    more = {**_PYTORCHVIDEO, "short_side": size}
    return _published(arch.replace("_", "-"), arch, size=size, frames=frames, step=step, more=more)


class X3DS(_X3D):
    name = "x3d-s"
    published = _published_x3d("x3d_s", size=182, frames=13, step=6)


class X3DM(_X3D):
    name = "x3d-m"
    published = _published_x3d("x3d_m", size=256, frames=16, step=5)


class X3DL(_X3D):
    name = "x3d-l"
    published = _published_x3d("x3d_l", size=356, frames=16, step=5)


# Of torchvision: 15 frames a second, which are every second one of most videos.


class R3D18(Dense):
    name = "r3d-18"
    published = _published(name, "r3d_18", size=112, frames=16, step=2, more=_TORCHVISION)
    answers = "fc.bias"
    kernels: ClassVar = {"stem.0.weight": (3, 7, 7), "layer2.0.conv1.0.weight": (3, 3, 3)}


class MC318(Dense):
    name = "mc3-18"
    published = _published(name, "mc3_18", size=112, frames=16, step=2, more=_TORCHVISION)
    answers = "fc.bias"
    kernels: ClassVar = {"stem.0.weight": (3, 7, 7), "layer2.0.conv1.0.weight": (1, 3, 3)}


class R2Plus1D18(Dense):
    name = "r2plus1d-18"
    published = _published(name, "r2plus1d_18", size=112, frames=16, step=2, more=_TORCHVISION)
    answers = "fc.bias"
    kernels: ClassVar = {"stem.0.weight": (1, 7, 7), "layer2.0.conv1.0.0.weight": (1, 3, 3)}


class S3D(Dense):
    name = "s3d"
    published = _published(name, "s3d", size=224, frames=128, step=2, more=_TORCHVISION)
    answers = "classifier.1.bias"
    kernels: ClassVar = {"features.0.0.0.weight": (1, 7, 7)}


FAMILIES = (SlowR50, I3DR50, X3DS, X3DM, X3DL, R3D18, MC318, R2Plus1D18, S3D)
