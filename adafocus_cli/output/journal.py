"""An output file that is also the record of what is done: a run that was cut short goes on where it ended.

Every record carries what it was made of (`source`) and with which settings, so that the file alone says what need not
be done again; there is nothing beside it that could be lost or disagree, but for files that are built when a run ends.
How each format survives being killed is described in line_files.py and sqlite.py. A second after they were written,
records are on the disk for good. A file FILE.lock beside the file keeps a second run out: the system holds the lock,
and drops it with the process.

Files of records are opened here by their endings, also to be merged or read whole.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import replacing, try_lock
from adafocus_cli.output.line_files import (
    ArrayFile,
    BuiltStore,
    CsvLines,
    FileCompression,
    Gzip,
    JsonLines,
    LineFile,
    LineFormat,
    LineStore,
    Zstd,
)
from adafocus_cli.output.parquet import ParquetFile
from adafocus_cli.output.records import (
    Mode,
    RecordOrigin,
    RecordStore,
    RunSettings,
    SourceFile,
    as_our_errors,
    copied,
    difference,
    is_flat,
    key_of,
    listed_path,
    settings_text,
    with_origin,
)
from adafocus_cli.output.sqlite import DatabaseFile, DatabaseStore
from adafocus_cli.output.writers import PATCH_COLUMNS, SEGMENT_COLUMNS, VIDEO_COLUMNS, line_of, segment_rows
from adafocus_cli.schema import Record, Result


class Lock:
    """Held from its making until `release`."""

    def __init__(self, path: Path) -> None:
        real = path.resolve()  # two names of one file have one lock
        self._path = real.with_name(f"{real.name}.lock")
        while True:
            self._descriptor = self._open(path)
            if not try_lock(self._descriptor):
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


__all__ = ["Journal", "Mode", "SourceFile", "check_name", "record_file"]

_SYNC_SECONDS = 1.0
_LONGEST = 1 << 26  # bytes of a line: a film of many hours has a long one

_LINES: dict[str, Callable[[], LineFormat]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": CsvLines}
_COMPRESSIONS: dict[str, Callable[[], FileCompression]] = {".gz": Gzip, ".zst": Zstd}
_DATABASES = (".sqlite", ".sqlite3", ".db")
_BUILT: dict[str, Callable[[Path], ArrayFile | ParquetFile]] = {".json": ArrayFile, ".parquet": ParquetFile}


Listener = Callable[[Record], None]


class Journal:
    """Written by one thread, and made durable by another."""

    def __init__(
        self,
        path: Path,
        store: RecordStore,
        lock: Lock,
        settings: Mapping[str, str],
        *,
        logits: bool,
        listener: Listener | None,
    ) -> None:
        self._path = path
        self._listener = listener
        self._store = store
        self._lock = lock
        self._settings = settings
        self._logits = logits
        self._broken: AdaFocusError | None = None
        self._access = threading.RLock()
        self._closing = threading.Event()
        self._syncing = threading.Thread(target=self._keep_synced, name="journal", daemon=True)
        self._syncing.start()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        settings: Mapping[str, str],
        mode: Mode,
        logits: bool = False,
        listener: Listener | None = None,
    ) -> Journal:
        """Locks the file, cuts off a half-written last record, and learns what is done.

        Refuses a file that another run is writing, that is something else, or, unless `mode` is "overwrite" or
        "append", that was made with other settings. "append" leaves records of other settings beside the new ones.
        `listener` is given each record before it is written.
        """
        check_name(path)
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a regular file; give another one")
        lock = Lock(path)
        try:
            with as_our_errors(path):
                store = _store(path, RunSettings(settings_text(settings), mode))
        except BaseException:
            lock.release()
            raise
        return cls(path, store, lock, settings, logits=logits, listener=listener)

    def done(self, source: SourceFile, *, retry: bool = False) -> bool:
        """Whether there is a record of this file as it is now; with `retry`, a failure does not count."""
        with self._access:
            known = self._store.known(source.path)
        return known is not None and known.fingerprint == source.fingerprint and (known.ok or not retry)

    def copy(self, source: SourceFile) -> str | None:
        """Writes the labels of the same content under another path for this one, too; that path, if there is one."""
        with self._access, self._usable():
            record = self._store.like(source.digest)
            if record is None:
                return None
            origin = listed_path(record)
            if self._store.key(origin) == self._store.key(source.path):
                return None
            self._put(copied(record, source))
            return origin

    def write(self, result: Result, source: SourceFile | None) -> None:
        """Adds a record, in the place of one of the same file; `source` is None if the file could not be read."""
        with self._access, self._usable():
            self._put(with_origin(result.to_dict(logits=self._logits), source, self._settings))

    def prune(self, is_gone: Callable[[str], bool]) -> int:
        """Removes the records of files that are gone, with any settings; how many."""
        with self._access, self._usable():
            return self._store.prune(is_gone)

    def sync(self) -> None:
        """Returns when all that was written would survive a power loss."""
        with self._access, self._usable():
            self._store.sync()

    def close(self) -> None:
        """Completes the file, as far as that is possible after an error."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._syncing.join()
        try:
            if not self._broken:
                with self._usable():
                    self._store.finish()
        finally:
            self._store.close()
            self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, record: Record) -> None:
        if self._listener:
            self._listener(record)
        self._store.put(record)

    def _keep_synced(self) -> None:
        while not self._closing.wait(_SYNC_SECONDS):
            try:
                self.sync()
            except AdaFocusError:
                return  # the next write raises it

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Nothing more is written after an error, for what is there is complete."""
        if self._broken:
            raise self._broken
        try:
            with as_our_errors(self._path):
                yield
        except AdaFocusError as error:
            self._broken = error
            raise


def check_name(path: Path) -> None:
    """Refuses a name whose ending says no format, before anything is done."""
    ending, _ = _endings(path)
    if ending not in _LINES and ending not in (*_DATABASES, *_BUILT):
        raise UsageError(
            f"{path} has no known format; give a name that ends in .jsonl or .csv (each also .gz or .zst), .json, "
            ".parquet, .sqlite or .db"
        )


def is_csv(path: Path) -> bool:
    return _endings(path)[0] == ".csv"


def record_file(path: Path) -> LineFile | DatabaseFile | ArrayFile | ParquetFile:
    """A file by its ending, to be read or written as a whole."""
    check_name(path)
    ending, compression = _endings(path)
    if ending in _LINES:
        return LineFile(path.resolve(), _LINES[ending](), compression() if compression else None)
    return DatabaseFile(path.resolve()) if ending in _DATABASES else _BUILT[ending](path.resolve())


def _store(path: Path, settings: RunSettings) -> RecordStore:
    file = record_file(path)
    if isinstance(file, LineFile):
        return LineStore(file, settings)
    return DatabaseStore(path.resolve(), settings) if isinstance(file, DatabaseFile) else BuiltStore(file, settings)


def _endings(path: Path) -> tuple[str, Callable[[], FileCompression] | None]:
    name = path.name.lower()
    ending = Path(name).suffix
    compression = _COMPRESSIONS.get(ending)
    if compression is None:
        return ending, None
    inner = Path(name).with_suffix("").suffix
    return (inner if inner in _LINES else ending), compression


def whole_records(results: Path) -> Iterator[Record]:
    """All records of a file, each checked to be one; never CSV, which has only a part of each record."""
    for index, record in enumerate(_entries(results)):
        try:
            RecordOrigin.of(record)
        except (ValueError, AttributeError, TypeError):
            raise not_a_record(results, index) from None
        if is_flat(record):
            raise UsageError(f"{results}: CSV has only a part of each record; give a .jsonl file")
        yield record


def write_segments(results: Path, output: Path) -> None:
    """All segments of a file of whole records as CSV; the file takes its place when it is complete."""
    then = "the records are complete: make room, and run it again"
    with as_our_errors(output, then), replacing(output) as file:
        file.write(line_of(SEGMENT_COLUMNS).encode())
        for record in whole_records(results):
            file.write("".join(map(line_of, segment_rows(record))).encode())


# How what `classify` writes begins: lines, an array, one without videos, and tables of videos, patches and segments.
_BEGINNINGS = (
    b'{"schema": "adafocus/1", ',
    b'[\n{"schema": "adafocus/1", ',
    b"[]\n",
    line_of(VIDEO_COLUMNS).encode(),
    line_of(PATCH_COLUMNS).encode(),
    line_of(SEGMENT_COLUMNS).encode(),
)


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuses to replace a file that `classify` has not written, such as notes, or the output of `batch`."""
    if overwrite or not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        line, following = file.readline(_LONGEST), file.readline(_LONGEST)
    first = following.rstrip(b",\n") if line == b"[\n" else line
    if (line + following).startswith(_BEGINNINGS) and not _is_of_batch(first):
        return
    raise UsageError(
        f"{path} is there already, and was not written by adafocus classify; give another file, or --overwrite to "
        "replace it"
    )


def _is_of_batch(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:  # half a record, or no JSON
        return False
    return isinstance(record, dict) and "settings" in record


def not_a_record(results: Path, index: int) -> UsageError:
    return UsageError(f"{results}: entry {index + 1} is not a record of adafocus; take it out, or give another file")


def _entries(results: Path) -> Iterator[Any]:
    try:
        check_name(results)
    except UsageError:
        raise UsageError(
            f"{results} has no known format; give a file that ends in .json, .jsonl (also .gz or .zst), .sqlite, .db "
            "or .parquet"
        ) from None
    return record_file(results).records()


_Place = tuple[int, int]
"""The number of a file, and of a record in it."""


@dataclass(frozen=True)
class Merged:
    """How many records are in the output, and how many gave way to others."""

    kept: int
    failed: int
    left_out: int


def merge(inputs: Sequence[Path], output: Path) -> Merged:
    lock = Lock(output)
    try:
        best, read = _best(inputs)
        chosen = {place for _, _, place in best.values()}
        with as_our_errors(output, "nothing was merged: make room, or give a file elsewhere, and run it again"):
            record_file(output).build(record for place, record in _records(inputs) if place in chosen)
    finally:
        lock.release()
    failed = sum(not ok for _, ok, _ in best.values())
    return Merged(len(best), failed, read - len(best))


def _best(inputs: Sequence[Path]) -> tuple[dict[str, tuple[int, bool, _Place]], int]:
    """For every video the time of its file, whether it is tagged, and its place; and how many records there are."""
    best: dict[str, tuple[int, bool, _Place]] = {}
    settings: tuple[str, Path] | None = None
    read = 0
    for place, record in _records(inputs):
        origin, path = RecordOrigin.of(record), inputs[place[0]]
        settings = settings or (origin.settings, path)
        if origin.settings != settings[0]:
            raise UsageError(
                f"{settings[1]} and {path} were made with other settings "
                f"({difference(settings[0], origin.settings)}); merge only outputs of the same ones"
            )
        this = (origin.mtime_ns, origin.ok, place)
        key = key_of(origin.path)
        best[key] = max(best.get(key, this), this)
        read += 1
    return best, read


def _records(inputs: Sequence[Path]) -> Iterator[tuple[_Place, Record]]:
    for number, path in enumerate(inputs):
        for place, record in enumerate(record_file(path).records()):
            yield (number, place), record
