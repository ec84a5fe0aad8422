"""An output file that is also the record of what is done: a run that was cut short goes on where it ended.

Every record carries what it was made of (`source`) and with which settings, so that the file alone says what need not
be done again; there is nothing beside it that could be lost or disagree (but for Parquet, see parquet.py). How each
format survives being killed is told in lines.py, database.py and parquet.py. A second after they were written, records
are on the disk for good. A file FILE.lock beside it keeps a second run out.

Knows nothing of where results come from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.output.compression import Compression, Gzip, Zstd
from adafocus_cli.output.database import DatabaseFile, DatabaseStore
from adafocus_cli.output.line_formats import CsvLines, Format, JsonLines
from adafocus_cli.output.lines import LineFile, LineStore
from adafocus_cli.output.lock import Lock
from adafocus_cli.output.parquet import ParquetFile, ParquetStore
from adafocus_cli.output.records import Mode, Record, Settings, copied, listed_path, settings_text, with_origin
from adafocus_cli.output.source import Source
from adafocus_cli.output.store import Store, told
from adafocus_cli.schema import Result

__all__ = ["Journal", "Mode", "Source", "check_name", "record_file"]

_SYNC_SECONDS = 1.0

_LINES: dict[str, Callable[[], Format]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": CsvLines}
_COMPRESSIONS: dict[str, Callable[[], Compression]] = {".gz": Gzip, ".zst": Zstd}
_DATABASES = (".sqlite", ".sqlite3", ".db")


Listener = Callable[[Record], None]


class RecordFile(Protocol):
    """A file of records as merging sees it."""

    def records(self) -> Iterator[Record]: ...
    def build(self, records: Iterable[Record]) -> None: ...


class Journal:
    """Written by one thread, and made durable by another."""

    def __init__(
        self,
        path: Path,
        store: Store,
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
            raise UsageError(f"{path} is no regular file, to which a run could come back; give another one")
        lock = Lock(path)
        try:
            with told(path):
                store = _store(path, Settings(settings_text(settings), mode))
        except BaseException:
            lock.release()
            raise
        return cls(path, store, lock, settings, logits=logits, listener=listener)

    def done(self, source: Source, *, retry: bool = False) -> bool:
        """Whether there is a record of this file as it is now; with `retry`, a failure does not count."""
        with self._access:
            known = self._store.known(source.path)
        return known is not None and known.fingerprint == source.fingerprint and (known.ok or not retry)

    def copy(self, source: Source) -> str | None:
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

    def write(self, result: Result, source: Source | None) -> None:
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
                return  # the next one who writes is told

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Nothing more is written after an error, for what is there is complete."""
        if self._broken:
            raise self._broken
        try:
            with told(self._path):
                yield
        except AdaFocusError as error:
            self._broken = error
            raise


def check_name(path: Path) -> None:
    """Refuses a name whose ending says no format, before anything is done."""
    ending, _ = _endings(path)
    if ending not in _LINES and ending not in (*_DATABASES, ".parquet"):
        raise UsageError(
            f"{path}: no format is known by this ending; .jsonl and .csv (each also with .gz or .zst), .parquet, "
            ".sqlite and .db are"
        )


def record_file(path: Path) -> RecordFile:
    """A file by its ending, to be read or written as a whole."""
    check_name(path)
    ending, compression = _endings(path)
    if ending in _LINES:
        return LineFile(path.resolve(), _LINES[ending](), compression() if compression else None)
    return DatabaseFile(path.resolve()) if ending in _DATABASES else ParquetFile(path.resolve())


def _store(path: Path, settings: Settings) -> Store:
    file = record_file(path)
    if isinstance(file, LineFile):
        return LineStore(file, settings)
    return ParquetStore(file, settings) if isinstance(file, ParquetFile) else DatabaseStore(path.resolve(), settings)


def _endings(path: Path) -> tuple[str, Callable[[], Compression] | None]:
    name = path.name.lower()
    ending = Path(name).suffix
    compression = _COMPRESSIONS.get(ending)
    if compression is None:
        return ending, None
    inner = Path(name).with_suffix("").suffix
    return (inner if inner in _LINES else ending), compression
