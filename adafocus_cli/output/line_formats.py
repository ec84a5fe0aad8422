"""Records as lines of JSON or CSV, and back.

Knows nothing of files, but where in one a line ends.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from adafocus_cli.errors import UsageError
from adafocus_cli.output.csv_rows import line_of
from adafocus_cli.output.escape import cell, is_exact, without_mark
from adafocus_cli.output.json_records import dumps
from adafocus_cli.output.records import COLUMNS, Origin, Record, flat, is_flat, with_plain_path


class Format(ABC):
    """How a record becomes a line."""

    header = b""
    beginning = b""
    """What every file of ours begins with."""

    @abstractmethod
    def encode(self, record: Record) -> bytes: ...

    @abstractmethod
    def decode(self, line: bytes) -> Record:
        """Raises ValueError if this is no whole record."""

    def lines(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """One for each record, from lines as a file has them."""
        yield from content

    def path(self, path: str) -> str:
        """As it is after writing and reading, or as near to it as the format has it."""
        return path

    def is_exact(self, path: str) -> bool:
        """Whether a path that was read is that of the file."""
        return True


class JsonLines(Format):
    beginning = b'{"schema": "adafocus/1", '

    def encode(self, record: Record) -> bytes:
        if is_flat(record):
            raise UsageError("CSV has only a part of each record; give an output file that ends in .csv")
        return (dumps(with_plain_path(record)) + "\n").encode()

    def decode(self, line: bytes) -> Record:
        if not line.endswith(b"\n"):
            raise ValueError("not a whole record")
        record: Record = json.loads(line)
        Origin.of(record)
        return record


class CsvLines(Format):
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
        Origin.of(record)
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
