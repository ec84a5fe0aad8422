"""From a decoded picture to the square that a model sees, and from boxes in it back to the picture.

Knows nothing of files or models. Resizes as the published checkpoints were tested: short side to 256 for a crop of
224, bilinear with antialias, centre crop with torchvision's rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.size) < 1:
            raise ValueError(f"{self.width}×{self.height} to {self.size}: every side must be at least 1")

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height after resizing, before the crop.

        >>> Geometry(340, 256).resized
        (340, 256)
        """
        short = self.size * SHORT_SIDE // CROP
        if self.width <= self.height:
            return short, short * self.height // self.width
        return short * self.width // self.height, short

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top of the crop in the resized picture."""
        width, height = self.resized
        return round((width - self.size) / 2), round((height - self.size) / 2)

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


def preprocess(picture: np.ndarray, size: int = CROP) -> np.ndarray:
    """The centre of an upright H×W×3 uint8 picture, size×size×3."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is H×W×3 uint8, not {picture.shape} {picture.dtype}")
    geometry = Geometry(picture.shape[1], picture.shape[0], size)
    (width, height), (left, top) = geometry.resized, geometry.corner
    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(width, height) <= 8 * min(width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    else:
        # A very long picture is never resized whole; this may differ by one grey level.
        across, down = geometry.width / width, geometry.height / height
        middle = (left * across, top * down, (left + size) * across, (top + size) * down)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=middle)
    return np.asarray(image)


def squeezed(picture: np.ndarray, size: int) -> np.ndarray:
    """All of an upright picture, its sides made equal, size×size×3."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """All of square frames (n, side, side, 3), at another size."""
    if frames.shape[1] == size:
        return frames
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])
