"""What a file of records is: what is in a record besides the result, and what every format of such a file can do.

A record is the dict that becomes JSON; one that was read from CSV is flat, a row by its columns, and has less in it.
`SourceFile` is the file that a record was made of, as it was then, so that a later run knows whether it changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.output.embedded import video_size
from adafocus_cli.output.texts import without_mark
from adafocus_cli.output.writers import VIDEO_COLUMNS, Cell, dumps, row_of
from adafocus_cli.schema import Record, path_fields, path_of
from adafocus_cli.video.limits import check_file, problem
from adafocus_cli.video.remote import is_remote, look_up

_PART = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file's content by its size, time and a fast hash; `digest` is the same for copies under other names."""

    path: str
    size: int
    mtime_ns: int
    digest: str

    @classmethod
    def of(cls, path: str) -> SourceFile:
        """Refuses what opening the video would refuse, in the same words."""
        if is_remote(path):
            return cls._of_remote(path)
        check_file(path, path)
        try:
            with Path(path).open("rb") as file:
                status = os.fstat(file.fileno())
                size = video_size(file, status.st_size)  # tags that were written into it make no other video of it
                return cls(path, size, status.st_mtime_ns, _digest(file, size))
        except OSError as error:
            raise problem(path, f"it cannot be read ({error.strerror}); check the disk") from None

    @classmethod
    def _of_remote(cls, path: str) -> SourceFile:
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
        digest.update(file.read(min(_PART, size - start)))
    return digest.hexdigest()


Mode = Literal["resume", "overwrite", "append"]

# What `classify` does not write: where a record comes from.
ORIGIN_COLUMNS = ("copied_from", "size", "mtime_ns", "digest", "settings")
COLUMNS = (*VIDEO_COLUMNS, *ORIGIN_COLUMNS)

# The columns that are no text, by their type in SQL.
NUMBERS = {
    **dict.fromkeys(("score", "gmacs", "full_frame_gmacs", "fps", "duration", "seconds"), "REAL"),
    **dict.fromkeys(("exit_step", "exit_of", "width", "height", "frames", "frames_decoded"), "INTEGER"),
    **dict.fromkeys(("frames_replaced", "packets_damaged", "patches", "patch_size", "size", "mtime_ns"), "INTEGER"),
}


def with_origin(record: Record, source: SourceFile | None, settings: Mapping[str, str]) -> Record:
    made_of = None if source is None else _source_field(source)
    return {**record, "source": made_of, "settings": dict(sorted(settings.items()))}


def copied(record: Record, source: SourceFile) -> Record:
    """What was found for the same content under another name, saying so."""
    if is_flat(record):
        return {**record, "path": source.path, "copied_from": record["path"], **_source_field(source)}
    video = {name: value for name, value in record["video"].items() if name not in ("path", "path_bytes")}
    video = {**path_fields(source.path), **video}
    return {**record, "video": video, "copied_from": path_of(record), "source": _source_field(source)}


def is_flat(record: Record) -> bool:
    return "path" in record


def listed_path(record: Record) -> str:
    """The path of a record or of a row; a row's may have characters spelled out."""
    return without_mark(str(record["path"])) if is_flat(record) else path_of(record)


def with_plain_path(record: Record) -> Record:
    """Earlier versions wrote a name that is not text in a way that strict readers refuse."""
    fields = path_fields(str(record["video"]["path"]))
    return {**record, "video": {**record["video"], **fields}} if len(fields) > 1 else record


def flat(record: Record) -> dict[str, Cell]:
    """A row of `COLUMNS`; raises ValueError if this is not a record."""
    try:
        if is_flat(record):
            return record
        settings = record.get("settings")
        return {
            **row_of(record),
            **(record.get("source") or {}),
            "copied_from": record.get("copied_from"),
            "settings": None if settings is None else settings_text(settings),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a record") from error


def row_and_record(record: Record) -> list[Cell]:
    """The values of `COLUMNS`, and after them the record itself as JSON: text that any database takes."""
    if is_flat(record):
        raise UsageError("CSV has only a part of each record; give an output file that ends in .csv")
    row = flat(record)
    values = [*(row.get(column) for column in COLUMNS), dumps(with_plain_path(record))]
    return [plain_text(value) if isinstance(value, str) else value for value in values]


def best_window(record: Record, tag: Mapping[str, Any]) -> tuple[float, float] | None:
    """From when to when the window lasts in which a label of a video in windows has its highest score."""
    best, windows = tag.get("best"), record.get("windows") or ()
    if best is None or not 0 <= best["window"] < len(windows):
        return None
    window = windows[best["window"]]
    return window["start"], window["end"]


def parents_in(record: Record) -> dict[str, str]:
    """The wider names of labels, as far as a record has them: segments do not."""
    lists = (record["labels"], *(window["labels"] for window in record.get("windows") or ()))
    return {tag["label"]: tag["parent"] for tags in lists for tag in tags if tag.get("parent") is not None}


def plain_text(text: str) -> str:
    """Bytes of a file name that are no text are spelled as JSON spells them."""
    return text.encode("utf-8", "backslashreplace").decode()


def settings_text(settings: Mapping[str, str]) -> str:
    return dumps(dict(sorted(settings.items())))


@dataclass(frozen=True)
class RecordOrigin:
    """What tells one record from another, and whether it is still true."""

    path: str
    ok: bool
    settings: str
    fingerprint: str
    digest: str
    mtime_ns: int

    @classmethod
    def of(cls, record: Record) -> RecordOrigin:
        row = flat(record)
        if row.get("status") not in ("ok", "error"):
            raise ValueError("not a record")
        digest, time = str(row.get("digest") or ""), row.get("mtime_ns") or 0
        fingerprint = f"{row.get('size')}:{time}:{digest}" if digest else ""
        settings = str(row.get("settings") or "")
        return cls(listed_path(record), row["status"] == "ok", settings, fingerprint, digest, int(time))


@dataclass(frozen=True)
class RunSettings:
    """Those of this run, as they are written, and what to do about others in the same file."""

    text: str
    mode: Mode

    def are_those_of(self, found: str, where: object) -> bool:
        if found == self.text:
            return True
        if self.mode == "append":
            return False
        raise UsageError(
            f"{where} was made with other settings ({difference(found, self.text)}); "
            "give another file, --append to keep both, or --overwrite to begin anew"
        )


def difference(before: str, now: str) -> str:
    """Which of the settings are not the same.

    >>> difference('{"top_k": "5"}', '{"top_k": "3"}')
    'top_k was 5 and is 3'
    """
    if not before or not now:
        return "some records do not say which"
    old, new = json.loads(before), json.loads(now)
    if old.get("model") != new.get("model"):  # all else that differs may be due to that
        return f"the model was {_model_text(old)} and is {_model_text(new)}"
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name, 'not set')} and is {new.get(name, 'not set')}" for name in changed)


def _model_text(settings: Mapping[str, str]) -> str:
    """Its name, if it is a model that is known here."""
    from adafocus_cli.library.store import ModelStore

    identity = settings.get("model", "")
    return ModelStore().name_of(identity) or f"one with SHA-256 {identity[:16]}…"


def _source_field(source: SourceFile) -> dict[str, Any]:
    return {"size": source.size, "mtime_ns": source.mtime_ns, "digest": source.digest}


class Known(NamedTuple):
    """What a file has of a path."""

    fingerprint: str
    ok: bool


class RecordStore(ABC):
    """The records of one run's settings; those of others stay as they are. Not thread-safe."""

    def key(self, path: str) -> str:
        """What tells the videos of the file from one another: the same for all names of one."""
        return key_of(path)

    @abstractmethod
    def known(self, path: str) -> Known | None: ...

    @abstractmethod
    def like(self, digest: str) -> Record | None:
        """A tagged record of this content."""

    @abstractmethod
    def put(self, record: Record) -> None:
        """Adds a record, in the place of one of the same video."""

    @abstractmethod
    def prune(self, is_gone: Callable[[str], bool]) -> int:
        """Removes the records of such paths, with any settings; how many. What is not the exact path stays."""

    @abstractmethod
    def sync(self) -> None:
        """Returns when all that was put would survive a power loss."""

    @abstractmethod
    def finish(self) -> None:
        """Completes the file."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file as it is."""


@contextmanager
def as_our_errors(path: Path, then: str | None = None) -> Iterator[None]:
    """What the system says of a file, and what to do then, as one sentence; of a file of records that is said here."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if then is None:
            mend = "close the program that reads it" if reason == _LOCKED else "make room"
            then = f"every record that reached the disk is kept: {mend}, and run it again to go on"
        raise AdaFocusError(f"cannot write to {path}: {reason}; {then}") from error


_LOCKED = "database is locked"  # as SQLite says it
