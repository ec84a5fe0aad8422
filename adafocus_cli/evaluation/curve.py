"""Accuracy over cost as a picture: what thresholds reach at every cost, beside stopping at the same step for all.

Blue is for the thresholds, with a point for each budget; grey for the same step; black for the model that skips
nothing. Knows nothing of how thresholds are fitted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from adafocus_cli.evaluation.calibration_report import Calibration

SIZE = (960, 600)
PLOT = (84, 84, 930, 526)  # left, top, right, bottom
_FINER = 3  # drawn larger and made smaller, so that slanted lines are smooth
_FONT, _SMALL_FONT = 16, 14
_LAWS, _SAME_STEP, _INK = (23, 85, 160), (160, 160, 160), (30, 30, 30)
_FAINT, _LINE, _EMPTY = (90, 90, 90), (225, 225, 225), (255, 255, 255)
_TICKS = 6
_HEADROOM = 0.08  # of the range, on either side

Place = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: int
    end: int

    @classmethod
    def around(cls, values: Iterable[float], start: int, end: int, *, least: float) -> Axis:
        """With room at both ends; a range of at least `least`."""
        values = list(values)
        spare = max(_HEADROOM * (max(values) - min(values)), (least - max(values) + min(values)) / 2)
        return cls(min(values) - spare, max(values) + spare, start, end)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About as many round values as suit."""
        rough = (self.high - self.low) / _TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
        return [step * place for place in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def draw(calibration: Calibration) -> Image.Image:
    laws = [(point.gmacs, 100 * point.top1) for point in calibration.laws]
    same_steps = [(point.gmacs, 100 * point.top1) for point in calibration.same_steps]
    full = (calibration.full.gmacs, 100 * calibration.full.top1)
    shown = [*laws, *same_steps, full]
    left, top, right, bottom = PLOT
    across = Axis.around((x for x, _ in shown), left, right, least=1e-6)
    up = Axis.around((y for _, y in shown), bottom, top, least=2)
    pen = Pen()
    _draw_frame(pen, across, up)

    def places(points: Sequence[Place]) -> list[Place]:
        return [(across.at(x), up.at(y)) for x, y in points]

    pen.line(places(same_steps), _SAME_STEP, 2)
    for place in places(same_steps):
        pen.dot(place, _SAME_STEP, 3)
    pen.line(places(laws), _LAWS, 3)
    budgets: defaultdict[Place, list[str]] = defaultdict(list)
    for choice in calibration.choices:
        budgets[choice.checked.gmacs, 100 * choice.checked.top1].append(f"{choice.budget:g}")
    for (x, y), names in zip(places(list(budgets)), budgets.values(), strict=True):
        pen.dot((x, y), _LAWS, 7)
        pen.text((x - 8, y - 6), ", ".join(names), _LAWS, _FONT, "rb")  # where a rising curve leaves room
    pen.dot(places([full])[0], _INK, 7)
    _draw_heading(pen, calibration)
    return pen.picture()


def _draw_frame(pen: Pen, across: Axis, up: Axis) -> None:
    left, top, right, bottom = PLOT
    for value in across.ticks():
        pen.line([(across.at(value), top), (across.at(value), bottom)], _LINE, 1)
        pen.text((across.at(value), bottom + 8), f"{value:.6g}", _FAINT, _SMALL_FONT, "mt")
    for value in up.ticks():
        pen.line([(left, up.at(value)), (right, up.at(value))], _LINE, 1)
        pen.text((left - 8, up.at(value)), f"{value:.6g}", _FAINT, _SMALL_FONT, "rm")
    pen.text(((left + right) / 2, SIZE[1] - 18), "mean cost of a video, GMACs", _INK, _FONT, "mb")
    pen.text((16, top - 14), "top-1, %", _INK, _FONT, "lb")


def _draw_heading(pen: Pen, calibration: Calibration) -> None:
    """What the colours mean, and how far to trust the picture."""
    x, y = 110.0, 34
    for colour, width, radius, words in (
        (_LAWS, 3, 6, "thresholds (a point: a budget)"),
        (_SAME_STEP, 2, 3, "the same step for all"),
        (_INK, 0, 6, "nothing skipped"),
    ):
        if width:
            pen.line([(x, y), (x + 24, y)], colour, width)
        pen.dot((x + 12, y), colour, radius)
        x = pen.text((x + 32, y), words, _INK, _FONT, "lm") + 28
    videos = f"{calibration.checked_on} video{'s' if calibration.checked_on != 1 else ''}"
    trust = f"on {videos} that nothing was fitted on; chance: ± {100 * calibration.margin:.1f} points"
    pen.text((PLOT[2], PLOT[1] - 14), trust, _FAINT, _SMALL_FONT, "rb")


class Pen:
    """Draws in the pixels of the finished picture."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (SIZE[0] * _FINER, SIZE[1] * _FINER), _EMPTY)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, places: Sequence[Place], colour: tuple[int, int, int], width: int) -> None:
        self._draw.line([_finer(place) for place in places], colour, width * _FINER, joint="curve")

    def dot(self, place: Place, colour: tuple[int, int, int], radius: int) -> None:
        """With a rim, so that it stands out from a line."""
        x, y = _finer(place)
        for r, fill in ((radius + 1.5, _EMPTY), (radius, colour)):
            self._draw.ellipse([x - r * _FINER, y - r * _FINER, x + r * _FINER, y + r * _FINER], fill)

    def text(self, place: Place, text: str, colour: tuple[int, int, int], size: int, anchor: str) -> float:
        """With a rim, too; where it ends, if it begins at the place."""
        font = ImageFont.load_default(size * _FINER)
        self._draw.text(_finer(place), text, colour, font, anchor=anchor, stroke_width=2 * _FINER, stroke_fill=_EMPTY)
        return place[0] + font.getlength(text) / _FINER

    def picture(self) -> Image.Image:
        return self._image.resize(SIZE, Image.Resampling.LANCZOS)


def _finer(place: Place) -> Place:
    return place[0] * _FINER, place[1] * _FINER
