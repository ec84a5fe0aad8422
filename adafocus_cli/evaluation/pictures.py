"""Evaluations and calibrations as pictures.

A confusion matrix: rows are the classes of videos, columns the answers; the shade of a cell is its share of the row,
blue where the answer is right, orange where it is not. The curve of a calibration: accuracy over cost, blue with
thresholds (a point for each budget), grey with the same step for all videos, black with nothing skipped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from adafocus_cli.drawing import (
    BLUE,
    FAINT,
    FONT,
    INK,
    PALE,
    SMALL_FONT,
    Axis,
    Font,
    Pen,
    Place,
    drawable,
    font_for,
)
from adafocus_cli.errors import counted
from adafocus_cli.evaluation.calibration import Calibration
from adafocus_cli.evaluation.report import Confusion, Metric

_RIGHT, _WRONG, _EMPTY = (23, 85, 160), (214, 88, 8), (255, 255, 255)
_INK, _FAINT, _LINE = (30, 30, 30), (110, 110, 110), (225, 225, 225)
_BODY = 960  # pixels that the cells of a middling matrix take
_CELL = range(11, 65)  # sides at which a name still fits beside a cell, and at which a cell is not huge
_MOST_NAMED = 400  # above it cells shrink, and only some classes have their number
_LARGEST_BODY = 6000
_LONGEST_NAME = 30
_MARGIN = 16
_CAPTION = "row: what the videos show    column: what they were taken for    shade: share of the row"


def draw_confusion(confusion: Confusion) -> Image.Image:
    count = len(confusion.labels)
    cell = _side_of_cell(count)
    size = max(10, min(16, cell - 2))
    names = [(name, font_for(name, size)) for name in _names(confusion)]
    left = math.ceil(max(font.getlength(name) for name, font in names)) + 2 * _MARGIN
    font = font_for(_CAPTION, size)
    top = left + _MARGIN
    width = max(left + count * cell + _MARGIN, math.ceil(font.getlength(_CAPTION)) + 2 * _MARGIN)
    image = Image.new("RGB", (width, top + count * cell + _MARGIN), _EMPTY)
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN, _MARGIN / 2), _CAPTION, _FAINT, font)
    _draw_cells(pen, confusion, left, top, cell)
    for index, (name, font) in enumerate(names):
        middle = index * cell + cell // 2
        pen.text((left - _MARGIN / 2, top + middle), name, _INK, font, anchor="rm")
        _draw_upright(image, name, font, left + middle, top - _MARGIN // 2)
    return image


def _side_of_cell(count: int) -> int:
    if count > _MOST_NAMED:
        return max(1, min(_CELL[0], _LARGEST_BODY // count))
    return min(max(_BODY // count, _CELL[0]), _CELL[-1])


def _names(confusion: Confusion) -> list[str]:
    """One for each class; empty where there is no room for it."""
    if len(confusion.labels) <= _MOST_NAMED:
        return [
            drawable(name, index, longest=_LONGEST_NAME)
            for name, index in zip(confusion.labels, confusion.indices, strict=True)
        ]
    every = math.ceil(len(confusion.labels) / 100)
    return [str(number) if index % every == 0 else "" for index, number in enumerate(confusion.indices)]


def _draw_cells(pen: ImageDraw.ImageDraw, confusion: Confusion, left: int, top: int, cell: int) -> None:
    gap = 1 if cell >= _CELL[0] else 0
    numbers = ImageFont.load_default(max(10, cell // 3))
    side = len(confusion.labels) * cell
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=_LINE)
    for row, counts in enumerate(confusion.counts):
        videos = sum(counts)
        for column, count in enumerate(counts):
            if not count and row != column:
                continue
            x, y = left + column * cell, top + row * cell
            share = count / videos if videos else 0.0
            colour = _shade(_RIGHT if row == column else _WRONG, share)
            pen.rectangle((x, y, x + cell - 1 - gap, y + cell - 1 - gap), colour, _LINE if gap else None)
            if count and numbers.getlength(str(count)) < cell - 4 and cell >= 24:
                ink = _EMPTY if share > 0.5 else _INK
                pen.text((x + cell / 2, y + cell / 2), str(count), ink, numbers, anchor="mm")


def _shade(colour: tuple[int, int, int], share: float) -> tuple[int, ...]:
    """From a hint of the colour, so that a single video in a row of many is seen, to all of it."""
    strength = 0.15 + 0.85 * share if share else 0.0
    return tuple(round(empty + (full - empty) * strength) for empty, full in zip(_EMPTY, colour, strict=True))


def _draw_upright(image: Image.Image, text: str, font: Font, x: int, bottom: int) -> None:
    """A name that is read from bottom to top, its middle at `x`."""
    if not text:
        return
    left, top, right, below = (math.ceil(value) for value in font.getbbox(text))
    strip = Image.new("RGB", (right + 1, below + 1), _EMPTY)
    ImageDraw.Draw(strip).text((0, 0), text, _INK, font)
    upright = strip.crop((left, top, right + 1, below + 1)).rotate(90, expand=True)
    image.paste(upright, (x - upright.width // 2, bottom - upright.height))


CURVE_SIZE = (960, 600)
CURVE_PLOT = (84, 84, 930, 526)  # left, top, right, bottom


def draw_curve(calibration: Calibration) -> Image.Image:
    laws = [(point.gmacs, 100 * point.accuracy) for point in calibration.laws]
    same_steps = [(point.gmacs, 100 * point.accuracy) for point in calibration.same_steps]
    full = (calibration.full.gmacs, 100 * calibration.full.accuracy)
    apart = _of_skipping(calibration)
    shown = [*laws, *same_steps, full, *(point for points in apart.values() for point in points)]
    left, top, right, bottom = CURVE_PLOT
    across = Axis.around((x for x, _ in shown), left, right, least=1e-6)
    up = Axis.around((y for _, y in shown), bottom, top, least=2)
    pen = Pen(CURVE_SIZE)
    _draw_curve_axes(pen, across, up, calibration.metric)

    def places(points: Sequence[Place]) -> list[Place]:
        return [(across.at(x), up.at(y)) for x, y in points]

    pen.line(places(same_steps), PALE, 2)
    for place in places(same_steps):
        pen.dot(place, PALE, 3)
    for colour, points in apart.items():
        pen.line(places(points), colour, 2)
        for place in places(points):
            pen.dot(place, colour, 3)
    pen.line(places(laws), BLUE, 3)
    budgets: defaultdict[Place, list[str]] = defaultdict(list)
    for choice in calibration.choices:
        budgets[choice.checked.gmacs, 100 * choice.checked.accuracy].append(f"{choice.budget:g}")
    for (x, y), names in zip(places(list(budgets)), budgets.values(), strict=True):
        pen.dot((x, y), BLUE, 7)
        pen.text((x - 8, y - 6), ", ".join(names), BLUE, FONT, "rb")  # where a rising curve leaves room
    pen.dot(places([full])[0], INK, 7)
    _draw_curve_heading(pen, calibration)
    return pen.picture()


_SKIPPING, _EXITS = (214, 88, 8), (120, 170, 225)


def _of_skipping(calibration: Calibration) -> dict[tuple[int, int, int], list[Place]]:
    """The curves of a model that skips frames, by their colours."""
    if calibration.apart is None:
        return {}
    curves = {_SKIPPING: calibration.apart.skipping, _EXITS: calibration.apart.exits}
    return {colour: [(p.gmacs, 100 * p.accuracy) for p in points] for colour, points in curves.items()}


def _draw_curve_axes(pen: Pen, across: Axis, up: Axis, metric: Metric) -> None:
    left, top, right, _ = CURVE_PLOT
    pen.grid(across, up)
    pen.text(((left + right) / 2, CURVE_SIZE[1] - 18), "mean cost of a video, GMACs", INK, FONT, "mb")
    pen.text((16, top - 14), f"{metric}, %", INK, FONT, "lb")


def _draw_curve_heading(pen: Pen, calibration: Calibration) -> None:
    """The legend, and the margin of error."""
    lines = [[(BLUE, 3, 6, "thresholds (a point: a budget)"), (PALE, 2, 3, "the same step for all")]]
    if calibration.apart is None:
        lines[0].append((INK, 0, 6, "nothing skipped"))
    else:
        lines[0].append((INK, 0, 6, "no exits"))
        lines.append([(_SKIPPING, 2, 3, "skipping alone, more and less of it"), (_EXITS, 2, 3, "exits alone")])
    for y, entries in zip((34,) if len(lines) == 1 else (20, 46), lines, strict=True):
        x = 110.0
        for colour, width, radius, words in entries:
            if width:
                pen.line([(x, y), (x + 24, y)], colour, width)
            pen.dot((x + 12, y), colour, radius)
            x = pen.text((x + 32, y), words, INK, FONT, "lm") + 28
    videos = counted(calibration.checked_on, "video")
    trust = f"on {videos} not used for fitting; top-1 by chance: ± {100 * calibration.margin:.1f} points"
    pen.text((CURVE_PLOT[2], CURVE_PLOT[1] - 14), trust, FAINT, SMALL_FONT, "rb")
