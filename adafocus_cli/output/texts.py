"""Texts for people, players and spreadsheets: times and durations, cells of CSV."""

from __future__ import annotations

import re
from itertools import pairwise

from adafocus_cli.errors import printable


def percent(share: float, *, digits: int = 1) -> str:
    """
    >>> percent(0.625), percent(0.3, digits=0)
    ('62.5 %', '30 %')
    """
    return f"{100 * share:.{digits}f} %"


def clock(seconds: float) -> str:
    """
    >>> clock(75), clock(3723)
    ('1:15', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def clock_to_tenths(seconds: float) -> str:
    """
    >>> clock_to_tenths(75.25)
    '1:15.2'
    """
    whole, tenth = divmod(int(10 * seconds), 10)
    return f"{clock(whole)}.{tenth}"


def subtitle_clock(milliseconds: int, point: str) -> str:
    """
    >>> subtitle_clock(3_723_004, ".")
    '01:02:03.004'
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def duration(seconds: float) -> str:
    """The two largest units.

    >>> duration(59.6), duration(3 * 3600 + 125)
    ('59.6 s', '3 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    (large, name), (small, next_name) = next(pair for pair in pairwise(units) if whole >= pair[0][0])
    return f"{whole // large} {name} {whole % large // small} {next_name}"


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def cell(text: str) -> str:
    """The text as a CSV cell: lines stay lines, and no spreadsheet takes it for a formula."""
    shown = printable(text, keep="\n\r\t")
    return f"'{shown}" if shown.startswith(_FORMULA_STARTS) else shown


def without_mark(text: str) -> str:
    """A cell as it was before it got an apostrophe."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA_STARTS) else text


def is_exact(text: str) -> bool:
    """Whether no character of a cell may have been spelled out."""
    return not _ESCAPE.search(text)
