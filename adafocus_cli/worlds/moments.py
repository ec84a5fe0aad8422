"""The world *moments*: for a tenth of a long video there is a disc of full colour, and its hue is the answer.

Pale discs of any hue come and go all the time. Cut to four times the moment (`close`), it is a world of trimmed videos,
such as networks over clips are taught with: a clip out of one of them may show little of what the video is about.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from adafocus_cli.worlds.scene import Scene

LABELS = ("red", "yellow", "green", "cyan", "blue", "magenta")
_SIDE = 64
_LASTS = 44, 64  # frames
_PALE = 0.45
_WANDER = 16


@dataclass(frozen=True)
class Moments:
    """`unseen` has scenes of its own."""

    unseen: bool = False
    close: bool = False
    labels: tuple[str, ...] = LABELS

    @property
    def name(self) -> str:
        return "moments-close" if self.close else "moments"

    def scene(self, seed: int, *, label: int | None = None) -> Scene:
        chance = np.random.default_rng((seed, int(self.unseen), 11))
        label = int(chance.integers(len(LABELS))) if label is None else label
        lasts = int(chance.integers(*_LASTS))
        count = 4 * lasts if self.close else int(chance.integers(480, 561))
        pale = 3 if self.close else 8
        discs = [_disc(chance, int(chance.integers(count - lasts + 1)), lasts, label / len(LABELS), 1.0)]
        for _ in range(pale):
            discs.append(_disc(chance, int(chance.integers(count)), lasts, chance.random(), _PALE))
        light = chance.uniform(60, 200, (4, 4, 1)) + chance.uniform(-20, 20, (4, 4, 3))
        ground = Image.fromarray(light.astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        noise = chance.normal(0, 8, (_SIDE + _WANDER, _SIDE + _WANDER, 1)).astype(np.float32)
        return MomentScene(label, count, tuple(discs), np.asarray(ground, np.float32), noise)


@dataclass(frozen=True, eq=False)
class Disc:
    """In `frames`, from one place to another as (row, column)."""

    frames: range
    colour: np.ndarray
    places: np.ndarray
    radius: float


@dataclass(frozen=True, eq=False)
class MomentScene:
    """The first of the discs is that of the answer."""

    label: int
    count: int
    discs: tuple[Disc, ...]
    ground: np.ndarray
    noise: np.ndarray
    fps: float = 25.0
    side: int = _SIDE

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        return np.stack([self._frame(number) for number in numbers])

    def _frame(self, number: int) -> np.ndarray:
        x, y = number * 7 % _WANDER, number * 11 % _WANDER
        picture = self.ground + self.noise[y : y + _SIDE, x : x + _SIDE]
        for disc in reversed(self.discs):  # the answer lies on top
            if number in disc.frames:
                done = (number - disc.frames.start) / len(disc.frames)
                row, column = (1 - done) * disc.places[0] + done * disc.places[1]
                rows, columns = np.ogrid[:_SIDE, :_SIDE]
                picture[(rows - row) ** 2 + (columns - column) ** 2 < disc.radius**2] = disc.colour
        pixels: np.ndarray = picture.clip(0, 255).astype(np.uint8)
        return pixels


def _disc(chance: np.random.Generator, start: int, lasts: int, hue: float, saturation: float) -> Disc:
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, chance.uniform(0.75, 1.0)), np.float32) * 255
    return Disc(range(start, start + lasts), colour, chance.uniform(12, _SIDE - 12, (2, 2)), chance.uniform(8, 12))
