"""Records in a SQLite database: a table `videos`, one row a record, with the columns of CSV and the whole record.

Beside it `labels`, `segments` and `looks` have a row for each of these, with the `id` of their video: what is asked for
by label is found without reading records. What survives what is SQLite's promise: rows are committed every second, and
after kill -9, a power loss or a full disk the file has all that was committed and nothing half. A redone record takes
the place of the one before it. Other tables in the same file are left alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from adafocus_cli.errors import UsageError
from adafocus_cli.files import replacing
from adafocus_cli.output.records import (
    COLUMNS,
    NUMBERS,
    Known,
    RecordStore,
    RunSettings,
    best_window,
    key_of,
    parents_in,
    plain_text,
    row_and_record,
)
from adafocus_cli.output.writers import Cell, dumps
from adafocus_cli.schema import Record, path_of

_BUSY_SECONDS = 60.0  # how long a reader may keep the database to itself


class DatabaseFile:
    """All rows of a database, to be read and to be written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self, *, naming: Callable[[str, str | None], bool] | None = None) -> Iterator[Record]:
        """All, or those with a label or a segment for which `naming` is true of its label and parent."""
        with closing(_connect(self.path)) as connection:
            try:
                chosen = "" if naming is None else _chosen(connection, naming)
                for (text,) in connection.execute(f"SELECT record FROM videos {chosen} ORDER BY rowid"):
                    yield json.loads(text)
            except (sqlite3.DatabaseError, ValueError) as error:
                text = f"{self.path} was not written by adafocus batch ({error}); give another file"
                raise UsageError(text) from None

    def build(self, records: Iterable[Record]) -> None:
        with replacing(self.path) as file, closing(_connect(Path(file.name))) as connection:
            connection.execute("PRAGMA journal_mode = OFF")  # what fails is thrown away
            _make_tables(connection, self.path)
            for record in records:
                _insert(connection, record)
            _make_indices(connection)  # last, which is quicker than to keep them in order all the way
            connection.commit()


class DatabaseStore(RecordStore):
    def __init__(self, path: Path, settings: RunSettings) -> None:
        self._settings = settings
        self._connection = _connect(path)
        try:
            self._begin(path)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise UsageError(f"{path} cannot be used as a database ({error}); give another file") from None
        except BaseException:
            self._connection.close()
            raise

    def key(self, path: str) -> str:
        return key_of(plain_text(path))

    def known(self, path: str) -> Known | None:
        found = self._connection.execute(
            "SELECT size, mtime_ns, digest, status FROM videos JOIN temp.names USING (path) "
            "WHERE key = ? AND settings = ?",
            (self.key(path), self._settings.text),
        ).fetchone()
        if found is None:
            return None
        size, time, digest, status = found
        return Known(f"{size}:{time}:{digest}" if digest else "", status == "ok")

    def like(self, digest: str) -> Record | None:
        found = self._connection.execute(
            "SELECT record FROM videos WHERE digest = ? AND settings = ? AND status = 'ok' ORDER BY rowid LIMIT 1",
            (digest, self._settings.text),
        ).fetchone()
        return json.loads(found[0]) if found else None

    def put(self, record: Record) -> None:
        path = plain_text(path_of(record))
        self._connection.execute(
            "DELETE FROM videos WHERE settings = ? AND path != ? "
            "AND path = (SELECT path FROM temp.names WHERE key = ?)",
            (self._settings.text, path, key_of(path)),
        )
        _insert(self._connection, record)
        self._connection.execute("INSERT OR REPLACE INTO temp.names VALUES (?, ?)", (key_of(path), path))

    def prune(self, is_gone: Callable[[str], bool]) -> int:
        rows = self._connection.execute(
            r"SELECT path, settings, CASE WHEN instr(path, '\ud') THEN record END FROM videos"
        )
        gone = [
            (path, settings)
            for path, settings, record in rows
            if is_gone(path if record is None else path_of(json.loads(record)))
        ]
        self._connection.executemany("DELETE FROM videos WHERE path = ? AND settings = ?", gone)
        return len(gone)

    def sync(self) -> None:
        self._connection.commit()

    def finish(self) -> None:
        self.sync()

    def close(self) -> None:
        self._connection.close()

    def _begin(self, path: Path) -> None:
        if self._settings.mode == "overwrite":
            for table in _COLUMNS:
                if table == "videos" or is_ours(self._connection, table):
                    self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        _make_tables(self._connection, path)
        _make_indices(self._connection)
        for (text,) in self._connection.execute("SELECT DISTINCT settings FROM videos"):
            self._settings.are_those_of(text, path)
        self._learn_names()
        self._connection.commit()

    def _learn_names(self) -> None:
        """Which row has which video, in a table that goes when the run ends; of several rows, the last counts."""
        self._connection.execute("CREATE TEMP TABLE names (key TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID")
        rows = self._connection.execute(
            "SELECT path FROM videos WHERE settings = ? ORDER BY rowid", (self._settings.text,)
        )
        names = ((key_of(path), path) for (path,) in rows)
        self._connection.executemany("INSERT OR REPLACE INTO temp.names VALUES (?, ?)", names)
        self._connection.execute(
            "DELETE FROM videos WHERE settings = ? AND path NOT IN (SELECT path FROM temp.names)",
            (self._settings.text,),
        )


def _chosen(connection: sqlite3.Connection, naming: Callable[[str, str | None], bool]) -> str:
    """A condition for videos; none where there are no tables that say what is in them."""
    if not all(is_ours(connection, table) for table in ("labels", "segments")):
        return ""
    names = connection.execute("SELECT label, parent FROM labels UNION SELECT label, parent FROM segments")
    chosen = {(label,) for label, parent in names if naming(label, parent)}
    connection.execute("CREATE TEMP TABLE chosen (label TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT INTO chosen VALUES (?)", chosen)
    parts = (f"SELECT video FROM {table} JOIN temp.chosen USING (label)" for table in ("labels", "segments"))
    return f"WHERE id IN ({' UNION '.join(parts)})"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")  # what belongs to a video goes with it
    return connection


# The columns of each table, those that others refer to last: so they can be removed in this order. What belongs to a
# video is numbered in the first column after `video`.
_COLUMNS = {
    "labels": (
        *("video INTEGER", "rank INTEGER", "label TEXT", "class INTEGER", "score REAL", "parent TEXT"),
        *("start REAL", "end REAL", "looks TEXT"),
    ),
    "segments": (
        *("video INTEGER", "number INTEGER", "label TEXT", "class INTEGER", "score REAL", "parent TEXT"),
        *("start REAL", "end REAL"),
    ),
    "looks": (
        *("video INTEGER", "step INTEGER", "frame INTEGER", "time REAL"),
        *("left REAL", "top REAL", "right REAL", "bottom REAL"),
    ),
    "videos": ("id INTEGER", *(f"{name} {NUMBERS.get(name, 'TEXT')}" for name in COLUMNS), "record TEXT"),
}
_INDICES = {
    "videos_by_digest": "videos (digest)",
    **{f"{table}_by_label": f"{table} (label, parent, score)" for table in ("labels", "segments")},
    **{f"{table}_by_parent": f"{table} (parent, label, score)" for table in ("labels", "segments")},
}


def is_ours(connection: sqlite3.Connection, table: str) -> bool:
    """Whether there is such a table, with the columns that are written now."""
    found = [f"{name} {kind}" for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")]
    return found == list(_COLUMNS[table])


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    for table, columns in _COLUMNS.items():
        number = columns[1].partition(" ")[0]
        keys = f"PRIMARY KEY (video, {number}), FOREIGN KEY (video) REFERENCES videos (id) ON DELETE CASCADE"
        ending = f"{keys}) WITHOUT ROWID"
        if table == "videos":
            ending = "PRIMARY KEY (id), UNIQUE (path, settings))"
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, {ending}")
        if not is_ours(connection, table):
            raise UsageError(
                f"{path} has a table {table} with other columns than adafocus gives it; give another file, or make "
                f"one of its records: adafocus merge {path} -o NEW.sqlite"
            )


def _make_indices(connection: sqlite3.Connection) -> None:
    for name, what in _INDICES.items():
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {what}")


def _insert(connection: sqlite3.Connection, record: Record) -> None:
    row = row_and_record(record)
    names = ", ".join((*COLUMNS, "record"))
    places = ", ".join("?" * len(row))
    connection.execute("DELETE FROM videos WHERE path = ? AND settings IS ?", (row[0], row[COLUMNS.index("settings")]))
    video = connection.execute(f"INSERT INTO videos ({names}) VALUES ({places})", row).lastrowid
    if record["status"] != "ok":
        return
    for table, rows in (("labels", _labels(record)), ("segments", _segments(record)), ("looks", _looks(record))):
        places = ", ".join("?" * len(_COLUMNS[table]))
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", ([video, *row] for row in rows))


def _labels(record: Record) -> Iterator[Sequence[Cell]]:
    """Of a video in windows, with the time of the window that each is best in."""
    for rank, tag in enumerate(record["labels"]):
        start, end = best_window(record, tag) or (None, None)
        looks, parent = tag.get("looks"), tag.get("parent")
        name, wider = plain_text(tag["label"]), None if parent is None else plain_text(parent)
        yield rank, name, tag["index"], tag["score"], wider, start, end, None if looks is None else dumps(looks)


def _segments(record: Record) -> Iterator[Sequence[Cell]]:
    parents = parents_in(record)
    for number, each in enumerate(record.get("segments") or ()):
        parent = parents.get(each["label"])
        name, wider = plain_text(each["label"]), None if parent is None else plain_text(parent)
        yield number, name, each["index"], each["score"], wider, each["start"], each["end"]


def _looks(record: Record) -> Iterator[Sequence[Cell]]:
    for look in record["trajectory"]:
        yield look["step"], look["frame"], look["time"], *look["box"]
