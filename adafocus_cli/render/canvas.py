"""Pictures in planes of brightness and colour (4:2:0), as encoders take them, and transparent layers to lay over them.

Drawing there costs a fraction of a way to RGB and back. Knows nothing of what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from adafocus_cli.video.pictures import Rotation

Colour = tuple[int, int, int]
_BT709, _UNSAID, _FULL_RANGE = 1, 2, 2
_HD = 720  # from this height on, players take colours that are not named for BT.709


@dataclass(frozen=True)
class Colours:
    """How a video writes its colours, so that ours look the same in all of them."""

    matrix: int
    full_range: bool
    hd: bool

    @classmethod
    def of(cls, frame: Any) -> Colours:
        return cls(int(frame.colorspace), int(frame.color_range) == _FULL_RANGE, frame.height >= _HD)

    def planes_of(self, rgb: np.ndarray) -> np.ndarray:
        """From … × RGB, to … × brightness and two of colour."""
        wide = self.matrix == _BT709 or (self.matrix == _UNSAID and self.hd)
        red, blue = (0.2126, 0.0722) if wide else (0.299, 0.114)
        levels = rgb.astype(np.float32)
        bright = levels @ np.array([red, 1 - red - blue, blue], np.float32)
        u = (levels[..., 2] - bright) / (2 * (1 - blue))
        v = (levels[..., 0] - bright) / (2 * (1 - red))
        low, high, span = (0, 255, 255) if self.full_range else (16, 219, 224)
        return np.stack([low + bright * high / 255, 128 + u * span / 255, 128 + v * span / 255], axis=-1)


class Layer:
    """A transparent picture with even sides.

    `alpha` is how far it covers, 0 to 1, and `ink` what it adds, by plane, that is times `alpha`.
    """

    def __init__(self, alpha: np.ndarray, ink: np.ndarray) -> None:
        coarse = _halved(alpha)
        self._planes = ((alpha, ink[..., 0]), (coarse, _halved(ink[..., 1])), (coarse, _halved(ink[..., 2])))

    @classmethod
    def of_rgba(cls, rgba: np.ndarray, colours: Colours) -> Layer:
        alpha = rgba[..., 3].astype(np.float32) / 255
        return cls(alpha, alpha[..., None] * colours.planes_of(rgba[..., :3]))

    def over(self, canvas: Canvas, left: int, top: int) -> None:
        """Lays it over a canvas; the place is even, too. What hangs out is cut off."""
        for plane, (alpha, ink) in zip(canvas.planes, self._planes, strict=True):
            half = 1 if plane is canvas.planes[0] else 2
            x, y = left // half, top // half
            below = plane[max(y, 0) : y + len(alpha), max(x, 0) : x + alpha.shape[1]]
            rows = slice(max(-y, 0), max(-y, 0) + below.shape[0])
            columns = slice(max(-x, 0), max(-x, 0) + below.shape[1])
            below[...] = below * (1 - alpha[rows, columns]) + ink[rows, columns] + 0.5


class Canvas:
    """One upright picture that can be drawn on. Both sides are even, as encoders want them: an odd one grows by 1."""

    def __init__(self, width: int, height: int) -> None:
        self.frame = av.VideoFrame(width + width % 2, height + height % 2, "yuv420p")
        self.planes = tuple(_pixels(plane) for plane in self.frame.planes)

    @classmethod
    def of(cls, frame: Any, rotation: Rotation, width: int, height: int) -> Canvas:
        """A decoded frame, turned and at the size of an upright picture."""
        canvas = cls(width, height)
        across, down = rotation.size(width, height)
        stored = frame.reformat(width=across, height=down, format="yuv420p", threads=1)
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(canvas.frame, name, getattr(stored, name))
        for target, plane in zip(canvas.planes, stored.planes, strict=True):
            picture = rotation.apply(_pixels(plane))
            rows, columns = (min(a, b) for a, b in zip(target.shape, picture.shape, strict=True))
            target[:rows, :columns] = picture[:rows, :columns]
            target[rows:, :columns] = target[rows - 1 : rows, :columns]
            target[:, columns:] = target[:, columns - 1 : columns]
        return canvas

    @property
    def width(self) -> int:
        return int(self.frame.width)

    @property
    def height(self) -> int:
        return int(self.frame.height)


def _pixels(plane: Any) -> np.ndarray:
    """Without the padding behind each line."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _halved(values: np.ndarray) -> np.ndarray:
    """The mean of each 2×2."""
    return np.asarray((values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4)
