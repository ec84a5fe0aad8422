"""Outputs put together: every video once, by its newest record."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

import pytest

from adafocus_cli.schema import path_of
from tests.cli.conftest import Adafocus
from tests.output.made_up import failed, tagged
from tests.output.test_journal import NASTY, file_size_limit, journal, paths, records, source, write


def test_shards_are_put_together_in_any_format(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "1.jsonl", "a.mp4", NASTY)
    write(tmp_path / "2.sqlite", "b.mp4")
    write(tmp_path / "3.jsonl.gz", "c.mp4")
    for name in ("all.jsonl", "all.csv", "all.db", "all.csv.gz"):
        outcome = adafocus(
            "merge", *(tmp_path / n for n in ("1.jsonl", "2.sqlite", "3.jsonl.gz")), "-o", tmp_path / name
        )
        assert (outcome.code, outcome.out) == (0, "")
        assert "4 videos" in outcome.err
        assert len(paths(tmp_path / name)) == 4
        with journal(tmp_path / name) as output:  # it goes on from there
            assert all(output.done(source(path)) for path in ("a.mp4", NASTY, "b.mp4", "c.mp4"))


def test_parquet_has_typed_columns_and_whole_records(tmp_path: Path, adafocus: Adafocus) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "1.jsonl", "a.mp4", NASTY)
    assert adafocus("merge", tmp_path / "1.jsonl", "-o", tmp_path / "all.parquet").code == 0
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table["score"].to_pylist() == [0.9125, 0.9125]
    assert table["frames"].to_pylist() == [280, 280]
    assert adafocus("merge", tmp_path / "all.parquet", "-o", tmp_path / "back.jsonl").code == 0
    assert (tmp_path / "back.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


def test_a_database_can_be_asked(tmp_path: Path) -> None:
    write(tmp_path / "tags.sqlite", "a.mp4", NASTY)
    rows = (
        sqlite3.connect(tmp_path / "tags.sqlite").execute("SELECT label, score, frames, record FROM videos").fetchall()
    )
    assert [row[:3] for row in rows] == [("Arm wrestling", 0.9125, 280)] * 2
    assert path_of(json.loads(rows[1][3])) == NASTY


def test_the_newest_record_of_a_video_counts(tmp_path: Path, adafocus: Adafocus) -> None:
    first, second, third = (tmp_path / f"{number}.jsonl" for number in (1, 2, 3))
    with journal(first) as output:
        output.write(tagged("a.mp4"), source("a.mp4", "new", 5))
        output.write(tagged("b.mp4"), source("b.mp4"))
        output.write(failed("c.mp4"), None)
        output.write(tagged("d.mp4", frames=1), source("d.mp4"))
    with journal(second) as output:
        output.write(tagged("a.mp4"), source("a.mp4", "old", 4))
        output.write(failed("b.mp4"), source("b.mp4"))
        output.write(tagged("c.mp4"), source("c.mp4"))
    with journal(third) as output:
        output.write(tagged("d.mp4", frames=2), source("d.mp4"))
    outcome = adafocus("merge", first, second, third, "-o", tmp_path / "all.jsonl")
    assert "4 videos" in outcome.err
    assert "4 records were superseded" in outcome.err
    merged = {record["video"]["path"]: record for record in records(tmp_path / "all.jsonl")}
    assert {path: record["status"] for path, record in merged.items()} == dict.fromkeys(
        ("a.mp4", "b.mp4", "c.mp4", "d.mp4"), "ok"
    )
    assert merged["a.mp4"]["source"]["mtime_ns"] == 5
    assert merged["d.mp4"]["video"]["frames"] == 2


def test_csv_is_merged_into_csv_only(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "1.csv", "a.mp4")
    write(tmp_path / "2.jsonl", "b.mp4")
    inputs = [tmp_path / "1.csv", tmp_path / "2.jsonl"]
    assert adafocus("merge", *inputs, "-o", tmp_path / "all.csv").code == 0
    assert paths(tmp_path / "all.csv") == ["a.mp4", "b.mp4"]
    refused = adafocus("merge", *inputs, "-o", tmp_path / "all.jsonl")
    assert (refused.code, refused.out) == (2, "")
    assert "ends in .csv" in refused.err
    assert not (tmp_path / "all.jsonl").exists()


def test_what_cannot_be_merged_is_refused_in_one_line(tmp_path: Path, adafocus: Adafocus) -> None:
    good, other, text = tmp_path / "1.jsonl", tmp_path / "2.jsonl", tmp_path / "3.jsonl"
    write(good, "a.mp4")
    write(other, "b.mp4", top_k="3")
    text.write_text("Good morning\n")
    for arguments, message in (
        ((good, other, "-o", tmp_path / "all.jsonl"), "top_k was 5 and is 3"),
        ((good, text, "-o", tmp_path / "all.jsonl"), "not written by adafocus batch"),
        ((good, tmp_path / "missing.jsonl", "-o", tmp_path / "all.jsonl"), "there is no file"),
        ((good, "-o", good), "--overwrite"),
        ((good, "-o", tmp_path / "all.txt"), "has no known format"),
        ((good, "-o", tmp_path / "nowhere/all.jsonl"), "cannot write to"),
    ):
        outcome = adafocus("merge", *arguments)
        assert outcome.code == 2
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.jsonl", "2.jsonl", "3.jsonl"]


def test_a_file_can_take_in_others(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "1.jsonl", "a.mp4")
    write(tmp_path / "2.jsonl", "b.mp4")
    outcome = adafocus(
        "merge", tmp_path / "1.jsonl", tmp_path / "2.jsonl", "-o", tmp_path / "1.jsonl", "--overwrite", "-q"
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert paths(tmp_path / "1.jsonl") == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "csv.gz", "sqlite", "parquet"])
def test_a_full_disk_leaves_nothing_half_and_promises_nothing(tmp_path: Path, adafocus: Adafocus, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    digits = random.Random(0)
    names = [f"{digits.getrandbits(400):x}.mp4" for _ in range(300)]
    write(tmp_path / "1.jsonl", *names)
    output = tmp_path / "all" / f"all.{ending}"
    output.parent.mkdir()
    for earlier in (False, True):
        if earlier:
            write(output, "earlier.mp4")
        before = {path: path.read_bytes() for path in output.parent.iterdir()}
        with file_size_limit(20_000):
            outcome = adafocus("merge", tmp_path / "1.jsonl", "-o", output, "--overwrite")
        assert (outcome.code, outcome.err.count("\n")) == (1, 1)
        assert f"cannot write to {output}: " in outcome.err
        assert "nothing was merged" in outcome.err
        assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


def test_names_of_one_video_are_merged(tmp_path: Path, adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "1.jsonl", "a.mp4")
    write(tmp_path / "2.jsonl", "./a.mp4", str(tmp_path / "a.mp4"))
    assert adafocus("merge", tmp_path / "1.jsonl", tmp_path / "2.jsonl", "-o", tmp_path / "all.jsonl").code == 0
    assert paths(tmp_path / "all.jsonl") == [str(tmp_path / "a.mp4")]
