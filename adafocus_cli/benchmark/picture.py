"""Seconds a video over everything that was varied, one diagram each. Knows nothing of how it was measured."""

from __future__ import annotations

from itertools import cycle

from PIL import Image

from adafocus_cli.benchmark.report import PLAIN, Curve, Report
from adafocus_cli.drawing import BLUE, FAINT, FONT, INK, PALE, SMALL_FONT, Axis, Colour, Pen

WIDTH, _ROW, _HEADING = 960, 330, 56
_COLUMNS = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 64, 56  # of a diagram, around the plot
_KEY_LINE = 18
_COLOURS: tuple[Colour, ...] = (BLUE, (200, 80, 30), (50, 140, 70), (130, 70, 160))


def draw(report: Report) -> Image.Image:
    rows = -(-len(report.curves) // _COLUMNS)
    pen = Pen((WIDTH, _HEADING + rows * _ROW))
    setting = report.setting
    pen.text((16, 34), f"Seconds a video: {setting.model} on {setting.device}", INK, FONT, "ls")
    pen.text((WIDTH - _RIGHT, 34), f"{setting.hardware}, {setting.threads_in_words}", FAINT, SMALL_FONT, "rs")
    for place, curve in enumerate(report.curves):
        row, column = divmod(place, _COLUMNS)
        _draw_curve(pen, curve, column * WIDTH // _COLUMNS, _HEADING + row * _ROW)
    return pen.picture()


def _draw_curve(pen: Pen, curve: Curve, x: int, y: int) -> None:
    points = [point for line in curve.lines.values() for point in line]
    across = Axis.around((value for value, _ in points), x + _LEFT, x + WIDTH // _COLUMNS - _RIGHT, least=1)
    # From zero, so that twice as high is twice as long.
    up = Axis(0, 1.1 * max(seconds for _, seconds in points), y + _ROW - _BOTTOM, y + _TOP)
    pen.grid(across, up)
    pen.text(((across.start + across.end) / 2, up.start + 44), f"{curve.varied}, {curve.unit}", INK, FONT, "ms")
    ours = cycle(_COLOURS)
    for number, (name, line) in enumerate(curve.lines.items()):
        colour = PALE if name == PLAIN else next(ours)
        places = [(across.at(value), up.at(seconds)) for value, seconds in line]
        pen.line(places, colour, 3)
        for place in places:
            pen.dot(place, colour, 5)
        key = (x + _LEFT + number % 2 * 190, y + _TOP - 30 + number // 2 * _KEY_LINE)
        pen.dot(key, colour, 5)
        pen.text((key[0] + 12, key[1]), name, INK, SMALL_FONT, "lm")
