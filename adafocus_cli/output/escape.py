"""Names from outside in CSV cells, where spreadsheets act on formulas, and in pictures."""

from __future__ import annotations

import re

from adafocus_cli.errors import printable

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def drawable(name: str, index: int, *, longest: int) -> str:
    """A label for a picture; the font that comes with Pillow has the letters of western Europe only.

    >>> drawable("東京", 7, longest=30)
    'class 7'
    """
    if not (name.isprintable() and all(ord(letter) < 0x100 for letter in name)):
        return f"class {index}"
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"


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
