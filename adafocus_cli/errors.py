"""The errors that a user can cause, each one sentence: the value, what is allowed, the next step.

Domain code raises these; only the command line turns them into text and exit codes. `printable` makes names from
outside safe to print, in errors and elsewhere.
"""

from __future__ import annotations

import unicodedata

# Joiners are invisible, but Persian, Hindi and many emoji are misspelt without them.
_JOINERS = "\u200c\u200d"
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class AdaFocusError(Exception):
    """Anything that went wrong for a reason the user can do something about."""


class UsageError(AdaFocusError):
    """An option or an argument has a value that is not allowed."""


class ModelError(AdaFocusError):
    """A checkpoint, a spec or a label list cannot be used."""


class DeviceError(AdaFocusError):
    """The device or the precision asked for is not there."""


class VideoError(AdaFocusError):
    """One video cannot be tagged; the others can.

    `stage` is where it happened: "open", "decode" or "infer".
    """

    def __init__(self, message: str, *, stage: str = "open") -> None:
        super().__init__(message)
        self.stage = stage


class OutputClosedError(Exception):
    """Whoever read our output has gone, as `head` does when it has seen enough."""


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "video"), counted(2, "video")
    ('1 video', '2 videos')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


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
