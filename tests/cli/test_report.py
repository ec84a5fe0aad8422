"""Pages from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Adafocus
from tests.output.made_up import failed, tagged
from tests.output.test_journal import write


def data_of(page: Path, name: str = "page") -> Any:
    return json.loads(page.read_text().split(f'id="{name}">')[1].split("</script>")[0])


def test_any_file_of_records_makes_a_page(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "a.jsonl.gz", "a.mp4", "b.mp4")
    write(tmp_path / "b.sqlite", "a.mp4")
    (tmp_path / "c.json").write_text(json.dumps([tagged("a.mp4").to_dict(), failed("a.mp4").to_dict()]))
    for name, rows, told in (("a.jsonl.gz", 2, "2 videos"), ("b.sqlite", 1, "1 video"), ("c.json", 1, "1 video")):
        outcome = adafocus("report", tmp_path / name, "-o", tmp_path / "page.html", "--title", "<b>")
        assert (outcome.code, outcome.out) == (0, "")
        assert f"{told} in" in outcome.err
        assert len(data_of(tmp_path / "page.html")["rows"]) == rows
        assert "<title>&lt;b&gt;</title>" in (tmp_path / "page.html").read_text()
    assert "reason" in data_of(tmp_path / "page.html")["rows"][0]  # the last record of a path counts


def test_a_page_points_to_videos_from_where_it_is(tmp_path: Path, adafocus: Adafocus) -> None:
    (tmp_path / "pages").mkdir()
    video = tmp_path / "x:y #1?.mp4"
    video.touch()
    (tmp_path / "a.json").write_text(json.dumps([tagged(str(video)).to_dict()]))
    assert adafocus("report", tmp_path / "a.json", "-o", tmp_path / "pages/a.html", "--thumbnails", "0").code == 0
    detail = data_of(tmp_path / "pages/a.html", "video-0")
    assert (detail["file"], detail["pictures"]) == ("../x%3Ay%20%231%3F.mp4", [])


def test_what_cannot_be_reported_is_refused_in_one_line(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "a.jsonl", "a.mp4")
    write(tmp_path / "b.csv", "a.mp4")
    (tmp_path / "a.mp4").touch()
    (tmp_path / "taken.html").mkdir()
    for name, text in (("c.json", "[1]"), ("d.json", "{"), ("e.jsonl", ""), ("f.json", '[{"status": "ok"}]')):
        (tmp_path / name).write_text(text)
    (tmp_path / "g.json").write_text(json.dumps([tagged().to_dict() | {"labels": 3}]))
    page = tmp_path / "page.html"
    for arguments, message in (
        ((tmp_path / "missing.jsonl", "-o", page), "there is no file"),
        ((tmp_path / "a.jsonl", "-o", tmp_path / "a.jsonl"), "ends in .html"),
        ((tmp_path / "a.jsonl", "-o", tmp_path / "nowhere/a.html"), "there is no folder"),
        ((tmp_path / "a.jsonl", "-o", page, "--videos", tmp_path / "nowhere"), "is not a folder"),
        (
            (tmp_path / "a.jsonl", "-o", tmp_path / "taken.html"),
            "Is a directory; give another file",
        ),
        ((tmp_path / "a.mp4", "-o", page), "has no known format; give a file that ends in .json, .jsonl"),
        ((tmp_path / "b.csv", "-o", page), "only a part of each record"),
        ((tmp_path / "c.json", "-o", page), "entry 1 is not a record"),
        ((tmp_path / "d.json", "-o", page), "not a list of records"),
        ((tmp_path / "e.jsonl", "-o", page), "has no records"),
        ((tmp_path / "f.json", "-o", page), "entry 1 is not a record"),
        ((tmp_path / "g.json", "-o", page), "entry 1 is not a record"),
    ):
        outcome = adafocus("report", *arguments)
        assert outcome.code in (1, 2)
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
    assert not page.exists()


def test_only_a_page_of_ours_is_replaced_without_being_asked_to(tmp_path: Path, adafocus: Adafocus) -> None:
    write(tmp_path / "a.jsonl", "a.mp4")
    for name in ("page.html", "page-page-2.html"):
        page = tmp_path / name
        page.write_text("<p>my notes</p>")
        refused = adafocus("report", tmp_path / "a.jsonl", "-o", tmp_path / "page.html")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert f"{page} is there already" in refused.err
        assert page.read_text() == "<p>my notes</p>"
        assert adafocus("report", tmp_path / "a.jsonl", "-o", tmp_path / "page.html", "--overwrite").code == 0
    (tmp_path / "page-page-2.html").unlink()
    assert adafocus("report", tmp_path / "a.jsonl", "-o", tmp_path / "page.html").code == 0
