"""Records in a Parquet file: the columns of CSV with their types, and the whole record as JSON.

Parquet cannot be added to: it is readable only once its end is written. So records go to `FILE.journal.jsonl` beside
it (lines.py says what that survives), and the file is built when the run ends, in its whole, and moved into place.
Then the journal goes away. While there is one, it has everything, and what FILE holds is older.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from adafocus_cli.errors import UsageError
from adafocus_cli.files import replacing
from adafocus_cli.output.line_files import JsonLines, LineFile, LineStore
from adafocus_cli.output.records import COLUMNS, NUMBERS, Known, RecordStore, RunSettings, row_and_record
from adafocus_cli.schema import Record

_AT_ONCE = 1000  # records


class ParquetFile:
    """All rows of a Parquet file, to be read and to be written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(f"{path.name}.journal.jsonl")
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError(f"{path}: Parquet needs a library: pip install pyarrow; or give a .sqlite file") from None
        self._arrow = pyarrow

    def records(self) -> Iterator[Record]:
        if self.beside.exists():
            raise UsageError(
                f"{self.path} is older than {self.beside}, of a run that did not end; run that again, or give that file"
            )
        try:
            with self._arrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_AT_ONCE, columns=["record"]):
                    yield from map(json.loads, batch.column(0).to_pylist())
        except (self._arrow.ArrowException, ValueError) as error:
            raise UsageError(f"{self.path} was not written by adafocus batch ({error}); give another file") from None

    def build(self, records: Iterable[Record]) -> None:
        schema = self._schema()
        rows = (row_and_record(record) for record in records)
        with replacing(self.path) as file, self._arrow.parquet.ParquetWriter(file, schema) as writer:
            while chunk := list(islice(rows, _AT_ONCE)):
                columns = zip(schema, zip(*chunk, strict=True), strict=True)
                arrays = [self._arrow.array(values, field.type) for field, values in columns]
                writer.write_batch(self._arrow.record_batch(arrays, schema=schema))

    def _schema(self) -> Any:
        types = {"INTEGER": self._arrow.int64(), "REAL": self._arrow.float64(), "TEXT": self._arrow.string()}
        return self._arrow.schema([(name, types[NUMBERS.get(name, "TEXT")]) for name in (*COLUMNS, "record")])


class ParquetStore(RecordStore):
    def __init__(self, file: ParquetFile, settings: RunSettings) -> None:
        self._file = file
        self._beside = LineFile(file.beside, JsonLines(), None)
        if settings.mode != "overwrite" and file.path.exists() and not self._beside.path.exists():
            self._beside.build(file.records())
        self._lines = LineStore(self._beside, settings)

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
