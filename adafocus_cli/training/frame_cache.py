"""Pictures of clips, decoded once and kept in files that all processes of a machine share.

A file has the pictures of one clip, one after another, and where each begins. It takes its place only when it is whole:
a run that was broken off goes on with what is there. Knows nothing of videos; whoever asks brings the pictures.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.files import disk_full, locked, replacing, try_lock

QUALITY = 90
"""Of JPEG pictures; docs/training.md says what it costs."""

_SHARE_OF_FREE = 0.5
_ENDING = ".frames"


def as_jpeg(picture: np.ndarray) -> bytes:
    """With half the resolution of colours, as videos have it."""
    return _encoded(picture, "JPEG", quality=QUALITY, subsampling="4:2:0")


def as_png(picture: np.ndarray) -> bytes:
    """Every pixel as it is."""
    return _encoded(picture, "PNG", compress_level=1)


def _encoded(picture: np.ndarray, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, kind, **how)
    return file.getvalue()


def decoded(picture: bytes) -> Image.Image:
    image: Image.Image = Image.open(io.BytesIO(picture))
    image.load()
    return image


class PictureFile:
    """The pictures of a clip, by their numbers."""

    def __init__(self, path: Path, begins: np.ndarray) -> None:
        self._path, self._begins = path, begins

    @classmethod
    def open(cls, path: Path) -> PictureFile | None:
        """None if there is none, or if the disk has lost a part of it."""
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(-8, os.SEEK_END)
                count = int.from_bytes(file.read(8), "little")
                file.seek(-8 * (count + 2), os.SEEK_END)
                begins = np.frombuffer(file.read(8 * (count + 1)), np.uint64).astype(np.int64)
        except (OSError, OverflowError):
            return None
        whole = len(begins) == count + 1 and begins[-1] + 8 * (count + 2) == size
        return cls(path, begins) if whole else None

    @staticmethod
    def write(path: Path, pictures: Iterable[bytes], check: Callable[[int], None]) -> int:
        """Writes a file; `check` is told how many bytes there are so far, and may raise. The size of the file."""
        begins = [0]
        with replacing(path) as file:
            for picture in pictures:
                file.write(picture)
                begins.append(begins[-1] + len(picture))
                check(begins[-1])
            file.write(np.array([*begins, len(begins) - 1], "<u8").tobytes())
        return begins[-1] + 8 * (len(begins) + 1)

    def __len__(self) -> int:
        return len(self._begins) - 1

    def images(self, numbers: Sequence[int]) -> list[Image.Image]:
        with self._path.open("rb") as file:
            return [decoded(self._read(file, number)) for number in numbers]

    def _read(self, file: io.BufferedReader, number: int) -> bytes:
        begin, end = (int(place) for place in self._begins[number : number + 2])
        file.seek(begin)
        return file.read(end - begin)


class CacheError(AdaFocusError):
    """The cache can take no more."""


@dataclass(frozen=True)
class FrameCache:
    """A folder of picture files, of no more bytes than `most`; `clips` are those that are to be kept there."""

    folder: Path
    most: float
    clips: int

    @classmethod
    def within(cls, folder: Path, gigabytes: float | None, clips: int) -> FrameCache:
        """Makes the folder, and counts what is there; without a size, half of the disk that is free or its own."""
        cache = cls(folder, 0.0, clips)
        try:
            cache._locks.mkdir(parents=True, exist_ok=True)
            cache._remove_unfinished()
            with locked(cache._locks / "total"):
                kept = sum(entry.stat().st_size for entry in folder.glob(f"*{_ENDING}"))
                cache._total.write_text(str(kept), "ascii")
            most = (shutil.disk_usage(folder).free + kept) * _SHARE_OF_FREE if gigabytes is None else gigabytes * 1e9
        except OSError as error:
            raise CacheError(
                f"cannot write to {folder}: {error.strerror}; name another folder with --frame-cache"
            ) from error
        return cls(folder, most, clips)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def pictures(self, key: str, make: Callable[[], Iterable[bytes]]) -> PictureFile:
        """What is kept under a key; made where nothing is, by one process at a time."""
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        path = self.folder / f"{name}{_ENDING}"
        kept = PictureFile.open(path)
        if kept is not None:
            return kept
        try:
            with locked(self._lock_of(name)):
                kept = PictureFile.open(path)
                if kept is None:
                    self._write(path, make())
                    kept = PictureFile.open(path)
        except OSError as error:
            reason = f"cannot write {path}: {error.strerror or error}; name another folder with --frame-cache"
            raise CacheError(disk_full(error, path) or reason) from error
        assert kept is not None, "it was just written"
        return kept

    @property
    def _locks(self) -> Path:
        return self.folder / "locks"

    @property
    def _total(self) -> Path:
        return self.folder / "bytes"

    def _lock_of(self, name: str) -> Path:
        """Clips share a few hundred locks."""
        return self._locks / name[:2]

    def _remove_unfinished(self) -> None:
        """What processes left that were killed."""
        for path in self.folder.glob(f".*{_ENDING}.*"):
            with self._lock_of(path.name[1:]).open("ab") as file:
                if try_lock(file.fileno()):
                    path.unlink(missing_ok=True)

    def _write(self, path: Path, pictures: Iterable[bytes]) -> None:
        before = self._kept_bytes()

        def check(written: int) -> None:
            if before + written > self.most:
                raise self._full()

        size = PictureFile.write(path, pictures, check)
        with locked(self._locks / "total"):
            self._total.write_text(str(self._kept_bytes() + size), "ascii")

    def _kept_bytes(self) -> int:
        """Read without the lock, it may be missing for the moment in which another process writes it."""
        return int(self._total.read_text("ascii") or 0)

    def _full(self) -> CacheError:
        kept = [entry.stat().st_size for entry in self.folder.glob(f"*{_ENDING}")]
        needed = (
            f", and the {self.clips} of this run need about {_gb(sum(kept) / len(kept) * self.clips)}" if kept else ""
        )
        return CacheError(
            f"the frames of {len(kept)} clips fill the {_gb(self.most)} of the cache in {self.folder}{needed}; allow "
            "more with --cache-gb, or decode clips in every epoch with --cache-gb 0"
        )


def _gb(count: float) -> str:
    return f"{count / 1e9:.2g} GB"
