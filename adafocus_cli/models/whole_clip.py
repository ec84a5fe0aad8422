"""What the families share that see whole frames with one network over the clip, and cut no patches out of them."""

from __future__ import annotations

from torch import Tensor

from adafocus_cli.models.base import Family
from adafocus_cli.nn.networks import build_clip_net


class WholeClip(Family):
    """`spec.glance` is the network, and so is `spec.focus`."""

    cuts_patches = False
    whole_pixels = True

    def add_networks(self) -> None:
        self.net = build_clip_net(self.spec.glance, self.spec.classes)

    @property
    def whole_frames(self) -> int:
        (turn,) = self.turns()
        return len(turn.glance)

    def answer(self, vectors: Tensor) -> Tensor:
        """(…, channels) → logits (…, classes)."""
        logits = self.net.answer(self.dropout(vectors.flatten(0, -2)))
        return logits.view(*vectors.shape[:-1], -1)

    @staticmethod
    def published_name(name: str) -> str:
        return name.removeprefix("net.")
