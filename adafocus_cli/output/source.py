"""What a record was made of: a file as it was, so that a later run knows whether it changed.

Knows nothing of videos: any readable file has a source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from adafocus_cli.video.limits import check_file, problem
from adafocus_cli.video.remote import is_remote, look_up

_PART = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file's content by its size, time and a fast hash; `digest` is the same for copies under other names."""

    path: str
    size: int
    mtime_ns: int
    digest: str

    @classmethod
    def of(cls, path: str) -> Source:
        """Refuses what opening the video would refuse, in the same words."""
        if is_remote(path):
            return cls._of_remote(path)
        check_file(path, path)
        try:
            with Path(path).open("rb") as file:
                status = os.fstat(file.fileno())
                return cls(path, status.st_size, status.st_mtime_ns, _digest(file, status.st_size))
        except OSError as error:
            raise problem(path, f"it cannot be read ({error.strerror}); check the disk") from None

    @classmethod
    def _of_remote(cls, path: str) -> Source:
        """By what its storage says of it. Marks of different files may be equal, so that it is like no other path."""
        file = look_up(path)
        return cls(path, file.size, file.mtime_ns, blake2b(f"{path}\0{file.mark}".encode(), digest_size=16).hexdigest())

    @property
    def fingerprint(self) -> str:
        return f"{self.size}:{self.mtime_ns}:{self.digest}"


def key_of(path: str) -> str:
    """The same for all names of a file that differ only in the way to its folder, such as `a.mp4` and `./a.mp4`.

    A link to a file is a file of its own; a link to a folder is that folder.
    """
    if is_remote(path):
        return path
    folder, name = os.path.split(path)
    try:
        return os.path.join(_real_folder(folder, os.getcwd()), name)  # noqa: PTH109, PTH118 (Path is slow)
    except (OSError, ValueError):  # no such name can be
        return path


@lru_cache(4096)
def _real_folder(folder: str, current: str) -> str:
    return os.path.realpath(os.path.join(current, folder))  # noqa: PTH118


def _digest(file: BinaryIO, size: int) -> str:
    """Of all of a small file; of a large one its size, first, middle and last part, for disks are slow."""
    digest = blake2b(str(size).encode(), digest_size=16)
    starts = range(0, size, _PART) if size <= 3 * _PART else (0, (size - _PART) // 2, size - _PART)
    for start in starts:
        file.seek(start)
        digest.update(file.read(_PART))
    return digest.hexdigest()
