"""Files read and written with care: their hashes, all of a file or nothing, locks, and full disks."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BLOCK = 1 << 20
_BETWEEN_TRIES = 0.02  # seconds


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def try_lock(descriptor: int) -> bool:
    """Locks an open file against other processes until it is closed; False if another has it."""
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process has the lock of this file, and holds it; the file is made, and stays."""
    with path.open("ab") as file:
        while not try_lock(file.fileno()):
            time.sleep(_BETWEEN_TRIES)
        yield


def disk_full(error: OSError, path: Path | str) -> str | None:
    """What to do if no more fits on the disk of this file; None if that was not the reason."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return f"cannot write {path}: the disk is full; make room and run the same command again"


class HashingFile:
    """A file being written, with the hash and the length of what was written so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.size += len(content)
        return self._file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place only when all of it is written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """A new name is on the disk only when its folder is."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
