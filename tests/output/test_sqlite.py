"""The tables beside `videos`: labels, segments and looks as rows that can be asked for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.output.journal import merge
from adafocus_cli.schema import Tag
from tests.output.made_up import failed, in_windows, tagged
from tests.output.test_journal import journal, paths, source, write

PUG = Tag("pug", 254, 0.9, parent="dog", looks=(1, 3))


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def counts(path: Path) -> list[int]:
    return [rows(path, f"SELECT count(*) FROM {table}")[0][0] for table in ("videos", "labels", "segments", "looks")]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "tags.sqlite"
    first, *others = in_windows().windows
    film = in_windows("film.mp4", windows=(replace(first, labels=(replace(first.labels[0], parent="sport"),)), *others))
    with journal(path) as output:
        output.write(film, source("film.mp4"))
        output.write(tagged("dog.mp4", labels=(PUG,)), source("dog.mp4"))
        output.write(failed("bad.mp4"), None)
    return path


def test_labels_have_rows_with_the_time_of_their_best_window(database: Path) -> None:
    query = (
        "SELECT path, rank, l.label, class, l.score, parent, start, end, looks FROM labels l JOIN videos ON video = id"
    )
    found = {(path, rank): rest for path, rank, *rest in rows(database, query)}
    assert found["film.mp4", 1] == ["Playing the accordion", 3, 0.0412, None, 2.5, 7.5, None]
    assert found["dog.mp4", 0] == ["pug", 254, 0.9, "dog", None, None, "[1, 3]"]
    assert len(found) == 4


def test_segments_have_rows_with_the_parents_that_the_record_tells_elsewhere(database: Path) -> None:
    query = "SELECT number, label, class, score, parent, start, end FROM segments ORDER BY video, number"
    assert rows(database, query) == [
        (0, "Arm wrestling", 2, 0.9, "sport", 0.0, 3.75),
        (1, "Sumo", 4, 0.85, None, 6.25, 10.0),
    ]


def test_looks_have_rows_that_labels_name_by_their_steps(database: Path) -> None:
    query = (
        'SELECT step, frame, time, "left", top, "right", bottom FROM labels, json_each(looks) JOIN looks USING (video)'
        " WHERE label = 'pug' AND step = json_each.value"
    )
    assert rows(database, query) == [(1, 17, 0.9, 58, 16, 202, 160), (3, 51, 2.1, 138, 16, 282, 160)]


def test_what_belongs_to_a_record_goes_with_it(database: Path) -> None:
    before = counts(database)
    with journal(database) as output:
        output.write(failed("film.mp4"), source("film.mp4", "changed"))
    assert counts(database) == [before[0], 1, 0, 16]
    with journal(database) as output:
        assert output.prune(lambda path: path == "dog.mp4") == 1
    assert counts(database) == [2, 0, 0, 0]
    with journal(database, "overwrite", top_k="3") as output:
        output.write(in_windows("film.mp4"), source("film.mp4"))
    assert counts(database) == [1, 3, 2, 6]


def test_merging_makes_the_rows_too(database: Path, tmp_path: Path) -> None:
    write(tmp_path / "more.jsonl", "a.mp4")
    merge([database, tmp_path / "more.jsonl"], tmp_path / "all.db")
    assert counts(tmp_path / "all.db") == [4, 7, 2, 16 + 6 + 16]


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_a_table_of_others_is_left_alone_and_told_of(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "tags.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE labels (colour TEXT)")
    with pytest.raises(UsageError, match=r"has a table labels .* give another file, or .* adafocus merge"):
        journal(path, mode)
    assert rows(path, "SELECT * FROM labels") == []


def test_a_database_without_these_tables_is_told_how_to_get_them(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE videos RENAME COLUMN id TO number")
        connection.commit()
    with pytest.raises(UsageError, match="adafocus merge"):
        journal(database)
    merge([database], tmp_path / "new.sqlite")
    assert sorted(paths(tmp_path / "new.sqlite")) == ["bad.mp4", "dog.mp4", "film.mp4"]
