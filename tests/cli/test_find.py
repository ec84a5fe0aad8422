"""Finding from the command line: tables, paths, playlists, clips, pages."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from adafocus_cli.schema import Tag
from tests.cli.conftest import Adafocus
from tests.cli.test_report import data_of
from tests.clips import numbered_clip
from tests.output.made_up import in_windows, tagged
from tests.output.test_journal import journal, source, write

BALL = Tag("volleyball", 890, 0.9, parent="ball", looks=(1,))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the current folder: results, and one of the two videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("videos/new").mkdir(parents=True)
    numbered_clip("videos/beach.mp4", frames=100, size=(64, 64), options={"g": "10"})
    with journal(tmp_path / "tags.jsonl") as output:
        output.write(tagged("videos/beach.mp4", labels=(BALL,), duration=4.0), source("beach"))
        output.write(in_windows("videos/new/film.mp4"), source("film"))
    return tmp_path


def test_the_table_says_when_and_where(library: Path, adafocus: Adafocus) -> None:
    outcome = adafocus("find", "VOLLEY", "tags.jsonl", "-f", "table")
    assert outcome.out == "videos/beach.mp4\n  90 %  0:00.9  volleyball (ball)  58,16 – 202,160\n"
    assert outcome.err == "adafocus: 1 hit in 1 video\n"
    assert "\n  85 %  0:06.2–0:10.0  Sumo" in adafocus("find", "", "tags.jsonl", "-f", "table").out


def test_on_a_narrow_terminal_the_place_stands_below_the_label(
    library: Path, adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert adafocus("find", "VOLLEY", "tags.jsonl", "-f", "table").out == (
        "videos/beach.mp4\n  90 %  0:00.9  volleyball (ball)\n                58,16 – 202,160\n"
    )


def test_into_a_pipe_there_is_a_line_for_each_hit_that_is_also_a_list_of_videos(
    library: Path, adafocus: Adafocus
) -> None:
    outcome = adafocus("find", "wrestling", "tags.jsonl")
    (hit,) = outcome.records
    assert (hit["label"], hit["start"], hit["end"]) == ("Arm wrestling", 0.0, 3.75)
    assert outcome.paths == ["videos/new/film.mp4"]
    assert {look["time"] for look in hit["looks"]} == {0.3, 0.9}


def test_paths_come_once_each_and_end_as_the_pipe_wants(adafocus: Adafocus, tmp_path: Path) -> None:
    write(tmp_path / "tags.sqlite", "a\udcff\n.mp4", "b.mp4")
    arguments = ("find", "", tmp_path / "tags.sqlite", "-q")
    written = tmp_path / "paths.txt"
    assert adafocus(*arguments, "-0", "-o", written).code == 0
    assert written.read_bytes() == b"a\xff\n.mp4\0b.mp4\0"
    assert adafocus(*arguments, "--folder", tmp_path, "-f", "paths").code == 1
    assert adafocus(*arguments, "-o", written, "--overwrite").code == 0
    assert written.read_bytes() == b"a\xff\n.mp4\nb.mp4\n"


def test_csv_has_a_row_for_each_hit(library: Path, adafocus: Adafocus) -> None:
    (row,) = csv.DictReader(io.StringIO(adafocus("find", "ball", "tags.jsonl", "-f", "csv").out))
    assert (row["path"], row["parent"], row["looks"], row["time"], row["left"]) == (
        *("videos/beach.mp4", "ball", "1"),
        *("0.9", "58.0"),
    )


def test_a_playlist_begins_and_ends_each_hit_with_some_time_around_it(library: Path, adafocus: Adafocus) -> None:
    adafocus("find", "ball", "tags.jsonl", "-o", "found.m3u8", "--pad", 0.5)
    assert (library / "found.m3u8").read_text().splitlines() == [
        "#EXTM3U",
        "#EXTINF:1,volleyball · beach.mp4",
        "#EXTVLCOPT:start-time=0.400",
        "#EXTVLCOPT:stop-time=1.400",
        str(library / "videos/beach.mp4"),
    ]


def test_a_playlist_holds_a_name_that_is_no_line_as_a_url(adafocus: Adafocus, tmp_path: Path) -> None:
    write(tmp_path / "tags.jsonl", "/v/a\n#b\udcff.mp4")
    lines = adafocus("find", "sumo", tmp_path / "tags.jsonl", "-f", "m3u").out.splitlines()
    assert lines[1:] == [
        "#EXTINF:10,Sumo · a\\n#b\\udcff.mp4",
        "#EXTVLCOPT:start-time=0.000",
        "#EXTVLCOPT:stop-time=10.000",
        "file:///v/a%0A%23b%FF.mp4",
    ]


def test_hits_are_cut_out_and_what_is_missing_is_told(library: Path, adafocus: Adafocus) -> None:
    outcome = adafocus("find", "", "tags.jsonl", "--cut", "clips", "--pad", 0.1)
    assert outcome.code == 3
    assert "adafocus: videos/new/film.mp4: there is no such file; check the path" in outcome.err
    assert "1 clip in clips, each from the keyframe before its hit" in outcome.err
    assert [str(path.relative_to("clips")) for path in Path("clips").rglob("*.*")] == [
        "beach.mp4-00000.90-00000.90.mp4"
    ]
    assert adafocus("find", "ball", "tags.jsonl", "--cut", "clips").code == 0


def test_videos_that_have_moved_are_found_below_another_folder(library: Path, adafocus: Adafocus) -> None:
    (library / "videos").rename("elsewhere")
    outcome = adafocus("find", "ball", "tags.jsonl", "--videos", "elsewhere", "-f", "paths")
    assert outcome.out == "elsewhere/beach.mp4\n"


def test_a_page_has_what_was_found_only(library: Path, adafocus: Adafocus) -> None:
    outcome = adafocus("find", "ball", "tags.jsonl", "-o", "found.html")
    assert (outcome.code, outcome.out) == (0, "")
    assert [row["name"] for row in data_of(Path("found.html"))["rows"]] == ["beach.mp4"]
    assert "<title>ball</title>" in Path("found.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["voleyball", "tags.jsonl"], 1, "no hit for 'voleyball' in tags.jsonl; the nearest name is 'volley"),
        (["x", "gone.jsonl"], 2, "there is no file gone.jsonl"),
        (["x", "videos/beach.mp4"], 2, "has no known format; give a name that ends in .jsonl"),
        (["x", "tags.jsonl", "-o", "tags.jsonl"], 2, "tags.jsonl is what is searched"),
        (["x", "tags.jsonl", "-o", "notes.csv"], 2, "notes.csv exists; give another file, or --overwrite"),
        (["x", "tags.jsonl", "-o", "found.pdf"], 2, "found.pdf has no known format"),
        (["x", "tags.jsonl", "-0", "-f", "csv"], 2, "--null is for paths"),
        (["x", "tags.jsonl", "--videos", "gone"], 2, "--videos gone is not a folder"),
        (["x", "tags.jsonl", "--min-score", "2"], 2, "--min-score"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(
    library: Path, adafocus: Adafocus, arguments: list[str], code: int, said: str
) -> None:
    Path("notes.csv").touch()
    outcome = adafocus("find", *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1)
    assert said in outcome.err


def test_lines_of_hits_are_a_list_of_videos(library: Path, adafocus: Adafocus) -> None:
    from adafocus_cli.cli.inputs import split_list

    lines = adafocus("find", "", "tags.jsonl").out
    assert {json.loads(line)["schema"] for line in lines.splitlines()} == {"adafocus-found/1"}
    assert set(split_list(io.BytesIO(lines.encode()), null=False)) == {"videos/beach.mp4", "videos/new/film.mp4"}
