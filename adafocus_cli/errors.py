"""The errors that a user can cause, each one sentence: the value, what is allowed, the next step.

Domain code raises these; only the command line turns them into text and exit codes.
"""

from __future__ import annotations


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
