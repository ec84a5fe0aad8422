"""Where records go: standard output or a file, always in whole pieces.

Text leaves as UTF-8; what cannot be encoded, such as the bytes of a file name that are not UTF-8, leaves as `\\udcXX`.
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
    what an earlier one wrote. If a piece does not fit on the disk, the file is as it was before that piece.
    """

    def __init__(self, stream: BinaryIO, *, name: str, can_rewind: bool = False, is_terminal: bool = False) -> None:
        self.name = name
        self.is_terminal = is_terminal
        self.can_rewind = can_rewind
        self._stream = stream
        self._fresh = True
        self._gone = False
        self._end = 0
        self._ending = b""

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

    def write(self, text: str, *, ending: str = "") -> None:
        """Writes all of it at once. `ending` completes a file that can be rewound; the next piece replaces it."""
        if self._gone:
            return
        content = text.encode("utf-8", "backslashreplace")
        left = "what was written before it is complete"
        try:
            if not self.can_rewind:
                left = "the output may end in half a record"
                _write_all(self._stream, content)
                return
            if self._fresh:
                left = "the file is as it was"
                self._make_way(content + ending.encode())
                left = "what was written before it is complete"
            self._replace_ending(content, ending.encode())
        except BrokenPipeError as error:
            self._gone = True
            raise OutputClosedError from error
        except OSError as error:
            self._gone = True
            if self.can_rewind and not self._restore():
                left = "the file may end in half a record"
            raise AdaFocusError(f"cannot write to {self.name}: {error.strerror}; {left}") from error

    def _make_way(self, content: bytes) -> None:
        """Empties the file, once it is known that there is room for the first piece: it fits behind what is there."""
        if size := os.fstat(self._stream.fileno()).st_size:
            self._end = size
            self._replace_ending(content, b"")
            self._end = 0
        self._stream.truncate(0)
        self._fresh = False

    def _replace_ending(self, content: bytes, ending: bytes) -> None:
        self._stream.seek(self._end)
        _write_all(self._stream, content + ending)
        self._end += len(content)
        self._ending = ending

    def _restore(self) -> bool:
        """The file as it was before the piece that failed; whether that could be done."""
        try:
            self._stream.seek(self._end)
            _write_all(self._stream, self._ending)
            self._stream.truncate(self._end + len(self._ending))
        except OSError:
            return False
        return True

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
