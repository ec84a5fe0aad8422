"""Names from outside, made safe to show: what a terminal or a spreadsheet would act on is spelled out instead.

Knows nothing of what the names mean or where they go.
"""

from __future__ import annotations

import re
import unicodedata

# Joiners are invisible, but Persian, Hindi and many emoji are misspelt without them.
_JOINERS = "\u200c\u200d"
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def printable(text: str, *, keep: str = "") -> str:
    """The text on one line, with control characters, bidi overrides and broken bytes as escapes.

    >>> printable("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\\\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _is_unseen(c) else _spelled_out(c) for c in text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN and character not in _JOINERS


def _spelled_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


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
