"""Several outputs as one: every video once, by its newest record.

Of two records of a path the one of the newer file counts; of the same file, the tagged one; else the one that is given
last. Knows files only as records in, records out, and reads each twice: what it keeps is a place for every path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adafocus_cli.errors import UsageError
from adafocus_cli.output.journal import record_file
from adafocus_cli.output.lock import Lock
from adafocus_cli.output.records import Origin, Record, difference
from adafocus_cli.output.source import key_of
from adafocus_cli.output.store import told

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
        with told(output, "nothing was merged: make room, or give a file elsewhere, and run it again"):
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
        origin, path = Origin.of(record), inputs[place[0]]
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
