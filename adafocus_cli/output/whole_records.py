"""What `classify` or `batch` wrote, read back record by record, where nothing of a record may be missing.

Knows nothing of what it is read for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adafocus_cli.errors import UsageError
from adafocus_cli.output.csv_rows import PATCH_COLUMNS, VIDEO_COLUMNS, line_of
from adafocus_cli.output.journal import check_name, record_file
from adafocus_cli.output.records import Origin, Record, is_flat

_LONGEST = 1 << 26  # bytes of a line: a film of many hours has a long one


def whole_records(results: Path) -> Iterator[Record]:
    """Unlike a record file, also the array of `classify -f json`; never CSV, which has only a part of each record."""
    entries: Iterable[Any] = _array(results) if results.suffix.lower() == ".json" else _lines_or_rows(results)
    for place, record in enumerate(entries):
        try:
            Origin.of(record)
        except (ValueError, AttributeError, TypeError):
            raise no_record(results, place) from None
        if is_flat(record):
            raise UsageError(f"{results}: CSV has only a part of each record; give a .jsonl file")
        yield record


# How what `classify` writes begins: lines, an array, one without videos, and tables of videos and of patches.
_BEGINNINGS = (
    b'{"schema": "adafocus/1", ',
    b'[\n{"schema": "adafocus/1", ',
    b"[]\n",
    line_of(VIDEO_COLUMNS).encode(),
    line_of(PATCH_COLUMNS).encode(),
)


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuses to replace a file that `classify` has not written, such as notes, or the output of `batch`."""
    if overwrite or not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        line = file.readline(_LONGEST)
        start = line + file.readline(_LONGEST)
    if start.startswith(_BEGINNINGS) and not _is_of_batch(line):
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


def no_record(results: Path, place: int) -> UsageError:
    return UsageError(f"{results}: entry {place + 1} is no record of adafocus; take it out, or give another file")


def _lines_or_rows(results: Path) -> Iterator[Record]:
    try:
        check_name(results)
    except UsageError:
        raise UsageError(
            f"{results}: no results are known by this ending; .json, .jsonl (also with .gz or .zst), .sqlite, .db and "
            ".parquet are"
        ) from None
    return record_file(results).records()


def _array(results: Path) -> list[Any]:
    try:
        entries = json.loads(results.read_bytes())
    except ValueError:
        entries = None
    if not isinstance(entries, list):
        raise UsageError(f"{results} is not a list of records; give a file that classify has written")
    return entries
