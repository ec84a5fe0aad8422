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
DIRECTIONS = 8
LEVELS = len(_LEVELS)
_CAMERA = ("pan", "tilt", "zoom", "roll")
# Cells along a side, and parts of the clip.
_SHARES, _CENTRED, _WAYS = (4, 6), (4, 8), (6, 8)

MovementMaps = list[tuple[Tensor, Tensor]]


class Movement(nn.Module):
    """Pairs of grey frames (b, p, 2, h, w), 0…1 → vectors (b, …) of each kind, in the order of `sizes`."""

    sizes: ClassVar = {
        "shares": LEVELS * Likeness.channels * _SHARES[0] ** 2 * _SHARES[1],
        "centred": LEVELS * Likeness.channels * _CENTRED[0] ** 2 * _CENTRED[1],
        "ways": LEVELS * DIRECTIONS * _WAYS[0] ** 2 * _WAYS[1],
    }
    anywhere_size: ClassVar = LEVELS * ((Likeness.channels + len(_CAMERA) * 2) * _SHARES[1] + 2 * DIRECTIONS * _WAYS[1])
    """`shares`: how far places have moved, as a share of each displacement; `centred`: the same without the clip's
    mean, which is its scene; `ways`: how far in each of eight directions, seen from what most of the picture does."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Likeness(level) for level in _LEVELS)

    def forward(self, pairs: Tensor) -> tuple[Tensor, ...]:
        return self.of_frame(self.maps(pairs))

    def maps(self, pairs: Tensor) -> MovementMaps:
        """What moves at each place, for each level: shares (b, p, offsets, h, w) and ways (b, p, directions, h, w)."""
        # Three colours that are all the same: likenesses are those of brightness.
        pictures = pairs.flatten(0, 1)[:, :, None].expand(-1, -1, 3, -1, -1)
        found = []
        for level in self.levels:
            shares = (_SHARPNESS * level(pictures)[:, 0]).softmax(dim=1)
            found.append((_by_clip(shares, len(pairs)), _by_clip(_ways(shares), len(pairs))))
        return found

    @staticmethod
    def of_frame(maps: MovementMaps) -> tuple[Tensor, ...]:
        """Summed up over all of the frame."""
        found: list[tuple[Tensor, ...]] = []
        for shares, ways in maps:
            by_time = _summed_up(shares, *_CENTRED).sqrt()
            found.append(
                (
                    _summed_up(shares, *_SHARES).sqrt().flatten(1),
                    (by_time - by_time.mean(dim=1, keepdim=True)).flatten(1),
                    _summed_up(ways, *_WAYS).sqrt().flatten(1),
                )
            )
        return tuple(torch.cat(parts, dim=1) for parts in zip(*found, strict=True))


def anywhere(shares: Tensor, ways: Tensor) -> Tensor:
    """From these two kinds (b, …) what does not depend on the place: how far places move at all, what the camera does
    (it pans, tilts, zooms, rolls), and the strongest movement in each direction: (b, `Movement.anywhere_size`)."""
    cells, parts = _SHARES
    found = shares.square().view(-1, LEVELS, parts, Likeness.channels, cells, cells)
    moved = torch.einsum("blpohw,co->blpchw", found, _offsets(shares.device))
    centre = (torch.arange(cells, device=shares.device) - (cells - 1) / 2) / cells
    x, y = moved[:, :, :, 0], moved[:, :, :, 1]
    outwards = x * centre + y * centre[:, None]
    around = y * centre - x * centre[:, None]
    camera = torch.stack([each.mean(dim=(-2, -1)) for each in (x, y, outwards, around)], dim=-1)
    both_ways = torch.cat((camera.clamp(min=0), (-camera).clamp(min=0)), dim=-1).sqrt()
    along = ways.square().view(-1, LEVELS, _WAYS[1], DIRECTIONS, _WAYS[0] ** 2)
    strongest = torch.stack((along.amax(dim=-1), along.mean(dim=-1)), dim=-1).sqrt()
    return torch.cat([some.flatten(1) for some in (found.mean(dim=(-2, -1)).sqrt(), both_ways, strongest)], dim=1)


def _offsets(device: torch.device) -> Tensor:
    """How far each of the likenesses is from its place, x and y: (2, offsets)."""
    side = round(Likeness.channels**0.5)
    offset = torch.arange(side**2, device=device)
    return torch.stack((offset % side - side // 2, offset // side - side // 2)).float()


def _ways(shares: Tensor) -> Tensor:
    """Shares (n, offsets, h, w) → how far each place moves in each direction (n, directions, h, w)."""
    moved = torch.einsum("nohw,co->nchw", shares, _offsets(shares.device))
    moved = moved - moved.flatten(2).median(dim=-1).values[..., None, None]
    angle = torch.arange(DIRECTIONS, device=shares.device) * (2 * pi / DIRECTIONS)
    along = torch.einsum("nchw,cd->ndhw", moved, torch.stack((angle.cos(), angle.sin())))
    far = moved.norm(dim=1, keepdim=True)
    weights: Tensor = (along / (far + 1e-6)).clamp(min=0) ** 4 * far
    return weights


def _by_clip(maps: Tensor, clips: int) -> Tensor:
    """Maps of all pairs (b · p, …) → (b, p, …)."""
    return maps.view(clips, -1, *maps.shape[1:])


def _summed_up(maps: Tensor, cells: int, parts: int) -> Tensor:
    """Means over a grid of cells and parts of the clip: (b, t, c, h, w) → (b, parts, c · cells²)."""
    pooled = F.adaptive_avg_pool2d(maps.flatten(0, 1), cells).reshape(*maps.shape[:2], -1)
    return F.adaptive_avg_pool1d(pooled.transpose(1, 2), parts).transpose(1, 2)


def in_boxes(maps: Tensor, boxes: Tensor, sides: tuple[int, int], cells: int) -> Tensor:
    """Means over a grid of cells in each box: maps (b, c, h, w) of frames with such sides, boxes (b, n, 4) in pixels of
    these → (b, n, c, cells, cells)."""
    left, top, right, bottom = boxes.unbind(-1)
    rows = _overlaps(top, bottom, maps.shape[2], sides[0], cells)
    columns = _overlaps(left, right, maps.shape[3], sides[1], cells)
    return torch.einsum("bnrh,bnsw,bchw->bncrs", rows, columns, maps)


def _overlaps(start: Tensor, end: Tensor, count: int, length: int, cells: int) -> Tensor:
    """Along one side, what each of `count` places weighs in the mean of each cell: (b, n, cells, count)."""
    edges = torch.linspace(0, 1, cells + 1, device=start.device) * (end - start)[..., None] + start[..., None]
    places = torch.linspace(0, length, count + 1, device=start.device)
    first = torch.maximum(edges[..., :-1, None], places[:-1])
    last = torch.minimum(edges[..., 1:, None], places[1:])
    shared = (last - first).clamp(min=0)
    return shared / shared.sum(dim=-1, keepdim=True).clamp(min=1e-6)
