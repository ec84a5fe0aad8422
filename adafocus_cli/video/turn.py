"""How a stored picture is turned to be upright, from the display matrix of its file.

The matrix is nine 32-bit numbers (a b u, c d v, x y w): pixel (x, y) is shown at (ax + cy, bx + dy).
Only quarter turns and mirrors are undone; other angles are left as stored, as players do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turn:
    """Swap the axes first, then flip."""

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> Turn:
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
