"""Pictures in planes of brightness and colour (4:2:0), as encoders take them, and what is drawn on them: the box of the
look, and a panel with the label and a meter of the cost.

Drawing on these planes costs a fraction of a conversion to RGB and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adafocus_cli.drawing import Font, drawable, font_for
from adafocus_cli.output.texts import percent
from adafocus_cli.render.story import Story
from adafocus_cli.schema import Box, Tag, in_gmacs
from adafocus_cli.video.pictures import Rotation

Colour = tuple[int, int, int]
_BT709, _UNSAID, _FULL_RANGE = 1, 2, 2
_HD = 720  # from this height on, players assume BT.709 for unspecified colours


@dataclass(frozen=True)
class Colours:
    """How a video encodes its colours, so that ours look the same in every video."""

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
        """Draws the layer on a canvas, at even coordinates; what is outside is cut off."""
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


WHITE, ACCENT, SHADE = (255, 255, 255), (255, 176, 32), (12, 14, 20)
_FAINT, _EMPTY = (205, 210, 220), (92, 97, 110)
_GROWING = 0.3  # seconds in which the meter grows by a look, and the corners get thin again
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Scale:
    """Sizes in pixels that suit a picture."""

    line: float
    text: int
    small: int
    margin: int

    @classmethod
    def of(cls, width: int, height: int) -> Scale:
        short = min(width, height)
        text = min(max(short // 24, 11), 64)
        return cls(line=max(1.5, short / 360), text=text, small=max(9, round(0.7 * text)), margin=_even(text * 0.6))


class Marks:
    """Draws on the frames of one video, which are shown with `width` and `height`."""

    def __init__(self, story: Story, width: int, height: int, colours: Colours) -> None:
        self._story = story
        self._size = (width, height)
        self._colours = colours
        self._scale = Scale.of(width, height)
        self._panel = _Panel(story, self._scale, width, colours)
        self._panel_top = self._free_place()

    def draw(self, canvas: Canvas, time: float) -> None:
        fresh = _settling(self._story.seconds_since_look(time))
        layer = self._panel.at(time, fresh)
        layer.over(canvas, self._scale.margin, self._panel_top)
        box = self._story.box_at(time)
        if box is not None:
            self._draw_box(canvas, self._on_canvas(box), fresh)

    def _free_place(self) -> int:
        """Below, unless the panel would hide less of the looks above."""
        above = self._scale.margin
        below = _even(self._size[1] - self._panel.height - 1) - self._scale.margin

        def hidden(top: int) -> float:
            boxes = [self._on_canvas(look.box) for look in self._story.looks]
            return sum(max(0.0, min(box[3], top + self._panel.height) - max(box[1], top)) for box in boxes)

        return min((below, above), key=hidden)

    def _on_canvas(self, box: Box) -> Box:
        """A GIF may be smaller than its source; the line of a box at the edge stays inside."""
        across, down = self._size[0] / self._story.width, self._size[1] / self._story.height
        inset = self._scale.line / 2
        right, bottom = self._size[0] - inset, self._size[1] - inset
        return (
            min(max(box[0] * across, inset), right), min(max(box[1] * down, inset), bottom),
            min(max(box[2] * across, inset), right), min(max(box[3] * down, inset), bottom),
        )  # fmt: skip

    def _draw_box(self, canvas: Canvas, box: Box, fresh: float) -> None:
        """A thin white line with corners in colour, on a shadow that parts them from a light picture."""
        line = self._scale.line
        for left, top, right, bottom in _bands(box, round(6 * line), canvas):
            x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
            shadow = 0.5 * _ring(x, y, box, 4 * line, soft=4 * line)
            ring = 0.9 * _ring(x, y, box, line)
            corners = _ring(x, y, box, line * (2.4 + 1.4 * fresh)) * _near_corners(x, y, box)
            alpha, ink = np.zeros_like(ring), np.zeros((*ring.shape, 3), np.float32)
            for cover, colour in ((shadow, SHADE), (ring, WHITE), (corners, ACCENT)):
                alpha = alpha + (1 - alpha) * cover
                ink = ink + (self._ink(colour) - ink) * cover[..., None]
            Layer(alpha, ink).over(canvas, left, top)

    @lru_cache(maxsize=8)  # noqa: B019 — as long-lived as a video
    def _ink(self, colour: Colour) -> np.ndarray:
        return self._colours.planes_of(np.array(colour, np.uint8))


class _Panel:
    """The label with its score; below, the meter. Redrawn only when something in it changes."""

    def __init__(self, story: Story, scale: Scale, width: int, colours: Colours) -> None:
        self._story, self._scale, self._colours = story, scale, colours
        self._text, self._small = ImageFont.load_default(scale.text), ImageFont.load_default(scale.small)
        pad = scale.margin
        wanted = [
            font_for(_name(tag), scale.text).getlength(_name(tag))
            + self._text.getlength(f"   {percent(tag.score)}")
            + 2 * pad
            for tag in story.tags()
        ]
        wanted.append(self._small.getlength(f"{self._cost(story.gmacs)}   {self._looks(len(story.looks))}") + 2 * pad)
        self.width = _even(min(max(wanted), max(width - 2 * pad, 2)))
        self.height = _even(scale.text * 1.45 + scale.small * 2.1 + 1.6 * pad)
        self._drawn = lru_cache(maxsize=4)(self._draw)

    def at(self, time: float, fresh: float) -> Layer:
        looks, spent = self._story.looks_until(time), self._story.spent_at(time)
        growing = fresh * (self._story.gmacs - self._story.glance_gmacs) / max(len(self._story.looks), 1)
        share = (spent - growing) / self._story.full_gmacs if self._story.full_gmacs > 0 else 0.0
        return self._drawn(self._story.tag_at(time), looks, spent, round(min(max(share, 0.0), 1.0) * self._bar_width))

    @property
    def _bar_width(self) -> int:
        return self.width - 2 * self._scale.margin

    def _draw(self, tag: Tag | None, looks: int, spent: float, filled: int) -> Layer:
        scale, pad = self._scale, self._scale.margin
        image = Image.new("RGBA", (self.width, self.height))
        pen = ImageDraw.Draw(image)
        pen.rounded_rectangle((0, 0, self.width - 1, self.height - 1), radius=pad, fill=(*SHADE, 176))
        right, line = self.width - pad, 0.6 * pad
        score = percent(tag.score) if tag else ""
        name = _name(tag) if tag else "-"
        font = font_for(name, scale.text)
        room = self._bar_width - self._text.getlength(f"  {score}")
        self._write(pen, (pad, line), _cut(name, font, room), font, WHITE, "la")
        self._write(pen, (right, line), score, self._text, ACCENT, "ra")
        line += 1.45 * scale.text
        thick = max(3.0, 0.45 * scale.small)
        pen.rounded_rectangle((pad, line, right, line + thick), radius=thick / 2, fill=(*_EMPTY, 255))
        if filled >= thick:
            pen.rounded_rectangle((pad, line, pad + filled, line + thick), radius=thick / 2, fill=(*ACCENT, 255))
        line += thick + 0.35 * scale.small
        counted = self._looks(looks)
        room = self._bar_width - self._small.getlength(f"  {counted}")
        self._write(pen, (pad, line), _cut(self._cost(spent), self._small, room), self._small, _FAINT, "la")
        self._write(pen, (right, line), counted, self._small, _FAINT, "ra")
        return Layer.of_rgba(np.asarray(image), self._colours)

    def _write(
        self,
        pen: ImageDraw.ImageDraw,
        place: tuple[float, float],
        text: str,
        font: Font,
        colour: Colour,
        anchor: str,
    ) -> None:
        halo = max(1, self._scale.text // 16)
        pen.text(place, text, (*colour, 255), font, anchor, stroke_width=halo, stroke_fill=(*SHADE, 200))

    def _cost(self, spent: float) -> str:
        full = self._story.full_gmacs
        share = f"{percent(spent / full, digits=0)} of whole frames · " if full > 0 else ""
        return f"{share}{in_gmacs(spent)}"

    def _looks(self, made: int) -> str:
        return f"look {made} of {len(self._story.looks)}" if self._story.looks else "at a glance"


def _name(tag: Tag) -> str:
    return drawable(tag.label, tag.index, longest=_LONGEST_NAME)


def _cut(text: str, font: Font, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def _even(value: float) -> int:
    return 2 * round(value / 2)


def _settling(seconds: float) -> float:
    """1 when a look is made, 0 soon after."""
    return max(0.0, 1 - seconds / _GROWING) ** 2


def _bands(box: Box, reach: int, canvas: Canvas) -> Iterator[tuple[int, int, int, int]]:
    """The places around the edges of a box, even and inside the picture, which do not overlap."""
    left, top = (2 * ((int(value) - reach) // 2) for value in box[:2])
    right, bottom = (2 * ((int(value) + reach + 1) // 2) for value in box[2:])
    depth = 2 * reach + 2
    upper, lower = min(top + depth, bottom), max(bottom - depth, top + depth)
    inner, outer = min(left + depth, right), max(right - depth, left + depth)
    for band in (
        (left, top, right, upper),
        (left, lower, right, bottom),
        (left, upper, inner, lower),
        (outer, upper, right, lower),
    ):
        x0, y0, x1, y1 = max(band[0], 0), max(band[1], 0), min(band[2], canvas.width), min(band[3], canvas.height)
        if x0 < x1 and y0 < y1:
            yield x0, y0, x1, y1


def _ring(x: np.ndarray, y: np.ndarray, box: Box, width: float, soft: float = 1.0) -> np.ndarray:
    """How far the line around a box covers each pixel; `soft` is over how many pixels it fades."""
    half = width / 2
    return np.asarray(_filled(x, y, box, half, soft) * (1 - _filled(x, y, box, -half, soft)))


def _filled(x: np.ndarray, y: np.ndarray, box: Box, grown: float, soft: float) -> np.ndarray:
    left, top, right, bottom = box[0] - grown, box[1] - grown, box[2] + grown, box[3] + grown
    columns = np.clip(np.minimum(x - left, right - x) / soft + 0.5, 0, 1)
    rows = np.clip(np.minimum(y - top, bottom - y) / soft + 0.5, 0, 1)
    return np.outer(rows, columns).astype(np.float32)


def _near_corners(x: np.ndarray, y: np.ndarray, box: Box) -> np.ndarray:
    arm = 0.2 * min(box[2] - box[0], box[3] - box[1])
    columns = np.minimum(np.abs(x - box[0]), np.abs(x - box[2])) < arm
    rows = np.minimum(np.abs(y - box[1]), np.abs(y - box[3])) < arm
    return np.outer(rows, columns).astype(np.float32)
