"""Where a model looked, drawn with letters: an arrow for each look, a map of the picture, a table of the steps.

    ······▒▒····  ↖↖←··→↘
    ·····░▓▓▒···  7 × between 0.3 and 9.6 s

All of it can be read without colours. Knows nothing of the table around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from adafocus_cli.output.escape import printable
from adafocus_cli.schema import Box, PatchBox, VideoInfo, VideoResult
from adafocus_cli.scores import softmax
from adafocus_cli.video.framing import CROP, Geometry

# By third of the way that a patch can move: rows from the top, columns from the left.
_ARROWS = ("↖↑↗", "←·→", "↙↓↘")
# By share of the looks, from none to all.
_SHADES = "·░▒▓█"
_MAP_ROWS = 4
_MAP_COLUMNS = range(4, 21)
_MOST_ARROWS = 48
_LETTER = 0.5  # width to height, about


def looks(trajectory: Sequence[PatchBox], video: VideoInfo) -> RenderableType:
    """The map, and beside it the arrows in the order of the film."""
    in_order = sorted(trajectory, key=lambda patch: (patch.time, patch.step))
    seen = _seen(video)
    first, last = in_order[0].time, in_order[-1].time
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(
        Text("\n".join(map_of(in_order, video)), style="magenta"),
        Text.assemble(
            ("".join(arrow(patch.box, seen) for patch in in_order[:_MOST_ARROWS]), "magenta"),
            ("…" if len(in_order) > _MOST_ARROWS else "", "magenta"),
            (f"\n{len(in_order)} × between {first:.1f} and {last:.1f} s", "dim"),
        ),
    )
    return grid


def map_of(trajectory: Sequence[PatchBox], video: VideoInfo) -> list[str]:
    """The picture in a few rows; the darker a place, the more looks had it in them."""
    wanted = round(_MAP_ROWS / _LETTER * video.width / video.height)
    columns = min(max(wanted, _MAP_COLUMNS.start), _MAP_COLUMNS.stop - 1)
    x = (np.arange(columns) + 0.5) * video.width / columns
    y = (np.arange(_MAP_ROWS) + 0.5) * video.height / _MAP_ROWS
    boxes = np.array([patch.box for patch in trajectory])[:, :, None, None]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y[:, None]) & (y[:, None] < boxes[:, 3])
    shades = np.ceil(inside.mean(axis=0) * (len(_SHADES) - 1)).astype(int)
    return ["".join(_SHADES[shade] for shade in row) for row in shades]


def arrow(box: Box, seen: Box) -> str:
    """Which way a patch lies from the middle of what the model sees.

    >>> arrow((10, 0, 110, 100), (10, 0, 310, 100))
    '←'
    """
    row = _third(box[1] - seen[1], (seen[3] - seen[1]) - (box[3] - box[1]))
    column = _third(box[0] - seen[0], (seen[2] - seen[0]) - (box[2] - box[0]))
    return _ARROWS[row][column]


def steps(result: VideoResult) -> RenderableType:
    """A row for each look, in looking order, with what the best label's score was after it."""
    scores = _scores_by_look(result)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("look", "frame", "at"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where, in pixels", no_wrap=True)
    if scores:
        table.add_column(printable(result.labels[0].label), justify="right", no_wrap=True, max_width=20)
    seen = _seen(result.video)
    for place, patch in enumerate(result.trajectory):
        left, top, right, bottom = (math.floor(value + 0.5) for value in patch.box)
        where = f"{arrow(patch.box, seen)} {left},{top} – {right},{bottom}"
        score = [f"{100 * scores[place]:.1f} %" if place < len(scores) else ""] if scores else []
        table.add_row(str(patch.step + 1), str(patch.frame), f"{patch.time:.2f} s", where, *score)
    return table


def _scores_by_look(result: VideoResult) -> list[float]:
    """Of the best label; empty for models whose answers do not go with looks one by one."""
    answers = result.step_logits
    one_by_one = [patch.step for patch in result.trajectory] == list(range(len(result.trajectory)))
    if not one_by_one or not result.labels or len(answers) < 2 or len(answers) > len(result.trajectory):
        return []
    return [float(score) for score in softmax(answers)[:, result.labels[0].index]]


def _seen(video: VideoInfo) -> Box:
    return Geometry(video.width, video.height).to_source((0.0, 0.0, CROP, CROP))


def _third(offset: float, room: float) -> int:
    """0, 1 or 2: how far along its room; the middle where there is none to move in."""
    if room <= 1e-6:
        return 1
    return min(max(int(3 * offset / room), 0), 2)
