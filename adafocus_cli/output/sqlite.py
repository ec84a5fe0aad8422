"""Records in a SQLite database: a table `videos`, one row a record, with the columns of CSV and the whole record.

What survives what is SQLite's promise: rows are committed every second, and after kill -9, a power loss or a full disk
the file has all that was committed and nothing half. A redone record takes the place of the one before it. Other tables
in the same file are left alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
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
    key_of,
    plain_text,
    row_and_record,
)
from adafocus_cli.schema import Record, path_of

_BUSY_SECONDS = 60.0  # how long a reader may keep the database to itself


class DatabaseFile:
    """All rows of a database, to be read and to be written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> Iterator[Record]:
        with closing(_connect(self.path)) as connection:
            for (text,) in connection.execute("SELECT record FROM videos ORDER BY rowid"):
                yield json.loads(text)

    def build(self, records: Iterable[Record]) -> None:
        with replacing(self.path) as file, closing(_connect(Path(file.name))) as connection:
            connection.execute("PRAGMA journal_mode = OFF")  # what fails is thrown away
            _make_table(connection)
            for record in records:
                _insert(connection, record)
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
            self._connection.execute("DROP TABLE IF EXISTS videos")
        _make_table(self._connection)
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


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)


def _make_table(connection: sqlite3.Connection) -> None:
    columns = ", ".join(f"{name} {NUMBERS.get(name, 'TEXT')}" for name in COLUMNS)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS videos ({columns}, record TEXT NOT NULL, PRIMARY KEY (path, settings))"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS videos_by_digest ON videos (digest)")


def _insert(connection: sqlite3.Connection, record: Record) -> None:
    places = ", ".join("?" * (len(COLUMNS) + 1))
    connection.execute(f"INSERT OR REPLACE INTO videos VALUES ({places})", row_and_record(record))
