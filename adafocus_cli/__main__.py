"""The command `adafocus`, also as `python -m adafocus_cli`."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

# How often a thread of torch looks for work before it sleeps: for half a millisecond instead of seven, in which it
# would keep OpenVINO or a decoder from its core.
_LOOKS_FOR_WORK = "20000"

_status: int | None = None
"""What this process ends with; None: Python decides it."""


def sleep_soon() -> None:
    """Sets it, unless the user has; it is read when torch is loaded."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _LOOKS_FOR_WORK)


def main() -> None:
    global _status
    if not atexit._ncallbacks():  # those of others, as of a coverage tool, would come after ours
        atexit.register(_end_at_once)
    sleep_soon()
    _fill_closed_streams()
    loading = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else Ctrl-C is not for us
    if loading:
        signal.signal(signal.SIGINT, _interrupted)
    # Ending by an exception, not at once, lets the decoding processes be ended too.
    signal.signal(signal.SIGTERM, _terminated)
    from adafocus_cli.cli.app import run

    if loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _status = run(sys.argv[1:])
    sys.exit(_status)


def _end_at_once() -> None:
    """Comes last, when threads have ended and whoever asked for it was called: spares taking every module apart.

    That would take up to a second after torch was loaded.
    """
    if _status is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python tells of it
    os._exit(_status)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ends at once, for nothing has begun: an exception in the middle of an import may be swallowed."""
    with suppress(OSError):
        os.write(2, b"adafocus: interrupted\n")
    os._exit(130)


def _fill_closed_streams() -> None:
    """Takes the places of standard streams that the caller closed, or the next file that is opened would get them.

    Nothing can be read there, and writing results fails as it should.
    """
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
