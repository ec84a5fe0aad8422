"""The writers: one suite for all of them, then what each format promises."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adafocus_cli.errors import AdaFocusError, OutputClosedError, UsageError
from adafocus_cli.output.table import WRITERS, arrow, place_map
from adafocus_cli.output.writers import Sink, TrajectoryWriter, Writer, WriterOptions
from adafocus_cli.schema import Exit, PatchBox, Result, Tag
from tests.output.made_up import failed, tagged

NASTY = "[red]=\x1b[31m\u202e\n\r\x9b東京\udcff.mp4"
Written = Callable[..., str]


class Pieces(io.BytesIO):
    """Remembers what was written in one go."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: object) -> int:
        self.pieces.append(bytes(data))  # type: ignore[call-overload]
        return len(self.pieces[-1])


def write(kind: type[Writer], *results: Result, view: WriterOptions = WriterOptions()) -> list[str]:  # noqa: B008 — it is frozen
    stream = Pieces()
    with kind(Sink(stream, name="memory"), view) as writer:
        for result in results:
            writer.write(result)
    return [piece.decode() for piece in stream.pieces]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.mark.parametrize("kind", [*WRITERS.values(), TrajectoryWriter])
def test_a_result_is_one_piece_that_is_out_at_once(kind: type[Writer]) -> None:
    stream = Pieces()
    writer = kind(Sink(stream, name="memory"), WriterOptions())
    writer.write(tagged())
    assert len(stream.pieces) == 1
    writer.write(tagged())
    assert len(stream.pieces) == 2


@pytest.mark.parametrize("kind", [*WRITERS.values(), TrajectoryWriter])
def test_nasty_names_come_out_as_valid_text_without_control_characters(kind: type[Writer]) -> None:
    results = tagged(NASTY, labels=(Tag(NASTY, 0, 0.5),)), failed(NASTY, NASTY)
    text = "".join(write(kind, *results))
    left = {c for c in text if unicodedata.category(c) in ("Cc", "Cf")}
    assert left <= ({"\n"} if kind in (WRITERS["table"], WRITERS["json"], WRITERS["jsonl"]) else {"\n", "\r"})
    assert "[red]" in text or kind is TrajectoryWriter


@pytest.mark.parametrize("kind", [*WRITERS.values(), TrajectoryWriter])
def test_nothing_more_is_written_to_a_reader_that_has_gone(kind: type[Writer]) -> None:
    reader, gone = os.pipe()
    os.close(reader)
    with os.fdopen(gone, "wb", buffering=0) as stream:
        writer = kind(Sink(stream, name="pipe"), WriterOptions())
        with pytest.raises(OutputClosedError):
            writer.write(tagged())
        writer.close()


def test_json_lines() -> None:
    pieces = write(WRITERS["jsonl"], tagged(NASTY), failed())
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in pieces)
    records = [json.loads(piece) for piece in pieces]
    assert records[0] == tagged(NASTY).to_dict()
    assert records[1]["error"]["stage"] == "open"


def test_json_keeps_other_scripts_as_they_are() -> None:
    assert "東京" in write(WRITERS["jsonl"], tagged("東京"))[0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_array(count: int) -> None:
    assert json.loads("".join(write(WRITERS["json"], *[tagged()] * count))) == [tagged().to_dict()] * count


def test_json_never_says_nan() -> None:
    odd = tagged(labels=(Tag("a", 0, float("nan")),), duration=float("inf"))
    record = json.loads(write(WRITERS["jsonl"], odd)[0], parse_constant=pytest.fail)
    assert record["labels"][0]["score"] is None
    assert record["video"]["duration"] is None


def test_logits_are_there_when_wanted() -> None:
    assert "logits" not in json.loads(write(WRITERS["jsonl"], tagged())[0])
    record = json.loads(write(WRITERS["jsonl"], tagged(), view=WriterOptions(logits=True))[0])
    assert (record["logits"], record["step_logits"]) == ([0.5, -1.25], [[0.5, -1.25]])


def test_csv_has_a_row_a_video() -> None:
    results = tagged('a,\n"b".mp4'), tagged("no", labels=()), failed("=cmd()", "gone")
    first, second, third = csv.DictReader(io.StringIO("".join(write(WRITERS["csv"], *results)), newline=""))
    assert first["path"] == 'a,\n"b".mp4'
    assert (first["label"], first["score"]) == ("Arm wrestling", "0.9125")
    assert first["labels"] == "Arm wrestling:0.9125|Playing the accordion:0.0412|Sumo:0.0101"
    assert (first["gmacs"], first["exit_step"], first["seconds"]) == ("27.0", "15", "0.42")
    assert (second["status"], second["label"], second["labels"]) == ("ok", "", "")
    assert (third["path"], third["status"], third["error_message"]) == ("'=cmd()", "error", "gone")


@pytest.mark.parametrize("kind", [WRITERS["csv"], TrajectoryWriter])
def test_csv_has_its_header_without_videos(kind: type[Writer]) -> None:
    assert "".join(write(kind)).startswith("path,")


def test_a_lone_carriage_return_stays_in_its_cell() -> None:
    rows = csv.DictReader(io.StringIO("".join(write(WRITERS["csv"], tagged("a\rb.mp4"))), newline=""))
    assert [row["path"] for row in rows] == ["a\rb.mp4"]


def test_trajectories_have_a_row_a_patch() -> None:
    rows = list(csv.DictReader(io.StringIO("".join(write(TrajectoryWriter, tagged("a.mp4"), failed())))))
    assert len(rows) == 16
    assert rows[2] == {
        **{"path": "a.mp4", "step": "2", "frame": "34", "time": "1.5"},
        **{"left": "98.0", "top": "56.0", "right": "242.0", "bottom": "200.0"},
    }


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = "/a/rather/long/folder/" * 5 + "clip.mp4"
    text = "".join(write(WRITERS["table"], tagged(long), failed(long, "gone " * 40)))
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert long in text.replace("\n", "")


def test_the_table_says_what_matters() -> None:
    text = "".join(write(WRITERS["table"], tagged(frames_replaced=2, exit=Exit(3, 16)), failed()))
    for part in (
        *("clip.mp4", "340×256 · 28 fps · 10.0 s · h264", "Arm wrestling", "91.2 %", "━━━━"),
        *(
            "━━━━━╸───────  27.0",
            "27.0 GMACs, 41 % of whole frames",
            "··▒▓███▒▒··  16 × between",
            "↖↖·↗↘→↙←",
            "after 4 of 16 steps",
            "2 damaged and replaced",
        ),
        *("16 of 280 decoded with pyav", "✗ could not be opened", "the file is cut off", "1 tagged · 1 failed"),
    ):
        assert part in text
    assert "\x1b" not in text


def test_where_nothing_can_be_compared_with_whole_frames_no_share_is_shown() -> None:
    cost = replace(tagged().cost, full_frame_gmacs=None)
    text = "".join(write(WRITERS["table"], *[tagged(cost=cost)] * 2))
    assert "cost     27.0 GMACs\n" in text
    assert "whole frames" not in text


@pytest.mark.parametrize("width", [60, 160])
def test_the_table_with_steps_fits_and_has_a_row_for_each(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    answers = np.zeros((16, 6), np.float32)
    answers[8:, 2] = 2.0
    text = "".join(write(WRITERS["table"], tagged(step_logits=answers), view=WriterOptions(steps=True)))
    assert max(map(len, text.splitlines())) <= width
    rows = [line.split() for line in text.splitlines() if "–" in line]
    assert rows[4] == ["5", "68", "2.70", "s", "↘", "138,96", "–", "282,240", "16.7", "%"]
    assert rows[8][-2:] == ["59.6", "%"]
    assert len(rows) == 16


def test_steps_have_no_score_where_answers_do_not_go_with_looks() -> None:
    text = "".join(write(WRITERS["table"], tagged(), view=WriterOptions(steps=True)))
    assert "282,240\n" in text


def test_a_long_video_has_no_more_arrows_than_fit() -> None:
    long = tagged(trajectory=tuple(PatchBox(0, n, n / 10, (0.0, 0.0, 9.0, 9.0)) for n in range(999)))
    text = write(WRITERS["table"], long)[0]
    assert text.count("↖") == 48
    assert "…" in text
    assert "999 × between" in text


@pytest.mark.parametrize("background", ["dark", "light"])
def test_words_have_no_colours_that_vanish_on_white(background: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORFGBG", {"dark": "15;0", "light": "0;15"}[background])
    nothing = tagged(labels=(), frames_replaced=1)
    text = "".join(write(WRITERS["table"], tagged(), nothing, failed(), view=WriterOptions(steps=True)))
    painted = re.findall(r"\x1b\[([\d;]*)m([^\x1b]*)", text)
    assert {"31", "35"} <= {code for codes, _ in painted for code in codes.split(";")}
    for codes, part in painted:
        if {"32", "33", "36", "37", *map(str, range(90, 98))} & set(codes.split(";")):
            assert not re.search(r"[\w%]", part), part


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    text = "".join(write(WRITERS["table"], tagged(), failed(), view=WriterOptions(steps=True)))
    assert not re.search(r"\x1b\[(?:\d+;)*(3|9)\d", text)


@pytest.mark.parametrize(
    ("size", "columns"), [((1920, 1080), 14), ((224, 224), 8), ((1080, 1920), 4), ((3000, 30), 20)]
)
def test_the_map_has_the_shape_of_the_picture(size: tuple[int, int], columns: int) -> None:
    video = tagged(width=size[0], height=size[1]).video
    left_half = PatchBox(0, 0, 0.0, (0.0, 0.0, size[0] / 2, float(size[1])))
    upper_left = PatchBox(1, 1, 1.0, (0.0, 0.0, size[0] / 2, size[1] / 2))
    half = columns // 2
    assert place_map([left_half, upper_left], video) == ["█" * half + "·" * half] * 2 + ["▒" * half + "·" * half] * 2


def test_the_table_says_when_no_label_is_left() -> None:
    assert "no label of 0.5 or more" in write(WRITERS["table"], tagged(labels=()), view=WriterOptions(min_score=0.5))[0]


def test_the_table_does_not_repeat_the_path() -> None:
    assert write(WRITERS["table"], failed("a.mp4", "a.mp4: gone"))[0].count("a.mp4") == 1


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        ((0, 0, 100, 100), "↖"),
        ((100, 0, 200, 100), "↑"),
        ((200, 200, 300, 300), "↘"),
        ((100, 100, 200, 200), "·"),
        ((-5, 100, 95, 200), "←"),
        ((0, 0, 300, 300), "·"),
    ],
)
def test_arrows(box: tuple[float, float, float, float], shown: str) -> None:
    assert arrow(box, (0, 0, 300, 300)) == shown


def test_a_json_file_is_an_array_after_every_result(tmp_path: Path) -> None:
    target = tmp_path / "tags.json"
    target.write_text("what was there before, and longer than what comes" * 100)
    sink = Sink.file(target)
    writer = WRITERS["json"](sink, WriterOptions())
    for count in (1, 2, 3):
        writer.write(tagged())
        assert len(json.loads(target.read_text())) == count
    writer.close()
    assert len(json.loads(target.read_text())) == 3


def test_a_pipe_can_be_the_output_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Sink.file(pipe) as sink, WRITERS["json"](sink, WriterOptions()) as writer:
        writer.write(failed())
    assert len(json.loads(os.read(reader, 1 << 16))) == 1
    os.close(reader)


def test_a_folder_cannot_be_the_output_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write to"):
        Sink.file(tmp_path)


def test_results_without_a_place_in_time_can_be_shown() -> None:
    bare = replace(tagged(fps=None, duration=None), trajectory=())
    for kind in WRITERS.values():
        assert write(kind, bare)


@contextmanager
def write_to(path: Path, kind: type[Writer]) -> Iterator[Writer]:
    with Sink.file(path) as sink, kind(sink, WriterOptions()) as writer:
        yield writer


@contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", [WRITERS["json"], WRITERS["jsonl"], WRITERS["csv"], TrajectoryWriter])
def test_a_full_disk_leaves_the_file_as_it_was_after_the_last_video(tmp_path: Path, kind: type[Writer]) -> None:
    target = tmp_path / "tags"
    whole: list[bytes] = []
    told = f"cannot write to {target}: .*; what was written before it is complete"
    with full_disk_after(10_000), pytest.raises(AdaFocusError, match=told), write_to(target, kind) as writer:  # noqa: PT012
        while True:
            writer.write(tagged(f"{len(whole)}.mp4"))
            whole.append(target.read_bytes())
    assert len(whole) > 2
    assert target.read_bytes() == whole[-1]


@pytest.mark.parametrize("kind", [WRITERS["json"], WRITERS["jsonl"], WRITERS["csv"], TrajectoryWriter])
def test_a_disk_that_was_full_from_the_start_leaves_an_earlier_file(tmp_path: Path, kind: type[Writer]) -> None:
    target = tmp_path / "tags"
    target.write_text("[]")
    told = "the file is as it was"
    with full_disk_after(300), pytest.raises(AdaFocusError, match=told), write_to(target, kind) as writer:
        writer.write(tagged())
    assert target.read_text() == "[]"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_of_what_cannot_be_cut_nothing_is_promised() -> None:
    with Sink.file(Path("/dev/full")) as sink, pytest.raises(AdaFocusError, match="may end in half a record"):
        WRITERS["jsonl"](sink, WriterOptions()).write(tagged())
