"""What moves in a clip, in which direction, where and when: calculated, not learnt, so that a few clips are enough.

The two frames of every pair are compared place by place (`Likeness`), and what is found is summed up over a coarse grid
and a few parts of the clip.
"""

from __future__ import annotations

from math import pi
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.nn.matching import Likeness

_LEVELS = (2, 4)  # how much smaller a picture is compared: small movements, and ones of twice the size
_SHARPNESS = 10.0  # how much more a likeness counts than one that is less by 1, as an exponent of e
_DIRECTIONS = 8
# Cells along a side, and parts of the clip.
_SHARES, _CENTRED, _WAYS = (4, 6), (4, 8), (6, 8)


class Movement(nn.Module):
    """Pairs of grey frames (b, p, 2, h, w), 0…1 → vectors (b, …) of each kind, in the order of `sizes`."""

    sizes: ClassVar = {
        "shares": len(_LEVELS) * Likeness.channels * _SHARES[0] ** 2 * _SHARES[1],
        "centred": len(_LEVELS) * Likeness.channels * _CENTRED[0] ** 2 * _CENTRED[1],
        "ways": len(_LEVELS) * _DIRECTIONS * _WAYS[0] ** 2 * _WAYS[1],
    }
    """`shares`: how far places have moved, as a share of each displacement; `centred`: the same without the clip's
    mean, which is its scene; `ways`: how far in each of eight directions, seen from what most of the picture does."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Likeness(level) for level in _LEVELS)

    def forward(self, pairs: Tensor) -> tuple[Tensor, ...]:
        clips, count = pairs.shape[:2]
        # Three colours that are all the same: likenesses are those of brightness.
        pictures = pairs.flatten(0, 1)[:, :, None].expand(-1, -1, 3, -1, -1)
        found: list[tuple[Tensor, ...]] = []
        for level in self.levels:
            shares = (_SHARPNESS * level(pictures)[:, 0]).softmax(dim=1)
            by_time = _summed_up(shares.view(clips, count, *shares.shape[1:]), *_CENTRED).sqrt()
            found.append(
                (
                    _summed_up(shares.view(clips, count, *shares.shape[1:]), *_SHARES).sqrt().flatten(1),
                    (by_time - by_time.mean(dim=1, keepdim=True)).flatten(1),
                    _summed_up(_ways(shares).unflatten(0, (clips, count)), *_WAYS).sqrt().flatten(1),
                )
            )
        return tuple(torch.cat(parts, dim=1) for parts in zip(*found, strict=True))


def _ways(shares: Tensor) -> Tensor:
    """Shares (n, offsets, h, w) → how far each place moves in each direction (n, directions, h, w)."""
    side = round(Likeness.channels**0.5)
    offset = torch.arange(side**2, device=shares.device)
    x, y = (offset % side - side // 2).float(), (offset // side - side // 2).float()
    moved = torch.einsum("nohw,co->nchw", shares, torch.stack((x, y)))
    moved = moved - moved.flatten(2).median(dim=-1).values[..., None, None]
    angle = torch.arange(_DIRECTIONS, device=shares.device) * (2 * pi / _DIRECTIONS)
    along = torch.einsum("nchw,cd->ndhw", moved, torch.stack((angle.cos(), angle.sin())))
    far = moved.norm(dim=1, keepdim=True)
    return (along / (far + 1e-6)).clamp(min=0) ** 4 * far


def _summed_up(maps: Tensor, cells: int, parts: int) -> Tensor:
    """Means over a grid of cells and parts of the clip: (b, t, c, h, w) → (b, parts, c · cells²)."""
    pooled = F.adaptive_avg_pool2d(maps.flatten(0, 1), cells).flatten(1).unflatten(0, maps.shape[:2])
    return F.adaptive_avg_pool1d(pooled.transpose(1, 2), parts).transpose(1, 2)
