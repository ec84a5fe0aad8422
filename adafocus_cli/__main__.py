"""The command `adafocus`, also as `python -m adafocus_cli`."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    # Ending by an exception, not at once, lets the decoding processes be ended too.
    signal.signal(signal.SIGTERM, _terminated)
    from adafocus_cli.cli.app import run

    sys.exit(run(sys.argv[1:]))


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
