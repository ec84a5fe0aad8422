"""From a decoded picture to the squares that a model sees, and from boxes in them back to the picture.

Knows nothing of files or models. Resizes as the published checkpoints were tested: short side to 256 for a crop of
224 unless told otherwise, bilinear with antialias, centre crop with torchvision's rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from adafocus_cli.schema import Box

# The checkpoints were tested with 224 cut out of 256.
CROP, SHORT_SIDE = 224, 256


@dataclass(frozen=True)
class Geometry:
    """How an upright picture of `width`×`height` becomes the frame of `size`×`size`."""

    width: int
    height: int
    size: int = CROP
    short_side: int | None = None
    """Of the resized picture; None: as much more than `size` as the checkpoints were tested with."""

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.size) < 1:
            raise ValueError(f"{self.width}×{self.height} to {self.size}: every side must be at least 1")

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height after resizing, before the crop.

        >>> Geometry(340, 256).resized
        (340, 256)
        """
        short = self.short_side or self.size * SHORT_SIDE // CROP
        if self.width <= self.height:
            return short, short * self.height // self.width
        return short * self.width // self.height, short

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top of the crop in the resized picture."""
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
        """
        (left, top), (width, height) = self.corner, self.resized

        def x(value: float) -> float:
            return min(max((value + left) * self.width / width, 0.0), float(self.width))

        def y(value: float) -> float:
            return min(max((value + top) * self.height / height, 0.0), float(self.height))

        return x(box[0]), y(box[1]), x(box[2]), y(box[3])


@dataclass(frozen=True)
class Framing:
    """What a model sees of a picture: its middle, `size` a side, or three such squares (`crops`) beside one another."""

    size: int = CROP
    short_side: int | None = None
    crops: Literal[1, 3] = 1
    squeezed: bool = False
    """All of the picture instead, its sides made equal."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is seen, as bytes."""
        return self.size, self.crops * self.size, 3

    def geometry(self, width: int, height: int) -> Geometry:
        return Geometry(width, height, self.size, self.short_side)


def preprocess(picture: np.ndarray, framing: Framing = Framing()) -> np.ndarray:
    """What is seen of an upright H×W×3 uint8 picture."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is H×W×3 uint8, not {picture.shape} {picture.dtype}")
    geometry, size = framing.geometry(picture.shape[1], picture.shape[0]), framing.size
    width, height = geometry.resized
    image = Image.fromarray(np.ascontiguousarray(picture))
    if framing.squeezed:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    corners = (geometry.corner,) if framing.crops == 1 else geometry.corners
    if max(width, height) <= 8 * min(width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        crops = [image.crop((left, top, left + size, top + size)) for left, top in corners]
    else:
        # A very long picture is never resized whole; this may differ by one grey level.
        across, down = geometry.width / width, geometry.height / height
        boxes = [(x * across, y * down, (x + size) * across, (y + size) * down) for x, y in corners]
        crops = [image.resize((size, size), Image.Resampling.BILINEAR, box=box) for box in boxes]
    return np.concatenate([np.asarray(crop) for crop in crops], axis=1)


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """All of square frames (n, side, side, 3), at another size."""
    if frames.shape[1] == size:
        return frames
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])
