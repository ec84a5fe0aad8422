"""From a decoded picture to what a model sees of it: turned upright, resized, cropped.

Resizing is bilinear with antialias, as the checkpoints were tested.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from adafocus_cli.schema import Box
from adafocus_cli.video.framing import USUAL, Framing
from adafocus_cli.video.sampling import Look


@dataclass(frozen=True)
class Rotation:
    """How a stored picture becomes upright: swap the axes first, then flip.

    A file says it by a display matrix, nine 32-bit numbers (a b u, c d v, x y w): pixel (x, y) is shown at
    (ax + cy, bx + dy). Only quarter turns and mirrors are undone; other angles are left as stored, as players do.
    """

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> Rotation:
        a, b, _, c, d = struct.unpack_from("=5i", matrix)
        if abs(a) + abs(d) == 0 and b and c:
            return cls(swapped=True, flip_x=c < 0, flip_y=b < 0)
        if abs(b) + abs(c) == 0:
            return cls(flip_x=a < 0, flip_y=d < 0)
        return cls()

    @property
    def degrees(self) -> int:
        """Clockwise degrees (beside a mirror, if there is one)."""
        if self.swapped:
            return 270 if self.flip_y else 90
        return 180 if self.flip_y else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.swapped else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        if self.swapped:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        return picture[::-1] if self.flip_y else picture


def preprocess(picture: np.ndarray, framing: Framing = USUAL) -> np.ndarray:
    """What is seen of an upright H×W×3 uint8 picture."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is H×W×3 uint8, not {picture.shape} {picture.dtype}")
    if framing.whole:
        height, width, _ = framing.shape_of(picture.shape[1], picture.shape[0])
        return fitted(picture, width, height)
    geometry, size = framing.geometry(picture.shape[1], picture.shape[0]), framing.size
    width, height = geometry.resized
    image = Image.fromarray(np.ascontiguousarray(picture))
    if framing.area is not None:
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
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


def cut(picture: np.ndarray, boxes: Sequence[Box], size: int) -> np.ndarray:
    """Boxes of an upright picture, each as a square of `size` pixels."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    squares = (image.resize((size, size), Image.Resampling.BILINEAR, box=box) for box in boxes)
    return np.stack([np.asarray(square) for square in squares])


def cut_looks(looks: Sequence[Look], source: Callable[[int], np.ndarray]) -> np.ndarray:
    """What looks with boxes of one size see; `source` gives all of a frame, and is asked once for each."""
    size = looks[0].size
    seen = np.empty((len(looks), size, size, 3), np.uint8)
    for frame in sorted({look.frame for look in looks}):
        boxes = {place: look.box for place, look in enumerate(looks) if look.frame == frame and look.box is not None}
        seen[[*boxes]] = cut(source(frame), [*boxes.values()], size)
    return seen


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Itself, or resized where it is of another size: a stream, or a folder of images, may change."""
    if picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """All of square frames (n, side, side, 3), at another size."""
    if frames.shape[1] == size:
        return frames
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])
