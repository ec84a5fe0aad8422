"""Records on their way into a file and back: with what they were made of, copied to a twin, or flat as a row.

Knows nothing of files. A record is the dict that becomes JSON; one that was read from CSV is flat, a row by its
columns, and has less in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adafocus_cli.errors import UsageError
from adafocus_cli.output.csv_rows import VIDEO_COLUMNS, Cell, row_of
from adafocus_cli.output.escape import without_mark
from adafocus_cli.output.json_records import dumps
from adafocus_cli.output.source import Source
from adafocus_cli.schema import path_fields, path_of

Record = dict[str, Any]
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


def with_origin(record: Record, source: Source | None, settings: Mapping[str, str]) -> Record:
    made_of = None if source is None else _source_field(source)
    return {**record, "source": made_of, "settings": dict(sorted(settings.items()))}


def copied(record: Record, source: Source) -> Record:
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
    """A row of `COLUMNS`; raises ValueError if this is no record at all."""
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


def plain_text(text: str) -> str:
    """Bytes of a file name that are no text are spelled as JSON spells them."""
    return text.encode("utf-8", "backslashreplace").decode()


def settings_text(settings: Mapping[str, str]) -> str:
    return dumps(dict(sorted(settings.items())))


@dataclass(frozen=True)
class Origin:
    """What tells one record from another, and whether it is still true."""

    path: str
    ok: bool
    settings: str
    fingerprint: str
    digest: str
    mtime_ns: int

    @classmethod
    def of(cls, record: Record) -> Origin:
        row = flat(record)
        if row.get("status") not in ("ok", "error"):
            raise ValueError("not a record")
        digest, time = str(row.get("digest") or ""), row.get("mtime_ns") or 0
        fingerprint = f"{row.get('size')}:{time}:{digest}" if digest else ""
        settings = str(row.get("settings") or "")
        return cls(listed_path(record), row["status"] == "ok", settings, fingerprint, digest, int(time))


@dataclass(frozen=True)
class Settings:
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
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name, 'not set')} and is {new.get(name, 'not set')}" for name in changed)


def _source_field(source: Source) -> dict[str, Any]:
    return {"size": source.size, "mtime_ns": source.mtime_ns, "digest": source.digest}
