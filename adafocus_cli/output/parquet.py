"""Records in a Parquet file: the columns of CSV with their types, and the whole record as JSON.

It is built when a run ends; line_files.py says how, and what survives what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from adafocus_cli.errors import UsageError
from adafocus_cli.files import replacing
from adafocus_cli.output.line_files import beside, check_is_built
from adafocus_cli.output.records import COLUMNS, NUMBERS, row_and_record
from adafocus_cli.schema import Record

_AT_ONCE = 1000  # records


class ParquetFile:
    """All rows of a Parquet file, to be read and to be written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = beside(path)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError(f"{path}: Parquet needs a library: pip install pyarrow; or give a .sqlite file") from None
        self._arrow = pyarrow

    def records(self) -> Iterator[Record]:
        check_is_built(self)
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
