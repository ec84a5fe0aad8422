"""Where a model looked, in one line: an arrow for each look, in the order of the film.

    looked  ↖↖←··→↘  7 times, 0.3–9.6 s

Knows nothing of tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from adafocus_cli.schema import Box, PatchBox, VideoInfo
from adafocus_cli.video.clip import CROP, Geometry

# By third of the way that a patch can move: rows from the top, columns from the left.
_ARROWS = ("↖↑↗", "←·→", "↙↓↘")


def looks(trajectory: Sequence[PatchBox], video: VideoInfo) -> Text:
    in_order = sorted(trajectory, key=lambda patch: (patch.time, patch.step))
    seen = Geometry(video.width, video.height).to_source((0.0, 0.0, CROP, CROP))
    text = Text("".join(arrow(patch.box, seen) for patch in in_order), style="magenta")
    first, last = in_order[0].time, in_order[-1].time
    text.append(f"  {len(in_order)} × between {first:.1f} and {last:.1f} s", style="dim")
    return text


def arrow(box: Box, seen: Box) -> str:
    """Which way a patch lies from the middle of what the model sees.

    >>> arrow((10, 0, 110, 100), (10, 0, 310, 100))
    '←'
    """
    row = _third(box[1] - seen[1], (seen[3] - seen[1]) - (box[3] - box[1]))
    column = _third(box[0] - seen[0], (seen[2] - seen[0]) - (box[2] - box[0]))
    return _ARROWS[row][column]


def _third(offset: float, room: float) -> int:
    """0, 1 or 2: how far along its room; the middle where there is none to move in."""
    if room <= 1e-6:
        return 1
    return min(max(int(3 * offset / room), 0), 2)
