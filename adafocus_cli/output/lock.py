"""One writer a file: a second one is told to wait, and a writer that was killed is in nobody's way.

The system holds the lock, on a file beside the one that is written, and drops it with the process. Knows nothing of
what is written.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from adafocus_cli.errors import UsageError


class Lock:
    """Held from its making until `release`."""

    def __init__(self, path: Path) -> None:
        real = path.resolve()  # two names of one file have one lock
        self._path = real.with_name(f"{real.name}.lock")
        while True:
            self._descriptor = self._open(path)
            if not _lock(self._descriptor):
                os.close(self._descriptor)
                raise UsageError(f"{path} is being written by another run; wait for it to end or give another file")
            # The writer before may have removed the file between our opening and our locking it.
            if self._is_in_place():
                return
            os.close(self._descriptor)

    def release(self) -> None:
        if sys.platform != "win32":
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        if sys.platform == "win32":  # which removes no open files
            with suppress(OSError):
                self._path.unlink()

    def _open(self, path: Path) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UsageError(
                f"cannot write to {path}: {error.strerror}; give a file in a folder that exists and can be written"
            ) from None

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
