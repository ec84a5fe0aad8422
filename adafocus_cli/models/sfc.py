"""SFC (after Selective Feature Compression, arXiv 2104.00179): one pass over a whole video through a divided network.

The head of a network over clips sees many frames of the whole video; an attention keeps what matters of its features,
in fewer steps of time; the tail sees only those. Neither head nor tail is changed. The paper came without code or
weights: how the attention calculates (`nn/compression.py`), where it sits and what it keeps are our design.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import WholeClip
from adafocus_cli.nn.compression import FeatureCompression
from adafocus_cli.nn.heads import pooled
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.video.sampling import Chance, FramePlan, same_frames, spread

_NETWORK = Network("slow_r50", 256)
LONG = 40  # frames: with them, memory and time are a sixth of those of 30 views of 8


class SFC(WholeClip):
    name = "sfc"
    published = ModelSpec(
        family=name,
        classes=400,
        frame_size=256,
        glance_frames=LONG,
        focus_frames=LONG,
        glance=_NETWORK,
        focus=_NETWORK,
        policy_channels=64,
        short_side=256,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        insertion="res3",
        compression=4.0,
    )

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.place = spec.insertion or ""
        self.length = self.net.length_after(self.place, spec.glance_frames)
        kept = max(1, round(self.length / spec.compression))
        self.compress = None
        if kept < self.length:
            self.compress = FeatureCompression(self.net.widths[self.place], spec.policy_channels, kept)

    @property
    def kept(self) -> int:
        return self.length if self.compress is None else self.compress.kept

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        return same_frames(spread(count, self.spec.glance_frames))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(self.kept), range(1)),)

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, s, s) → the head's maps (b, t', c, h, w)."""
        return self.net.head(frames.transpose(1, 2), self.place).transpose(1, 2)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        """Each step that is kept looks at the frame that it has most of, and sees a mixture."""
        if self.compress is None:
            features = glance_maps
            steps = torch.arange(self.length, device=glance_maps.device).expand(len(glance_maps), -1)
        else:
            features, attention = self.compress(glance_maps)
            steps = attention.argmax(dim=-1)
        frames = (2 * steps + 1) * self.spec.glance_frames // (2 * self.length)
        side = float(self.spec.frame_size)
        boxes = torch.tensor((0.0, 0.0, side, side), device=glance_maps.device).expand(*frames.shape, 4)
        return Gaze(frames, boxes, features)

    def focus(self, patches: Tensor) -> Tensor:
        """The kept features (b, k, c, h, w) → a vector (b, 1, channels, 1, 1)."""
        vectors = self.net.vectors(self.net.tail(patches.transpose(1, 2), self.place))
        return vectors[:, None, :, None, None]

    def on_whole_frames(self, frames: Tensor) -> Tensor:
        """The same view without compression."""
        return self.net.vectors(self.net(frames.transpose(1, 2)))

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "the one turn takes looks"
        return self.answer(pooled(focused))


def around(backbone: ModelSpec, *, insertion: str, compression: float, frames: int = LONG) -> ModelSpec:
    """The spec of an SFC model with the network and the pictures of a dense one."""
    return replace(
        backbone,
        family=SFC.name,
        glance_frames=frames,
        focus_frames=frames,
        frame_step=1,
        views=1,
        policy_channels=SFC.published.policy_channels,
        insertion=insertion,
        compression=compression,
    )
