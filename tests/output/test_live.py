"""What is written of a stream: records of stretches, pictures of what appears, the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adafocus_cli.labels import LabelSet
from adafocus_cli.output.journal import Journal, record_file
from adafocus_cli.output.live import LiveTable, Snapshots, StreamRecords, frame_of
from adafocus_cli.schema import Failure, LiveSpan, PatchBox, Record, Tag, VideoResult, result_of
from adafocus_cli.video.windows import Window
from tests.output.made_up import LABELS, tagged

NOON = 1_700_000_000.0
NAMES = LabelSet(("a", "b"), "numbers")


def window_result(number: int, labels: tuple[Tag, ...] = LABELS, *, dropped: int = 0) -> VideoResult:
    start = 2.0 * number
    live = LiveSpan(
        since=NOON + start,
        until=NOON + start + 4,
        start=start,
        end=start + 4,
        windows_dropped=dropped,
        frames_dropped=3,
    )
    look = PatchBox(0, 56 * number + 7, start + 0.25, (0.0, 0.0, 9.0, 9.0))
    return tagged("rtsp://cam", labels=labels, live=live, frames=56 * number + 112, trajectory=(look,))


def recorded(path: Path, *results: VideoResult | Failure, longest: float = 600, piece: int = 0) -> list[Record]:
    with (
        Journal.open(path, settings={"model": "m"}, mode="resume") as journal,
        StreamRecords(journal, NAMES, top_k=5, min_score=0.0, longest=longest) as records,
    ):
        for number, result in enumerate(results):
            if isinstance(result, Failure):
                records.fail(result)
                continue
            start = result.live.start if result.live and result.live.start else 0.0
            window = Window(0, 1, start, start + 4, range(round(28 * start), round(28 * start) + 112))
            records.add(window, result, frozenset({window.frames.start + 7}), (0, number * piece))
    return list(record_file(path).records())


def test_a_stretch_is_a_record_as_of_a_video_in_windows(tmp_path: Path) -> None:
    (record,) = recorded(tmp_path / "tags.jsonl", *map(window_result, range(3)))
    assert record["video"]["path"] == "rtsp://cam#2023-11-14T22:13:20.000Z"
    assert (record["video"]["frames"], record["video"]["duration"]) == (224, 8.0)
    assert [(each["start"], each["end"]) for each in record["windows"]] == [(0.0, 4.0), (2.0, 6.0), (4.0, 8.0)]
    assert record["live"] == {
        "since": "2023-11-14T22:13:20.000Z",
        "until": "2023-11-14T22:13:28.000Z",
        "start": 0.0,
        "end": 8.0,
        "windows_dropped": 0,
        "frames_dropped": 9,
    }
    back = result_of(record)
    assert isinstance(back, VideoResult)
    assert back.to_dict() == {name: record[name] for name in back.to_dict()}


def test_long_streams_are_several_records_that_count_from_their_own_begin(tmp_path: Path) -> None:
    first, second = recorded(tmp_path / "tags.jsonl", *map(window_result, range(4)), longest=6)
    assert len(first["windows"]) == len(second["windows"]) == 2
    assert second["windows"][0]["start"] == 0.0
    assert second["live"]["start"] == 4.0
    assert [(look["frame"], look["time"]) for look in second["trajectory"]] == [(7, 0.25), (63, 2.25)]


def test_a_stretch_ends_where_the_stream_breaks_and_the_time_without_one_is_a_failure(tmp_path: Path) -> None:
    silence = Failure(
        path="rtsp://cam",
        stage="decode",
        type="StreamError",
        message="rtsp://cam: nothing came for 20.0 s: it ended",
        live=LiveSpan(since=NOON + 4, until=NOON + 24),
    )
    first, nothing, second = recorded(tmp_path / "tags.jsonl", window_result(0), silence, window_result(1))
    assert [each["status"] for each in (first, nothing, second)] == ["ok", "error", "ok"]
    assert nothing["live"] == {"since": "2023-11-14T22:13:24.000Z", "until": "2023-11-14T22:13:44.000Z"}
    assert len(recorded(tmp_path / "pieces.jsonl", window_result(0), window_result(1), piece=1)) == 2


def test_a_picture_is_written_when_a_label_appears(tmp_path: Path) -> None:
    sure, unsure = Tag("a/b\x1b", 1, 0.9, looks=(0,)), Tag("a/b\x1b", 1, 0.4, looks=(0,))
    asked: list[int] = []

    def picture(number: int) -> np.ndarray:
        asked.append(number)
        return np.zeros((32, 48, 3), np.uint8)

    snapshots = Snapshots(tmp_path / "seen", 0.5)
    written = []
    for number, labels in enumerate([(sure,), (sure,), (unsure,), (sure,), ()]):
        written.append(snapshots.add(window_result(number, labels), frozenset({1}), picture))
    assert [len(each) for each in written] == [1, 0, 0, 1, 0]
    assert asked == [7, 56 * 3 + 7]
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["2023-11-14T22-13-20.000Z a_b_x1b 0.90.jpg", "2023-11-14T22-13-26.000Z a_b_x1b 0.90.jpg"]


def test_the_frame_of_a_label_without_looks_is_the_middle_one() -> None:
    assert frame_of(LABELS[0], window_result(0), frozenset({3, 9, 6})) == 6


def test_the_table_shows_windows_silences_and_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(path="x", stage="decode", type="t", message="m", live=LiveSpan(since=NOON, until=NOON + 9))
    with LiveTable("rtsp://cam\x1b") as table:
        table.write(window_result(0))
        table.write(failure)
        table.write(replace(window_result(1, (), dropped=2)))
        with table.hidden():
            print("a message")
    out = capsys.readouterr().out
    for text in ("rtsp://cam\\x1b", "Arm wrestling", "91.2 %", "nothing came", "no label", "2 windows", "2 left out"):
        assert text in out, text
    assert "\x1b" not in out
