"""Segments at a terminal."""

from __future__ import annotations

from adafocus_cli.output.table import TableWriter, segments_text
from adafocus_cli.output.writers import Sink, WriterOptions
from adafocus_cli.schema import Segment
from tests.output.made_up import in_windows, tagged


def table(result, path):
    with Sink.file(path) as sink:
        TableWriter(sink, WriterOptions()).write(result)
    return path.read_text()


def test_the_table_has_a_line_for_each_segment_and_no_arrows_of_a_long_film(tmp_path):
    text = table(in_windows(), tmp_path / "table")
    assert "when     0:00.0–0:03.7  Arm wrestling  90 %\n" in text
    assert "           0:06.2–0:10.0  Sumo  85 %\n" in text
    assert "looked" not in text
    assert "when" not in table(tagged(), tmp_path / "plain")


def test_names_are_shown_safely_and_many_segments_are_counted():
    text = segments_text([Segment(60.0 * i, 60.0 * i + 60, "a\x1b[31m\nb", 0, 0.5) for i in range(100)]).plain
    assert text.startswith("0:00.0–1:00.0  a\\x1b[31m\\nb  50 %\n")
    assert text.splitlines()[-1] == "… and 80 more; --format json has them all"
    assert len(text.splitlines()) == 21
