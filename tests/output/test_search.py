"""What is found in files of records: the same in every format, and nothing that a later record has replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.output.journal import record_file
from adafocus_cli.output.search import Hit, Query, Search, hits_of
from adafocus_cli.schema import PatchBox, Segment, Tag
from tests.output.made_up import LABELS, failed, in_windows, tagged
from tests.output.test_journal import SETTINGS, journal, source

PUG = Tag("pug", 254, 0.9, parent="dog", looks=(1, 3))
WHOLE = ["jsonl", "jsonl.gz", "json", "sqlite", "parquet"]


def fill(path: Path) -> Path:
    with journal(path) as output:
        output.write(tagged("videos/a.mp4"), source("a"))
        output.write(tagged("videos/may/dog.mp4", labels=(PUG,), duration=60.0), source("dog"))
        output.write(failed("videos/bad.mp4"), None)
        output.write(in_windows("film.mp4"), source("film"))
    return path


@pytest.fixture(params=[*WHOLE, "csv"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return fill(tmp_path / f"tags.{request.param}")


def found(*results: Path, **query: Any) -> list[tuple[str, str]]:
    return [(hit.path, hit.label) for video in Search(results, Query(**query)).videos for hit in video.hits]


def test_a_part_of_a_label_is_found_in_every_format(results: Path) -> None:
    assert found(results, text="WREST") == [("videos/a.mp4", "Arm wrestling"), ("film.mp4", "Arm wrestling")]
    of_segment = [] if results.suffix == ".csv" else [("film.mp4", "Sumo")]
    assert found(results, text="sumo", min_score=0.5) == of_segment
    assert found(results, text="pug", folder="videos/may") == [("videos/may/dog.mp4", "pug")]
    assert found(results, folder="videos/june") == []
    assert found(results, min_duration=60) == found(results, text="PUG", max_duration=60)


def test_a_parent_is_found_where_records_are_whole(results: Path) -> None:
    wanted = [] if results.suffix == ".csv" else [("videos/may/dog.mp4", "pug")]
    assert (
        found(results, text="dog") == found(results, parent="Dog") == found(results, text="ug", parent="dog") == wanted
    )
    assert found(results, text="wrestling", parent="dog") == []


def test_what_was_not_found_is_told_with_the_nearest_name(results: Path) -> None:
    error = Search([results], Query(text="arm wresling")).nothing()
    assert str(error) == f"no hit for 'arm wresling' in {results}; the nearest name is 'Arm wrestling'"
    assert "fewer filters" in str(Search([results], Query(text="sumo", min_duration=99)).nothing())


def test_a_segment_is_a_hit_with_the_looks_made_meanwhile() -> None:
    (hit,) = hits_of(in_windows("film.mp4").to_dict(), Query(text="sumo"))
    assert (hit.start, hit.end, hit.score) == (6.25, 10.0, 0.85)
    (first,) = hits_of(in_windows("film.mp4").to_dict(), Query(text="arm"))
    assert {look.time for look in first.looks} == {0.3, 0.9}


def test_of_a_label_with_looks_only_those_are_hits() -> None:
    (hit,) = hits_of(tagged(labels=(PUG,)).to_dict(), Query(text="pug"))
    assert [(look.step, look.time) for look in hit.looks] == [(1, 0.9), (3, 2.1)]
    assert (hit.start, hit.end, hit.parent) == (0.9, 2.1, "dog")


def test_a_label_of_a_film_without_a_segment_has_its_best_window() -> None:
    (hit,) = hits_of(in_windows("film.mp4").to_dict(), Query(text="accordion"))
    assert (hit.label, hit.start, hit.end) == ("Playing the accordion", 2.5, 7.5)


def test_a_label_that_is_not_told_where_is_all_of_the_video() -> None:
    (hit,) = hits_of(tagged().to_dict(), Query(text="sumo"))
    assert (hit.start, hit.end, len(hit.looks)) == (0.0, 10.0, 16)


def test_a_segment_is_found_that_is_not_among_the_labels_by_its_parent_in_a_window(tmp_path: Path) -> None:
    first, *others = in_windows().windows
    windows = (replace(first, labels=(Tag("goal", 9, 0.9, parent="sport"),)), *others)
    film = in_windows("film.mp4", windows=windows, segments=(Segment(0.0, 5.0, "goal", 9, 0.9),))
    for name in ("tags.jsonl", "tags.sqlite"):
        with journal(tmp_path / name) as output:
            output.write(film, source("film"))
        assert found(tmp_path / name, text="SPORT") == [("film.mp4", "goal")]


def test_the_best_videos_come_first_and_their_hits_in_the_order_of_the_film(tmp_path: Path) -> None:
    with journal(tmp_path / "tags.jsonl") as output:
        output.write(in_windows("film.mp4"), source("film"))
        output.write(tagged("sure.mp4", labels=(replace(LABELS[0], score=0.99),)), source("sure"))
    assert found(tmp_path / "tags.jsonl") == [
        ("sure.mp4", "Arm wrestling"),
        *(("film.mp4", name) for name in ("Arm wrestling", "Playing the accordion", "Sumo")),
    ]


@pytest.mark.parametrize("later", [tagged("./a.mp4", labels=LABELS[2:]), failed("a.mp4")])
def test_a_record_that_a_killed_run_left_behind_is_not_found(tmp_path: Path, later: Any, monkeypatch: Any) -> None:
    """Its line is behind the other, and is never decoded for its own sake: it has not the text."""
    monkeypatch.chdir(tmp_path)
    lines = [{**result.to_dict(), "settings": SETTINGS} for result in (tagged("a.mp4"), later)]
    Path("tags.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert found(Path("tags.jsonl"), text="wrestling") == []
    Path("tags.jsonl").write_text(
        "".join(f"{json.dumps({**line, 'settings': {'n': str(n)}})}\n" for n, line in enumerate(lines))
    )
    assert found(Path("tags.jsonl"), text="wrestling") == [("a.mp4", "Arm wrestling")]


def test_lines_without_the_text_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path / "tags.jsonl")
    decoded = []
    loads = json.loads
    monkeypatch.setattr("json.loads", lambda text: decoded.append(text) or loads(text))
    assert found(path, text="pug") == [("videos/may/dog.mp4", "pug")]
    assert len([line for line in decoded if b"schema" in line]) == 1


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ('say "ah"', '"AH'),
        ("back\\slash", "K\\S"),
        ("Épée", "éPÉE"),
        ("4 \u212a", "4 k"),
        ("a\u202eb", "\u202eB"),
        ("x|y", "x|Y"),
    ],
)
def test_letters_that_json_or_lower_case_spell_otherwise_are_found(tmp_path: Path, label: str, text: str) -> None:
    for name in ("tags.jsonl", "tags.sqlite", "tags.json"):
        with journal(tmp_path / name) as output:
            output.write(tagged("a.mp4", labels=(Tag(label, 0, 0.9),)), source("a"))
        assert found(tmp_path / name, text=text) == [("a.mp4", label)], name


def test_the_whole_records_of_what_was_found_can_be_had(results: Path) -> None:
    records = list(Search([results], Query(text="pug")).records())
    if results.suffix != ".csv":
        assert [record["video"]["path"] for record in records] == ["videos/may/dog.mp4"]
        assert records == [each for each in record_file(results).records() if "pug" in str(each)]


def test_several_files_are_searched_together(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "1.jsonl"), tmp_path / "2.sqlite"
    with journal(two) as output:
        output.write(tagged("b.mp4", labels=(replace(PUG, score=0.95),)), source("b"))
    assert found(one, two, text="pug") == [("b.mp4", "pug"), ("videos/may/dog.mp4", "pug")]


def test_a_database_of_others_with_records_is_read_too(tmp_path: Path) -> None:
    import sqlite3

    path = fill(tmp_path / "tags.sqlite")
    with sqlite3.connect(path) as connection:
        for table in ("labels", "segments", "looks"):
            connection.execute(f"DROP TABLE {table}")
    connection.close()
    assert found(path, text="pug") == [("videos/may/dog.mp4", "pug")]


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "[1]"), ("b.json", "{"), ("c.sqlite", "no database"), ("d.jsonl", "x\n")]
)
def test_what_holds_no_records_is_refused_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        Search([tmp_path / name], Query())
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hit_is_a_line_from_which_lists_of_paths_can_be_read() -> None:
    hit = Hit(path="a\udcff.mp4", duration=1.0, label="x", parent=None, score=0.5, start=0.0, end=1.0)
    line = hit.to_dict()
    assert next(iter(line)) == "schema"
    assert line["video"]["path_bytes"]
    look = PatchBox(0, 3, 0.1234567, (0.0, 0.0, 1.0, 1.0))
    assert replace(hit, looks=(look,)).to_dict()["looks"][0]["time"] == 0.123
