"""What a model sees of a picture, and how boxes in it lie in the picture: arithmetic, no pixels.

Sizes are those that the published checkpoints were tested with: short side to 256 for a crop of 224 unless told
otherwise, centre crop with torchvision's rounding. Knows nothing of files or models, and loads no library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from adafocus_cli.schema import Box

# The checkpoints were tested with 224 cut out of 256.
CROP, SHORT_SIDE = 224, 256
# Sides of whole pictures are multiples of what a network's last map has a cell for, so that no cell is partly empty.
CELL = 32


@dataclass(frozen=True)
class Geometry:
    """How an upright picture of `width`×`height` becomes the frame of `size`×`size`."""

    width: int
    height: int
    size: int = CROP
    short_side: int | None = None
    """Of the resized picture; None: as much more than `size` as the checkpoints were tested with."""
    area: int | None = None
    """How many pixels all of the picture becomes at most; None: a square is cut out."""
    crops: int = 1
    """How many squares are beside one another in the frame: one, or three."""

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.size) < 1:
            raise ValueError(f"{self.width}×{self.height} to {self.size}: every side must be at least 1")
        if self.area is not None and self.area < CELL**2:
            raise ValueError(f"the area is {self.area} pixels; it must be at least {CELL**2}")

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height after resizing, before the crop.

        >>> Geometry(340, 256).resized
        (340, 256)
        >>> Geometry(1920, 1080, area=640 * 352).resized, Geometry(480, 640, area=640 * 352).resized
        ((640, 352), (384, 544))
        """
        if self.area is not None:
            return _whole_cells(self.width, self.height, self.area)
        short = self.short_side or self.size * SHORT_SIDE // CROP
        if self.width <= self.height:
            return short, short * self.height // self.width
        return short * self.width // self.height, short

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top of the crop in the resized picture."""
        if self.area is not None:
            return 0, 0
        width, height = self.resized
        return round((width - self.size) / 2), round((height - self.size) / 2)

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """Left and top of three crops along the longer side: at one end, in the middle, at the other."""
        (left, top), (width, height) = self.corner, self.resized
        if width >= height:
            return (0, top), (left, top), (width - self.size, top)
        return (left, 0), (left, top), (left, height - self.size)

    def to_source(self, box: Box) -> Box:
        """A box in frame pixels, in pixels of the upright picture, clipped to it.

        >>> Geometry(512, 512).to_source((0.0, 0.0, 224.0, 112.0))
        (32.0, 32.0, 480.0, 256.0)
        >>> Geometry(1024, 512, crops=3).to_source((448.0, 0.0, 672.0, 224.0))
        (576.0, 32.0, 1024.0, 480.0)
        """
        (left, top), (width, height) = self.corner, self.resized
        if self.crops == 3:  # of the square in which it lies
            square = min(max(int((box[0] + box[2]) / 2 / self.size), 0), 2)
            left, top = self.corners[square]
            left -= square * self.size

        def x(value: float) -> float:
            return min(max((value + left) * self.width / width, 0.0), float(self.width))

        def y(value: float) -> float:
            return min(max((value + top) * self.height / height, 0.0), float(self.height))

        return x(box[0]), y(box[1]), x(box[2]), y(box[3])


def _whole_cells(width: int, height: int, area: int) -> tuple[int, int]:
    """Sides of whole cells, of the shape nearest to that of the picture, with as many pixels as fit."""
    most = area // CELL**2
    scale = (area / (width * height)) ** 0.5 / CELL
    across, down = (min(max(1, int(side * scale)), most) for side in (width, height))
    fitting = [(x, y) for x in (across, across + 1) for y in (down, down + 1) if x * y <= most]
    x, y = min(fitting, key=lambda sides: (abs(math.log(sides[0] * height / (sides[1] * width))), -sides[0] * sides[1]))
    return x * CELL, y * CELL


@dataclass(frozen=True)
class Framing:
    """What a model sees of a picture: its middle, `size` a side; three such squares (`crops`) beside one another; or,
    with an `area`, all of it, in its own shape."""

    size: int = CROP
    short_side: int | None = None
    crops: Literal[1, 3] = 1
    squeezed: bool = False
    """All of the picture instead, its sides made equal."""
    area: int | None = None
    """All of the picture at no more than so many pixels."""
    whole: bool = False
    """All of the picture in its own shape, its shorter side no longer than `size`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is seen of a picture of 16:9, as bytes."""
        return self.shape_of(16, 9)

    def shape_of(self, width: int, height: int) -> tuple[int, int, int]:
        """Of what is seen of a picture of this size, as bytes."""
        if self.whole:
            short = min(width, height)
            part = min(self.size, short)
            return (height * part + short // 2) // short, (width * part + short // 2) // short, 3
        if self.area is None:
            return self.size, self.crops * self.size, 3
        across, down = self.geometry(width, height).resized
        return down, across, 3

    def geometry(self, width: int, height: int) -> Geometry:
        assert not self.whole, "boxes are never looked for in pictures that are kept whole"
        return Geometry(width, height, self.size, self.short_side, self.area, self.crops)


USUAL = Framing()
