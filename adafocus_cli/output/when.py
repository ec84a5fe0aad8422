"""What happens when, for people at a terminal: a line for each segment. Knows nothing of tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from adafocus_cli.output.escape import printable
from adafocus_cli.schema import Segment

_MOST = 20


def when(segments: Sequence[Segment]) -> Text:
    lines = [
        f"{_clock(s.start)}–{_clock(s.end)}  {printable(s.label)}  {100 * s.score:.0f} %" for s in segments[:_MOST]
    ]
    if more := len(segments) - len(lines):
        lines.append(f"… and {more} more; --format json has them all")
    return Text("\n".join(lines))


def _clock(seconds: float) -> str:
    """
    >>> _clock(75.25), _clock(3723)
    ('1:15.2', '1:02:03.0')
    """
    tenths = int(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{rest // 10:02}.{rest % 10}"
