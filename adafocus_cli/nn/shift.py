"""Temporal shift: frames exchange some channels with their neighbours, at no arithmetic cost.

Knows nothing of networks; a backbone that is built over clips puts it before the first convolution of its blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FOLD = 8  # one eighth of the channels comes from the next frame, one eighth from the one before


class TemporalShift(nn.Module):
    """(clips · frames, channels, h, w) → the same shape.

    channels    0 … C/8    C/8 … C/4    C/4 … C
    frame t     of t + 1   of t − 1     of t        (zeros beyond both ends)
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, maps: Tensor) -> Tensor:
        clips = maps.view(-1, self.frames, *maps.shape[1:])
        fold = clips.shape[2] // FOLD
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :fold] = clips[:, 1:, :fold]
        shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        shifted[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return shifted.flatten(0, 1)

    def extra_repr(self) -> str:
        return f"frames={self.frames}"
