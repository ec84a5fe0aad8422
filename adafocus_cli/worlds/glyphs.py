"""The world *glyphs*: a small sign moves through a cluttered frame, and the answer is the character on it.

A sign is a disc with a red rim, which a glance can find; its character is eight pixels high, which takes a closer
look. Other plates carry characters too, with rims of other colours. Seen through a small window that holds the sign
(`close`), it is a world to learn reading in. Where the sign turns (`turning`), its front is seen in a quarter of a clip
only, and there is nothing to be read in the rest.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from adafocus_cli.worlds.scene import SIDE, Scene
from adafocus_cli.worlds.textures import font

CHARACTERS = tuple("AEHKNRSTXZ")
SIGN = 32
_FONT = 11  # its capitals are eight pixels high
_RIM = 6
_SHARP = 4  # plates are drawn so many times larger, and made small
_WINDOW = 96
_TRAVEL = 40.0, 160.0  # pixels, in the whole of a clip
_WANDER = 32  # how far the tile of noise is moved from frame to frame


@dataclass(frozen=True)
class Glyphs:
    """`unseen` has other clutter, and scenes of its own."""

    unseen: bool = False
    close: bool = False
    turning: bool = False
    labels: tuple[str, ...] = CHARACTERS

    @property
    def name(self) -> str:
        return "glyphs-close" if self.close else "glyphs-turning" if self.turning else "glyphs"

    def scene(self, seed: int, *, label: int | None = None) -> Scene:
        chance = np.random.default_rng((seed, int(self.unseen), 7))
        label = int(chance.integers(len(CHARACTERS))) if label is None else label
        count = int(chance.integers(24, 73))
        return GlyphScene(
            label=label,
            count=count,
            fps=25.0,
            clutter=_clutter(chance, unseen=self.unseen),
            sign=_plate(chance, CHARACTERS[label], hue=chance.uniform(-0.02, 0.04), round_=True),
            path=_path(chance, count),
            noise=chance.normal(0, chance.uniform(2, 8), (SIDE + _WANDER, SIDE + _WANDER, 1)).astype(np.float32),
            window=chance.random(2) if self.close else None,
            front=_quarter(chance, count) if self.turning else range(count),
        )


@dataclass(frozen=True, eq=False)
class GlyphScene:
    """`path` has the left and top of the sign in every frame; `window`, where in a close view it is, in 0…1.

    `front` are the frames in which the sign does not show its back.
    """

    label: int
    count: int
    fps: float
    clutter: Image.Image
    sign: Image.Image
    path: np.ndarray
    noise: np.ndarray
    window: np.ndarray | None
    front: range

    @property
    def side(self) -> int:
        return SIDE if self.window is None else _WINDOW

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        return np.stack([self._frame(number) for number in numbers])

    def _frame(self, number: int) -> np.ndarray:
        picture = self.clutter.copy()
        left, top = self.path[number].tolist()
        picture.paste(self.sign if number in self.front else _back(), (left, top), self.sign)
        x, y = number * 7 % _WANDER, number * 11 % _WANDER
        noisy = np.asarray(picture, np.float32) + self.noise[y : y + SIDE, x : x + SIDE]
        pixels: np.ndarray = noisy.clip(0, 255).astype(np.uint8)
        return pixels if self.window is None else self._close(pixels, number)

    def _close(self, pixels: np.ndarray, number: int) -> np.ndarray:
        corner = self.path[number] - np.asarray(self.window) * (_WINDOW - SIGN)
        left, top = corner.round().clip(0, SIDE - _WINDOW).astype(int).tolist()
        return pixels[top : top + _WINDOW, left : left + _WINDOW]


def _quarter(chance: np.random.Generator, count: int) -> range:
    """The frames of a quarter of a clip."""
    start = int(chance.integers(count - count // 4 + 1))
    return range(start, start + count // 4)


def _path(chance: np.random.Generator, count: int) -> np.ndarray:
    """Straight through the frame and back from its borders, so that no place is likelier: whole pixels (count, 2)."""
    room = SIDE - SIGN
    angle, length = chance.uniform(0, 2 * np.pi), chance.uniform(*_TRAVEL)
    way = length * np.array([np.cos(angle), np.sin(angle)])
    straight = chance.uniform(0, room, 2) + np.linspace(0, 1, count)[:, None] * way
    return np.asarray((room - np.abs(straight % (2 * room) - room)).round().astype(int))


def _clutter(chance: np.random.Generator, *, unseen: bool) -> Image.Image:
    """Coloured light, shapes, and plates that are not the sign."""
    light = chance.uniform(30, 225, (7, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(light).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(40):
        place, sides = chance.uniform(-10, SIDE, 2), chance.uniform(4, 40, 2)
        fill = _colour(chance.uniform(0.15, 0.85), chance.uniform(0.1, 0.6), chance.uniform(0.2, 0.9))
        if unseen:
            draw.polygon([tuple(corner) for corner in (place + sides * chance.random((4, 2))).tolist()], fill=fill)
        else:
            shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
            shape((*place.tolist(), *(place + sides).tolist()), fill=fill)
    for _ in range(int(chance.integers(8, 14))):
        character = CHARACTERS[int(chance.integers(len(CHARACTERS)))]
        plate = _plate(chance, character, hue=chance.uniform(0.25, 0.75), round_=chance.random() < 0.5)
        left, top = chance.integers(0, SIDE - SIGN, 2).tolist()
        picture.paste(plate, (left, top), plate)
    return picture


def _plate(chance: np.random.Generator, character: str, *, hue: float, round_: bool) -> Image.Image:
    side = SIGN * _SHARP
    plate = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(plate)
    paper = _colour(chance.random(), 0.1, chance.uniform(0.85, 1.0))
    ink = _colour(chance.random(), 0.5, chance.uniform(0.0, 0.25))
    rim = _colour(hue, 0.9, chance.uniform(0.75, 1.0))
    shape = draw.ellipse if round_ else draw.rectangle
    shape((2, 2, side - 3, side - 3), fill=paper, outline=rim, width=_RIM * _SHARP)
    draw.text((side / 2, side / 2), character, fill=ink, font=font(_FONT * _SHARP), anchor="mm")
    return plate.resize((SIGN, SIGN), Image.Resampling.BILINEAR)


@cache
def _back() -> Image.Image:
    """Of the sign, as large as its front."""
    return Image.new("RGB", (SIGN, SIGN), (128, 128, 128))


def _colour(hue: float, saturation: float, value: float) -> tuple[int, ...]:
    return tuple(round(part * 255) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
