"""Accuracy over cost as a picture: what thresholds reach at every cost, beside stopping at the same step for all.

Blue is for the thresholds, with a point for each budget; grey for the same step; black for the model that skips
nothing. Knows nothing of how thresholds are fitted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from PIL import Image

from adafocus_cli.drawing import BLUE, FAINT, FONT, INK, PALE, SMALL_FONT, Axis, Pen, Place
from adafocus_cli.evaluation.calibration_report import Calibration
from adafocus_cli.evaluation.metrics import Metric

SIZE = (960, 600)
PLOT = (84, 84, 930, 526)  # left, top, right, bottom


def draw(calibration: Calibration) -> Image.Image:
    laws = [(point.gmacs, 100 * point.accuracy) for point in calibration.laws]
    same_steps = [(point.gmacs, 100 * point.accuracy) for point in calibration.same_steps]
    full = (calibration.full.gmacs, 100 * calibration.full.accuracy)
    shown = [*laws, *same_steps, full]
    left, top, right, bottom = PLOT
    across = Axis.around((x for x, _ in shown), left, right, least=1e-6)
    up = Axis.around((y for _, y in shown), bottom, top, least=2)
    pen = Pen(SIZE)
    _draw_axes(pen, across, up, calibration.metric)

    def places(points: Sequence[Place]) -> list[Place]:
        return [(across.at(x), up.at(y)) for x, y in points]

    pen.line(places(same_steps), PALE, 2)
    for place in places(same_steps):
        pen.dot(place, PALE, 3)
    pen.line(places(laws), BLUE, 3)
    budgets: defaultdict[Place, list[str]] = defaultdict(list)
    for choice in calibration.choices:
        budgets[choice.checked.gmacs, 100 * choice.checked.accuracy].append(f"{choice.budget:g}")
    for (x, y), names in zip(places(list(budgets)), budgets.values(), strict=True):
        pen.dot((x, y), BLUE, 7)
        pen.text((x - 8, y - 6), ", ".join(names), BLUE, FONT, "rb")  # where a rising curve leaves room
    pen.dot(places([full])[0], INK, 7)
    _draw_heading(pen, calibration)
    return pen.picture()


def _draw_axes(pen: Pen, across: Axis, up: Axis, metric: Metric) -> None:
    left, top, right, _ = PLOT
    pen.grid(across, up)
    pen.text(((left + right) / 2, SIZE[1] - 18), "mean cost of a video, GMACs", INK, FONT, "mb")
    pen.text((16, top - 14), f"{metric}, %", INK, FONT, "lb")


def _draw_heading(pen: Pen, calibration: Calibration) -> None:
    """What the colours mean, and how far to trust the picture."""
    x, y = 110.0, 34
    for colour, width, radius, words in (
        (BLUE, 3, 6, "thresholds (a point: a budget)"),
        (PALE, 2, 3, "the same step for all"),
        (INK, 0, 6, "nothing skipped"),
    ):
        if width:
            pen.line([(x, y), (x + 24, y)], colour, width)
        pen.dot((x + 12, y), colour, radius)
        x = pen.text((x + 32, y), words, INK, FONT, "lm") + 28
    videos = f"{calibration.checked_on} video{'s' if calibration.checked_on != 1 else ''}"
    trust = f"on {videos} that nothing was fitted on; top-1 by chance: ± {100 * calibration.margin:.1f} points"
    pen.text((PLOT[2], PLOT[1] - 14), trust, FAINT, SMALL_FONT, "rb")
