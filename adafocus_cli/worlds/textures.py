"""Shapes, and textures made of them that have what photographs have: detail at every scale, occlusion, shading, soft
light, muted and vivid colours. Some kinds are for training, others only unseen scenes have.

A shape is a ring of points; a texture is a float tensor of RGB × height × width, from 0 to 255.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Every outline has as many points, so that many can be turned and scaled at once.
POINTS = 24
_ROUND = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)


def outline(chance: np.random.Generator, *, unseen: bool = False) -> np.ndarray:
    """POINTS × (x, y), turned somehow, the farthest from the middle at distance 1."""
    shapes = _UNSEEN_OUTLINES if unseen else _OUTLINES
    points = shapes[chance.integers(len(shapes))](chance) * (1, chance.uniform(0.65, 1))
    points = points - (points.max(0) + points.min(0)) / 2
    points = points @ rotation_matrix(chance.uniform(0, 2 * np.pi))
    return np.asarray(points / np.hypot(*points.T).max())


def rotation_matrix(angle: float) -> np.ndarray:
    """The matrix that turns row vectors counter-clockwise as seen on a screen, where y points down."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _ring(radii: np.ndarray | float) -> np.ndarray:
    return np.asarray(np.stack([np.cos(_ROUND), np.sin(_ROUND)], 1) * np.reshape(radii, (-1, 1)))


def _corners(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, float)[np.arange(POINTS) * len(corners) // POINTS]


def _disc(chance: np.random.Generator) -> np.ndarray:
    return _ring(1)


def _box(chance: np.random.Generator) -> np.ndarray:
    return _corners((-1, -1), (1, -1), (1, 1), (-1, 1))


def _triangle(chance: np.random.Generator) -> np.ndarray:
    return _corners((-1, 0.9), (1, 0.9), (chance.uniform(-0.6, 0.6), -0.9))


def _polygon(chance: np.random.Generator) -> np.ndarray:
    return _corners(*_ring(1)[:: POINTS // int(chance.choice([6, 8]))])


def _blob(chance: np.random.Generator) -> np.ndarray:
    waves = sum(chance.uniform(0, 0.5 / k) * np.cos(k * _ROUND + chance.uniform(0, 6.3)) for k in (2, 3, 4))
    return _ring(1 + waves)


def _half(chance: np.random.Generator) -> np.ndarray:
    return np.asarray(np.clip(_ring(1), (-1, -0.1), (1, 1)))


def _star(chance: np.random.Generator) -> np.ndarray:
    rays = int(chance.choice([4, 6]))
    angles = _ROUND[:: POINTS // (2 * rays)]
    radii = np.tile([1, chance.uniform(0.45, 0.65)], rays)
    return _corners(*np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1))


def _cross(chance: np.random.Generator) -> np.ndarray:
    a = chance.uniform(0.33, 0.5)
    return _corners(
        (-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)
    )


def _crescent(chance: np.random.Generator) -> np.ndarray:
    outer = _ring(1)[: POINTS // 2]
    return np.concatenate([outer, outer[::-1] * (1, -chance.uniform(0, 0.3))])


def _heart(chance: np.random.Generator) -> np.ndarray:
    x = np.sin(_ROUND) ** 3
    y = 0.8 * np.cos(_ROUND) - 0.3 * np.cos(2 * _ROUND) - 0.12 * np.cos(3 * _ROUND) - 0.06 * np.cos(4 * _ROUND)
    return np.stack([x, -y], 1)


def _arrow(chance: np.random.Generator) -> np.ndarray:
    a = chance.uniform(0.3, 0.5)
    return _corners((-1, -a), (0, -a), (0, -0.9), (1, 0), (1, 0), (0, 0.9), (0, a), (-1, a))


_OUTLINES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (_disc, _box, _triangle, _polygon, _blob, _half)
_UNSEEN_OUTLINES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (_star, _cross, _crescent, _heart, _arrow)


# How fast the spectrum of each field falls; photographs are near 1.
ROUGH, FINE, SOFT = range(3)
_FALLS = (0.9, 1.25, 2.0)
_FIELD_SIDE = 768
# Thirds of the colour circle, from red; warm colours are more common.
_THIRDS = (0, 0, 1, 2)
_LETTERS = {False: "ABCDEFGHKLMNPRSTUVXYZ", True: "0123456789&?@#%"}


def texture(chance: np.random.Generator, height: int, width: int, *, unseen: bool = False) -> Tensor:
    """A picture of some kind, softly lit."""
    kinds = _UNSEEN_TEXTURES if unseen else _TEXTURES
    picture = kinds[chance.integers(len(kinds))](chance, height, width)
    light = field(chance, height, width, SOFT, unseen=unseen)
    return picture.mul_(1 + float(chance.uniform(0, 0.22)) * light).clamp_(0, 255)


def palette(chance: np.random.Generator, count: int, *, unseen: bool = False) -> np.ndarray:
    """Colours that go together: count × RGB. Yellow, cyan and magenta are kept for unseen scenes."""
    band = (0.35, 0.65) if unseen else (-0.35, 0.35)
    near = chance.random() < 0.5
    base = _THIRDS[chance.integers(4)]
    vivid = chance.random() < 0.2
    colours = []
    for _ in range(count):
        third = base if near else _THIRDS[chance.integers(4)]
        hue = (third + chance.uniform(*band)) / 3 % 1
        saturation = chance.uniform(0.4, 0.95) if vivid else 0.45 * chance.random() ** 1.5
        colours.append(colorsys.hsv_to_rgb(hue, saturation, chance.uniform(0.18, 0.95)))
    return np.array(colours) * 255


def field(chance: np.random.Generator, height: int, width: int, kind: int, *, unseen: bool = False) -> Tensor:
    """Fractal noise of height × width, with about the mean 0 and the deviation 1."""
    whole = _fields(unseen)[kind]
    if chance.random() < 0.5:
        whole = whole.T
    top, left = (int(chance.integers(_FIELD_SIDE - side + 1)) for side in (height, width))
    part = whole[top : top + height, left : left + width]
    return part.flip(1) if chance.random() < 0.5 else part


def cloud(chance: np.random.Generator, height: int, width: int, *, unseen: bool = False) -> Tensor:
    """Colours that blend into one another: sky, haze, walls, foliage out of focus."""
    first, second, third = palette(chance, 3, unseen=unseen)
    picture = _paint(np.clip((second + third) / 2, 50, 205), height, width)
    for kind, colour, most in ((SOFT, third - second, 0.5), (FINE, first - second, 0.35), (ROUGH, first - third, 0.12)):
        # Never so little that one could not tell whether it moves.
        tone = (colour + chance.choice([-50, 50])) * chance.uniform(0.4, 1) * most
        picture += _column(tone) * field(chance, height, width, kind, unseen=unseen)
    return picture


def leaves(chance: np.random.Generator, height: int, width: int, *, unseen: bool = False) -> Tensor:
    """Things of all sizes that hide one another, some of them letters, over a cloud."""
    draw = _Ids(height, width)
    count = int(chance.integers(30, 220))
    shapes = np.stack([outline(chance, unseen=unseen) for _ in range(5)])
    # The number of dead leaves falls with the cube of their size, as that of things in photographs.
    sizes = float(chance.uniform(4, 14)) / np.sqrt(chance.uniform(0.006, 1, count))
    level = chance.random() < 0.3
    angles = np.zeros(count) if level else chance.uniform(0, 2 * np.pi, count)
    turns = np.stack([rotation_matrix(angle) for angle in angles])
    middles = chance.random((count, 1, 2)) * (width, height)
    rings = shapes[chance.integers(5, size=count)] @ turns * sizes[:, None, None] + middles
    letters = chance.random(count) < (0.3 if chance.random() < 0.3 else 0)
    for ring, size, letter in zip(rings.reshape(count, -1).tolist(), sizes.tolist(), letters.tolist(), strict=True):
        if letter:
            draw.letter(str(chance.choice(list(_LETTERS[unseen]))), ring[0], ring[1], size * 2)
        else:
            draw.polygon(ring)
    return _shaded(chance, draw, cloud(chance, height, width, unseen=unseen), unseen=unseen)


def boxes(chance: np.random.Generator, height: int, width: int) -> Tensor:
    """Upright boxes on one another: buildings, windows, shelves."""
    draw = _Ids(height, width)
    for _ in range(int(chance.integers(15, 60))):
        x, y = chance.uniform(-30, width), chance.uniform(-30, height)
        wide, high = np.exp(chance.uniform(2.5, 4.8, 2))
        draw.box(x, y, x + wide, y + high)
        columns, rows = chance.integers(1, 6, 2)
        if wide / columns > 7 and high / rows > 7 and chance.random() < 0.5:
            draw.windows(x, y, wide / columns, high / rows, int(columns), int(rows))
    return _shaded(chance, draw, cloud(chance, height, width), unseen=False)


def tiles(chance: np.random.Generator, height: int, width: int) -> Tensor:
    """Rows of bricks of uneven length, each with a colour of its own."""
    draw = _Ids(height, width)
    high, wide, gap = chance.uniform(12, 45), chance.uniform(15, 80), chance.uniform(0, 4)
    y = -chance.uniform(0, high)
    while y < height:
        row = high * chance.uniform(0.7, 1.3)
        x = -chance.uniform(0, wide)
        while x < width:
            long = wide * chance.uniform(0.5, 1.5)
            draw.box(x, y, x + long - gap, y + row - gap)
            x += long
        y += row
    return _shaded(chance, draw, cloud(chance, height, width, unseen=True), unseen=True)


def marble(chance: np.random.Generator, height: int, width: int) -> Tensor:
    """Veins: where a fractal field passes certain heights."""
    first, second, third = palette(chance, 3, unseen=True)
    kind = int(chance.choice([FINE, SOFT]))
    heights = field(chance, height, width, kind, unseen=True) * float(chance.uniform(1.5, 4))
    veins = torch.sin(heights) ** 2
    rough = field(chance, height, width, ROUGH, unseen=True) * float(chance.uniform(4, 20))
    return _paint(first, height, width) + _column(second - first) * veins + rough + _column(third - first) * 0.2


def shards(chance: np.random.Generator, height: int, width: int) -> Tensor:
    return leaves(chance, height, width, unseen=True)


_TEXTURES: tuple[Callable[[np.random.Generator, int, int], Tensor], ...] = (leaves, leaves, cloud, boxes)
_UNSEEN_TEXTURES: tuple[Callable[[np.random.Generator, int, int], Tensor], ...] = (shards, shards, tiles, marble)


class _Ids:
    """A drawing whose pixels are numbers of the things in it; 0 is nothing, and numbers come again after 255."""

    def __init__(self, height: int, width: int) -> None:
        self._picture = Image.new("L", (width, height))
        self._draw = ImageDraw.Draw(self._picture)
        self._last = 0

    def polygon(self, ring: list[float]) -> None:
        self._draw.polygon(ring, fill=self._next())

    def box(self, left: float, top: float, right: float, bottom: float) -> None:
        self._draw.rectangle((left, top, max(left, right), max(top, bottom)), fill=self._next())

    def windows(self, x: float, y: float, wide: float, high: float, columns: int, rows: int) -> None:
        """A grid of boxes that all are the same thing."""
        name = self._next()
        for place in range(columns * rows):
            left, top = x + place % columns * wide, y + place // columns * high
            self._draw.rectangle((left + 2, top + 2, left + wide - 3, top + high - 3), fill=name)

    def letter(self, letter: str, x: float, y: float, size: float) -> None:
        self._draw.text((x, y), letter, font=font(max(8, int(size))), fill=self._next(), anchor="mm")

    def read(self) -> Tensor:
        return torch.from_numpy(np.array(self._picture, np.int32)).flatten()

    def _next(self) -> int:
        self._last = self._last % 255 + 1
        return self._last


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shaded(chance: np.random.Generator, draw: _Ids, behind: Tensor, *, unseen: bool) -> Tensor:
    """Gives each thing a colour, a roughness and a light from one side; `behind` shows where nothing was drawn."""
    _, height, width = behind.shape
    ids = draw.read()
    colours = palette(chance, 6, unseen=unseen)[chance.integers(6, size=256)] + chance.normal(0, 14, (256, 1))
    slopes = chance.normal(0, 0.25, (2, 256)) * (chance.random(256) < 0.6)
    roughness = chance.uniform(0, chance.uniform(4, 28), 256)
    table = np.concatenate([colours.T, roughness[None], slopes]).astype(np.float32)
    # Slopes turn about the middle of the picture, so a thing far from it would be too bright; they are kept small.
    table[4:] *= 100 / max(height, width)
    looked_up = [row.index_select(0, ids).view(height, width) for row in torch.from_numpy(table)]
    across, down = torch.arange(width) - width / 2, (torch.arange(height) - height / 2)[:, None]
    shade = looked_up[3] * field(chance, height, width, ROUGH, unseen=unseen)
    shade = shade + looked_up[4] * across + looked_up[5] * down
    nothing = (ids == 0).view(height, width)
    return torch.where(nothing, behind, torch.stack(looked_up[:3]) + shade)


@lru_cache(maxsize=2)
def _fields(unseen: bool) -> Tensor:
    """Fractal noise to cut from: made once, since making it for every picture would take most of the time."""
    chance = np.random.default_rng((20, int(unseen)))
    across, down = np.fft.rfftfreq(_FIELD_SIDE), np.fft.fftfreq(_FIELD_SIDE)[:, None]
    distance = np.hypot(across, down)
    distance[0, 0] = np.inf
    fields = []
    for fall in _FALLS:
        waves = np.fft.irfft2(np.fft.rfft2(chance.standard_normal((_FIELD_SIDE, _FIELD_SIDE))) / distance**fall)
        fields.append(torch.from_numpy((waves / waves.std()).astype(np.float32)))
    return torch.stack(fields)


def _column(colour: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(colour, np.float32))[:, None, None]


def _paint(colour: np.ndarray, height: int, width: int) -> Tensor:
    return _column(colour).repeat(1, height, width)
