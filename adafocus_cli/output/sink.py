"""Where records go: standard output or a file, always in whole pieces.

Knows nothing of formats. Text leaves as UTF-8; the bytes of a file name that are not UTF-8 leave as `\\udcXX`, which
is also how JSON spells them.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from adafocus_cli.errors import AdaFocusError, UsageError


class OutputClosedError(Exception):
    """Whoever read our output has gone, as `head` does when it has seen enough."""


class Sink:
    """Writes pieces of text, each in one go, so that a reader never sees half a record.

    A file is emptied by the first piece, not by opening it: a run that fails before it has anything to say keeps
    what an earlier one wrote.
    """

    def __init__(self, stream: BinaryIO, *, name: str, can_rewind: bool = False, is_terminal: bool = False) -> None:
        self.name = name
        self.is_terminal = is_terminal
        self.can_rewind = can_rewind
        self._stream = stream
        self._fresh = True
        self._gone = False

    @classmethod
    def stdout(cls) -> Sink:
        return cls(sys.stdout.buffer, name="standard output", is_terminal=sys.stdout.isatty())

    @classmethod
    def file(cls, path: Path) -> Sink:
        try:
            regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise UsageError(
                f"cannot write to {path}: {error.strerror}; give a file in a folder that exists, or - for "
                "standard output"
            ) from error
        return cls(io.FileIO(descriptor, "w"), name=str(path), can_rewind=regular)

    @property
    def is_untouched_file(self) -> bool:
        return self.can_rewind and self._fresh

    def write(self, text: str, *, over: int = 0) -> None:
        """Writes all of it at once, on top of the last `over` bytes where the output can go back."""
        if self._gone:
            return
        try:
            if self.can_rewind:
                self._go_back(over)
            _write_all(self._stream, text.encode("utf-8", "backslashreplace"))
        except BrokenPipeError as error:
            self._gone = True
            raise OutputClosedError from error
        except OSError as error:
            self._gone = True
            raise AdaFocusError(
                f"cannot write to {self.name}: {error.strerror}; what was written before it is complete"
            ) from error

    def _go_back(self, over: int) -> None:
        if self._fresh:
            self._stream.truncate(0)
        elif over:
            self._stream.seek(-over, os.SEEK_CUR)
        self._fresh = False

    def close(self) -> None:
        if self._stream is not getattr(sys.stdout, "buffer", None):
            with suppress(OSError):
                self._stream.close()

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take a part of what it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()
