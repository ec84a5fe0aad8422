"""Objects with an outline, a filling, maybe an edge and a shadow, and how they are drawn on a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import grid_sample

from adafocus_cli.worlds.textures import outline, palette, texture

Filling = Callable[[np.random.Generator, int], Tensor]
# So much brighter or darker than what is behind it is an object at least, of 255.
_STANDS_OUT = 38.0


def thing(
    chance: np.random.Generator, side: int, behind: Tensor, *, margin: int, filling: Filling, unseen: bool = False
) -> Tensor:
    """RGB and opacity × pixels × pixels, colours times opacity; `behind` is a colour that it must stand out from.

    It is `side` pixels wide or high, with `margin` and room for a shadow around it.
    """
    room = side + 2 * max(2, side // 8) + margin
    ring = outline(chance, unseen=unseen)
    mask = _mask(ring, side, room)
    colours = _standing_out(chance, filling(chance, room), mask, behind)
    if chance.random() < 0.35:
        inner = _mask(ring, side - 2 * max(1, side // 14), room)
        colours = torch.lerp(_colour(palette(chance, 1, unseen=unseen)[0]), colours, inner)
    if chance.random() < 0.25:
        shift = max(1, side // 12)
        shadow = torch.roll(mask, (shift, int(chance.choice([-shift, shift]))), (0, 1)) * (1 - mask)
        return torch.cat([colours * mask, (mask + shadow * float(chance.uniform(0.2, 0.5)))[None]])
    return torch.cat([colours * mask, mask[None]])


def lay(picture: Tensor, item: Tensor, x: float, y: float, *, scale: float = 1.0, opacity: float = 1.0) -> None:
    """Lays a thing on a picture of height × width × RGB, in place, with its middle at a point between pixels."""
    half = item.shape[-1] * scale / 2
    left, right = max(0, int(x - half)), min(picture.shape[1], int(x + half) + 1)
    top, bottom = max(0, int(y - half)), min(picture.shape[0], int(y + half) + 1)
    if left >= right or top >= bottom or opacity <= 0:
        return
    across, down = (torch.arange(left, right) + (0.5 - x)) / half, (torch.arange(top, bottom) + (0.5 - y)) / half
    grid = torch.stack([across.expand(bottom - top, -1), down[:, None].expand(-1, right - left)], -1)
    seen = grid_sample(item[None], grid[None], align_corners=False)[0].permute(1, 2, 0) * opacity
    part = picture[top:bottom, left:right]
    part.mul_(1 - seen[..., 3:]).add_(seen[..., :3])


def training_filling(chance: np.random.Generator, side: int) -> Tensor:
    """Plain, blending from one colour to another, striped, or a texture."""
    kind = chance.integers(5)
    if kind > 2:
        return texture(chance, side, side)
    first, second = palette(chance, 2)
    across, _ = _axes(chance, side)
    if kind == 0:
        return _colour(first).repeat(1, side, side)
    part = (across / side + 0.5).clamp(0, 1) if kind == 1 else _wave(across, chance)
    return torch.lerp(_colour(first), _colour(second), part)


def unseen_filling(chance: np.random.Generator, side: int) -> Tensor:
    """Checks, dots, rings, or a texture that is not seen in training."""
    kind = chance.integers(5)
    if kind > 2:
        return texture(chance, side, side, unseen=True)
    first, second = palette(chance, 2, unseen=True)
    across, down = _axes(chance, side)
    if kind == 0:
        part = _wave(torch.hypot(across, down), chance)
    else:
        one, other = _wave(across, chance), _wave(down, chance)
        part = one * other if kind == 1 else (one - other).abs()
    return torch.lerp(_colour(first), _colour(second), part)


def _axes(chance: np.random.Generator, side: int) -> tuple[Tensor, Tensor]:
    """Pixels along two directions at right angles, from the middle."""
    angle = chance.uniform(0, np.pi)
    line = torch.arange(side) - side / 2
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return line * cos + line[:, None] * sin, line[:, None] * cos - line * sin


def _wave(distance: Tensor, chance: np.random.Generator) -> Tensor:
    """Bands of 0 and 1 with soft edges."""
    return (torch.sin(distance * float(2 * np.pi / chance.uniform(5, 16))) * 2 + 0.5).clamp(0, 1)


def _mask(ring: np.ndarray, side: int, room: int) -> Tensor:
    """Opacity in a square: drawn at twice the size, for smooth edges."""
    reach = np.abs(ring).max()
    picture = Image.new("L", (2 * room, 2 * room))
    ImageDraw.Draw(picture).polygon((ring / reach * side + room).ravel().tolist(), fill=255)
    return torch.from_numpy(np.asarray(picture.reduce(2), np.float32) / 255)


def _standing_out(chance: np.random.Generator, colours: Tensor, mask: Tensor, behind: Tensor) -> Tensor:
    own = (colours * mask).sum((1, 2)) / mask.sum()
    if float((own - behind).abs().mean()) > _STANDS_OUT:
        return colours
    wanted = _STANDS_OUT + float(chance.uniform(5, 40))
    there = float(behind.mean())
    return (colours - own.mean() + there + (wanted if there < 128 else -wanted)).clamp(0, 255)


def _colour(colour: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(colour, np.float32))[:, None, None]
