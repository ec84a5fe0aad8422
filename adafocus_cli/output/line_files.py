"""Files of lines, JSON or CSV, plain or compressed, to which records are added at the end; and files built of such.

What survives what. A record is written in one go behind the last one. If that is cut short by kill -9, a power loss or
a full disk, the file ends in half a record: it is cut off, at once or by the next run that opens the file, and that
video is tagged again. Compressed files get a complete piece of all records of a second, and are cut between pieces;
what is left of half a piece is written again. A redone record is added too, and the last one of a file counts; the one
before it is taken out when the file is closed, or opened after a crash and closed, by writing the file anew in its
whole and moving it into place.

A JSON array and Parquet cannot be added to: they are readable only once their end is written. So records go to
`FILE.journal.jsonl` beside the file, which is built when the run ends, in its whole, and moved into place. Then the
journal goes away. While there is one, it has everything, and what FILE holds is older.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import replacing, sync_folder
from adafocus_cli.output.records import (
    COLUMNS,
    Known,
    RecordOrigin,
    RecordStore,
    RunSettings,
    flat,
    is_flat,
    key_of,
    with_plain_path,
)
from adafocus_cli.output.texts import cell, is_exact, without_mark
from adafocus_cli.output.writers import dumps, line_of
from adafocus_cli.schema import Record

_CHUNK = 1 << 16


class Piece(NamedTuple):
    """What was compressed in one go; if it is not `whole`, as much of it as can be had."""

    offset: int
    end: int
    content: bytes
    whole: bool


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class FileCompression(ABC):
    magic: bytes
    error: type[Exception]

    @abstractmethod
    def compress(self, content: bytes) -> bytes: ...

    @abstractmethod
    def decompressor(self) -> _Decompressor: ...

    def pieces(self, file: IO[bytes], offset: int = 0) -> Iterator[Piece]:
        """From an offset where a piece begins; after one that is not whole there are no more."""
        file.seek(offset)
        rest = b""
        while rest := rest or file.read(_CHUNK):
            decompressor, content, taken = self.decompressor(), [], 0
            try:
                while rest:
                    content.append(decompressor.decompress(rest))
                    taken += len(rest)
                    rest = b"" if decompressor.eof else file.read(_CHUNK)
            except self.error:
                pass
            rest = decompressor.unused_data if decompressor.eof else b""
            end = offset + taken - len(rest)
            yield Piece(offset, end, b"".join(content), decompressor.eof)
            if not decompressor.eof:
                return
            offset = end


class Gzip(FileCompression):
    magic = b"\x1f\x8b"
    error = zlib.error

    def compress(self, content: bytes) -> bytes:
        return gzip.compress(content, mtime=0)

    def decompressor(self) -> _Decompressor:
        return zlib.decompressobj(wbits=31)


class Zstd(FileCompression):
    magic = b"\x28\xb5\x2f\xfd"

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise UsageError("zstd needs a library: pip install zstandard; or give a name that ends in .gz") from None
        self._library: Any = zstandard
        self.error = zstandard.ZstdError

    def compress(self, content: bytes) -> bytes:
        compressed: bytes = self._library.ZstdCompressor().compress(content)
        return compressed

    def decompressor(self) -> _Decompressor:
        decompressor: _Decompressor = self._library.ZstdDecompressor().decompressobj()
        return decompressor


class LineFormat(ABC):
    """How a record becomes a line."""

    header = b""
    beginning = b""
    """What every file of ours begins with."""

    @abstractmethod
    def encode(self, record: Record) -> bytes: ...

    @abstractmethod
    def decode(self, line: bytes) -> Record:
        """Raises ValueError if this is not a whole record."""

    def lines(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """One for each record, from lines as a file has them."""
        yield from content

    def path(self, path: str) -> str:
        """As it is after writing and reading, or as near to it as the format has it."""
        return path

    def is_exact(self, path: str) -> bool:
        """Whether a path that was read is that of the file."""
        return True


class JsonLines(LineFormat):
    beginning = b'{"schema": "adafocus/1", '

    def encode(self, record: Record) -> bytes:
        if is_flat(record):
            raise UsageError("CSV has only a part of each record; give an output file that ends in .csv")
        return (dumps(with_plain_path(record)) + "\n").encode()

    def decode(self, line: bytes) -> Record:
        if not line.endswith(b"\n"):
            raise ValueError("not a whole record")
        record: Record = json.loads(line)
        RecordOrigin.of(record)
        return record


class CsvLines(LineFormat):
    header = beginning = line_of(COLUMNS).encode()

    def encode(self, record: Record) -> bytes:
        row = flat(record)
        return line_of([row.get(column) for column in COLUMNS]).encode()

    def decode(self, line: bytes) -> Record:
        try:
            rows = list(csv.reader(io.StringIO(line.decode(), newline="")))
        except csv.Error as error:  # Python 3.10 takes no zeros
            raise ValueError(str(error)) from None
        if not line.endswith(b"\n") or len(rows) != 1 or len(rows[0]) != len(COLUMNS):
            raise ValueError("not a whole row")
        record = dict(zip(COLUMNS, rows[0], strict=True))
        RecordOrigin.of(record)
        return record

    def lines(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """A line feed inside quotes belongs to the row."""
        row = b""
        for line in content:
            row += line
            if row.count(b'"') % 2 == 0:
                yield row
                row = b""
        if row:
            yield row

    def path(self, path: str) -> str:
        return without_mark(cell(path))

    def is_exact(self, path: str) -> bool:
        return is_exact(path)


_AT_ONCE = 1000  # records in one compressed piece, where a whole file is written


class Spot(NamedTuple):
    """Where a line is: the offset of its piece, and its place in it."""

    offset: int
    place: int


class _Line(NamedTuple):
    spot: Spot
    line: bytes
    end: int
    """Where its piece ends; 0 if that is not whole."""


class _Entry(NamedTuple):
    known: Known
    spot: Spot


class LineFile:
    """The lines of a file, to be read and to be written whole."""

    def __init__(self, path: Path, format_: LineFormat, compression: FileCompression | None) -> None:
        self.path = path
        self.format = format_
        self.compression = compression

    def records(self, *, skip: Callable[[bytes], bool] | None = None) -> Iterator[Record]:
        """Without those whose lines are to be skipped, which are not decoded."""
        return (record for _, record in self.whole_lines(skip=skip) if record is not None)

    def build(self, records: Iterable[Record]) -> None:
        self.write_whole(self.format.encode(record) for record in records)

    def write_whole(self, lines: Iterable[bytes]) -> None:
        lines = iter(lines)
        with replacing(self.path) as file:
            piece = self.format.header
            while piece or (piece := b"".join(islice(lines, _AT_ONCE))):
                file.write(self.compression.compress(piece) if self.compression else piece)
                piece = b""
        sync_folder(self.path)

    def whole_lines(self, *, skip: Callable[[bytes], bool] | None = None) -> Iterator[tuple[_Line, Record | None]]:
        """With the record of each; the header and what is skipped have none. Half a record may be at the end only."""
        torn: _Line | None = None
        is_ours = False
        for found in self.lines():
            try:
                is_left_out = found.line == self.format.header or (skip is not None and skip(found.line))
                record = None if is_left_out else self.format.decode(found.line)
            except ValueError:
                torn = torn or found
                continue
            if torn:
                raise AdaFocusError(
                    f"{self.path}: what is at byte {torn.spot.offset} is not a record, and there are more after it; "
                    "take it out by hand, or give another file"
                )
            is_ours = True
            yield found, record
        if not is_ours:
            self._check_is_ours(torn)

    def _check_is_ours(self, torn: _Line | None) -> None:
        """It may be half a first record, but not something else."""
        magic = self.compression.magic if self.compression else b""
        with self.path.open("rb") as file:
            start = file.read(len(magic))
        first = torn.line if torn and torn.end else b""  # what comes out of half a piece may be wrong
        if not (_is_beginning(start, magic) and _is_beginning(first, self.format.beginning)):
            raise UsageError(
                f"{self.path} was not written by adafocus batch; give another file (batch --overwrite replaces it)"
            )

    def lines(self, offset: int = 0) -> Iterator[_Line]:
        """From an offset where a piece begins; the header is one of them."""
        with self.path.open("rb") as file:
            if self.compression:
                for piece in self.compression.pieces(file, offset):
                    end = piece.end if piece.whole else 0
                    for index, line in enumerate(self.format.lines(io.BytesIO(piece.content))):
                        yield _Line(Spot(piece.offset, index), line, end)
            else:
                file.seek(offset)
                for line in self.format.lines(file):
                    yield _Line(Spot(offset, 0), line, offset + len(line))
                    offset += len(line)


class BuiltFile(Protocol):
    """A file that cannot be added to: it is built when a run ends, of what is in `beside` until then."""

    @property
    def path(self) -> Path: ...
    @property
    def beside(self) -> Path: ...
    def records(self) -> Iterator[Record]: ...
    def build(self, records: Iterable[Record]) -> None: ...


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal.jsonl")


def check_is_built(file: BuiltFile) -> None:
    """Refuses a file that is older than what lies beside it."""
    if file.beside.exists():
        raise UsageError(
            f"{file.path} is older than {file.beside}, of a run that did not end; run that again, or give that file"
        )


class ArrayFile:
    """A JSON array of records: a line for each, as it is written here and by `classify -f json`, or in any form."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = beside(path)

    def records(self, *, skip: Callable[[bytes], bool] | None = None) -> Iterator[Record]:
        """Without those whose lines are to be skipped, which are not decoded; in another form there are no lines."""
        check_is_built(self)
        with self.path.open("rb") as file:
            entries = self._by_line(file, skip) if file.read(len(_ARRAY_START)) == _ARRAY_START else self._whole()
            try:
                yield from entries
            except ValueError:
                raise UsageError(
                    f"{self.path} is not a list of records, as classify and batch write it; give another file"
                ) from None

    def build(self, records: Iterable[Record]) -> None:
        lines = map(JsonLines().encode, records)
        with replacing(self.path) as file:
            file.write(b"[")
            for number, line in enumerate(lines):
                file.write((b",\n" if number else b"\n") + line.rstrip(b"\n"))
            file.write(b"\n]\n")
        sync_folder(self.path)

    def _by_line(self, file: IO[bytes], skip: Callable[[bytes], bool] | None) -> Iterator[Record]:
        file.seek(_ARRAY_START.index(b"{"))
        entry = b""
        for line in file:
            entry = line.rstrip(b",\n")
            if entry != b"]" and not (skip is not None and skip(line)):
                yield json.loads(entry)
        if entry != b"]":
            raise ValueError("the array has no end")

    def _whole(self) -> Iterator[Record]:
        entries = json.loads(self.path.read_bytes())
        if not isinstance(entries, list):
            raise ValueError("not an array")
        yield from entries


_ARRAY_START = b"[\n" + JsonLines.beginning


class BuiltStore(RecordStore):
    """The store of a file that is built; while there is a journal beside it, that has everything."""

    def __init__(self, file: BuiltFile, settings: RunSettings) -> None:
        self._file = file
        self._beside = LineFile(file.beside, JsonLines(), None)
        begins = settings.mode != "overwrite" and file.path.exists() and not self._beside.path.exists()
        if begins:
            self._beside.build(file.records())
        try:
            self._lines = LineStore(self._beside, settings, called=file.path)
        except BaseException:
            if begins:  # else the file would seem to be older than a run that never was
                self._beside.path.unlink()
            raise

    def known(self, path: str) -> Known | None:
        return self._lines.known(path)

    def like(self, digest: str) -> Record | None:
        return self._lines.like(digest)

    def put(self, record: Record) -> None:
        self._lines.put(record)

    def prune(self, is_gone: Callable[[str], bool]) -> int:
        return self._lines.prune(is_gone)

    def sync(self) -> None:
        self._lines.sync()

    def finish(self) -> None:
        self._lines.finish()
        self._file.build(self._beside.records())
        self._lines.close()
        self._beside.path.unlink()

    def close(self) -> None:
        self._lines.close()


class LineStore(RecordStore):
    def __init__(self, file: LineFile, settings: RunSettings, *, called: Path | None = None) -> None:
        """`called` is the file that was asked for, if this one only stands in for it."""
        self._file = file
        self._called = called or file.path
        self._format = file.format
        self._settings = settings
        self._entries: dict[str, _Entry] = {}
        self._by_digest: dict[str, str] = {}
        self._removed: set[tuple[str, str]] = set()
        self._stale = False
        self._end = 0
        self._waiting: list[bytes] = []  # lines of the next compressed piece
        descriptor = os.open(file.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self._stream = io.FileIO(descriptor, "r+")
        try:
            self._begin()
        except BaseException:
            self._stream.close()
            raise

    def key(self, path: str) -> str:
        return key_of(self._format.path(path))

    def known(self, path: str) -> Known | None:
        entry = self._entries.get(self.key(path))
        return entry.known if entry else None

    def like(self, digest: str) -> Record | None:
        key = self._by_digest.get(digest)
        return self._format.decode(self._line_at(self._entries[key].spot)) if key is not None else None

    def put(self, record: Record) -> None:
        line, origin = self._format.encode(record), RecordOrigin.of(record)
        before = self._entries.get(self.key(origin.path))
        if before and self._line_at(before.spot) == line:
            return
        self._add(line, origin)

    def prune(self, is_gone: Callable[[str], bool]) -> int:
        self.sync()
        before = len(self._removed)
        for found in self._file.records():
            origin = RecordOrigin.of(found)
            path = self._format.path(origin.path)
            if self._format.is_exact(path) and is_gone(path):
                key = self.key(path)
                self._removed.add((key, origin.settings))
                if entry := self._entries.pop(key, None):
                    self._forget_digest(key, entry)
        self._stale = self._stale or len(self._removed) > before
        return len(self._removed) - before

    def sync(self) -> None:
        self._write_waiting()
        os.fsync(self._stream.fileno())

    def finish(self) -> None:
        self.sync()
        if self._stale:
            self._stream.close()  # Windows replaces no file that is open
            self._file.write_whole(found.line for found in self._file.lines() if self._is_current(found))

    def close(self) -> None:
        self._stream.close()

    def _begin(self) -> None:
        if self._settings.mode == "overwrite":
            self._stream.truncate(0)
        unfinished = self._learn()
        self._cut(self._end)
        if self._format.header and not self._end:
            self._append(self._packed(self._format.header))
        for line, origin in unfinished:
            self._add(line, origin)
        self.sync()
        sync_folder(self._file.path)

    def _learn(self) -> list[tuple[bytes, RecordOrigin]]:
        """What is in the file, and where its last whole piece ends; the whole lines of one that is not."""
        unfinished: list[tuple[bytes, RecordOrigin]] = []
        for found, record in self._file.whole_lines():
            self._end = found.end or self._end
            if record is not None:
                origin = RecordOrigin.of(record)
                if found.end:
                    self._remember(origin, found.spot)
                else:
                    unfinished.append((found.line, origin))
        return unfinished

    def _add(self, line: bytes, origin: RecordOrigin) -> None:
        if self._file.compression:
            spot = Spot(self._end, len(self._waiting))
            self._waiting.append(line)
        else:
            spot = Spot(self._end, 0)
            self._append(line)
        self._remember(origin, spot)

    def _remember(self, origin: RecordOrigin, spot: Spot) -> None:
        if not self._settings.are_those_of(origin.settings, self._called):
            return
        key = self.key(origin.path)
        if before := self._entries.get(key):
            self._stale = True
            self._forget_digest(key, before)
        self._entries[key] = _Entry(Known(origin.fingerprint, origin.ok), spot)
        if origin.ok and origin.digest:
            self._by_digest.setdefault(origin.digest, key)

    def _forget_digest(self, key: str, entry: _Entry) -> None:
        digest = entry.known.fingerprint.rpartition(":")[2]
        if self._by_digest.get(digest) == key:
            del self._by_digest[digest]

    def _is_current(self, found: _Line) -> bool:
        if found.line == self._format.header:
            return False
        origin = RecordOrigin.of(self._format.decode(found.line))
        key = self.key(origin.path)
        if origin.settings != self._settings.text:
            return (key, origin.settings) not in self._removed
        entry = self._entries.get(key)
        return entry is not None and entry.spot == found.spot

    def _line_at(self, spot: Spot) -> bytes:
        if self._file.compression and spot.offset == self._end:
            return self._waiting[spot.place]
        return next(islice(self._file.lines(spot.offset), spot.place, None)).line

    def _packed(self, content: bytes) -> bytes:
        return self._file.compression.compress(content) if self._file.compression else content

    def _write_waiting(self) -> None:
        if self._waiting:
            self._append(self._packed(b"".join(self._waiting)))
            self._waiting.clear()

    def _append(self, content: bytes) -> None:
        """All of it or nothing."""
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[self._stream.write(rest) :]
        except BaseException:
            with suppress(OSError):
                self._cut(self._end)
            raise
        self._end += len(content)

    def _cut(self, end: int) -> None:
        self._stream.truncate(end)
        self._stream.seek(end)


def _is_beginning(content: bytes, whole: bytes) -> bool:
    """As far as both go; a power loss may have left zeros."""
    return whole.startswith(content.rstrip(b"\0")[: len(whole)])
