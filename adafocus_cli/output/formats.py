"""The writers, by the name of their format."""

from __future__ import annotations

from adafocus_cli.output.base import Writer
from adafocus_cli.output.csv_rows import CsvWriter
from adafocus_cli.output.json_records import JsonLinesWriter, JsonWriter
from adafocus_cli.output.table import TableWriter

WRITERS: dict[str, type[Writer]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
}
