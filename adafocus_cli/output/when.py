"""What happens when, for people at a terminal: times, and a line for each segment. Knows nothing of tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from adafocus_cli.output.escape import printable
from adafocus_cli.schema import Segment

_MOST = 20


def when(segments: Sequence[Segment]) -> Text:
    lines = [
        f"{_to_tenths(s.start)}–{_to_tenths(s.end)}  {printable(s.label)}  {100 * s.score:.0f} %"
        for s in segments[:_MOST]
    ]
    if more := len(segments) - len(lines):
        lines.append(f"… and {more} more; --format json has them all")
    return Text("\n".join(lines))


def clock(seconds: float) -> str:
    """
    >>> clock(75), clock(3723)
    ('1:15', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _to_tenths(seconds: float) -> str:
    """
    >>> _to_tenths(75.25)
    '1:15.2'
    """
    whole, tenth = divmod(int(10 * seconds), 10)
    return f"{clock(whole)}.{tenth}"
