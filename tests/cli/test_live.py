"""`adafocus live` and what comes on standard input, with the real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.cli.live import duration_of, moment_of
from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.video.limits import LimitError, Limits
from adafocus_cli.video.live import LiveProcess
from adafocus_cli.video.remote import STDIN, Copies
from tests.batches import processes_left
from tests.cli.conftest import Adafocus
from tests.clips import numbered_clip
from tests.conftest import without_timings
from tests.forked import Forked
from tests.streams import streamed

WINDOWS = ("-m", "motion", "--device", "cpu", "--window", "2", "--stride", "0.7")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clips") / "clip.ts", frames=100, options={"preset": "ultrafast"})


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a file, or bytes in a pipe, in the place of standard input."""
    kept = os.dup(0)

    def put(content: Path | bytes) -> None:
        if isinstance(content, Path):
            descriptor = os.open(content, os.O_RDONLY)
        else:
            descriptor, write = os.pipe()
            threading.Thread(target=fill, args=(write, content), daemon=True).start()
        os.dup2(descriptor, 0)
        os.close(descriptor)
        monkeypatch.setattr("sys.stdin", open(0, closefd=False))  # noqa: SIM115

    def fill(write: int, content: bytes) -> None:
        with suppress(OSError), os.fdopen(write, "wb") as pipe:
            pipe.write(content)

    yield put
    os.dup2(kept, 0)
    os.close(kept)


def test_a_stream_on_stdin_has_the_windows_of_the_file_and_a_record(
    adafocus: Adafocus, stdin: Any, clip: Path, tmp_path: Path
) -> None:
    """Its clock is set back in the middle, for it is the same file twice."""
    expected = adafocus("classify", clip, *WINDOWS).records[0]
    stdin(clip.read_bytes() * 2)
    output = tmp_path / "tags.jsonl"
    outcome = adafocus("live", "-", *WINDOWS, "-o", output, "-f", "jsonl")
    assert (outcome.code, outcome.err) == (0, "")
    found = [(record["labels"], record["trajectory"]) for record in outcome.records]
    assert found == 2 * [(window["labels"], window["trajectory"]) for window in expected["windows"]]
    assert [record["live"]["start"] for record in outcome.records] == sorted(
        record["live"]["start"] for record in outcome.records
    )
    first, second = map(json.loads, output.read_text().splitlines())
    for name in ("labels", "cost", "windows", "segments", "trajectory", "frames_decoded", "exit"):
        assert first[name] == second[name] == expected[name], name
    assert {**first["video"], "path": None} == {**expected["video"], "path": None}


def test_ctrl_c_ends_at_once_with_whole_lines_and_no_process(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "tags.jsonl"
    with streamed((clip.read_bytes(), "hang")) as (address, _):
        command = ["live", address, *WINDOWS, "-f", "jsonl", "-o", output]
        process = Forked(
            "adafocus_cli", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == b"adafocus: interrupted\n"
    assert [json.loads(line)["status"] for line in (first + out).splitlines()]
    assert out == b"" or out.endswith(b"\n")
    (record,) = map(json.loads, output.read_text().splitlines())
    assert len(record["windows"]) >= 1
    assert processes_left(process) == []


def test_a_source_that_never_comes_is_one_line(adafocus: Adafocus) -> None:
    with streamed(None) as (address, _):
        outcome = adafocus("live", address, *WINDOWS, "--patience", "0.2", "-q")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert f"adafocus: error: {address}: " in outcome.err


def test_a_source_that_never_comes_while_it_is_waited_for_is_an_error_too(adafocus: Adafocus) -> None:
    with streamed(None) as (address, _):
        outcome = adafocus("live", address, *WINDOWS, "--for", "1", "-q")
    assert outcome.code == 1
    assert "never came" in outcome.err or "was not asked for" in outcome.err  # while the model was loaded
    assert outcome.err.endswith(" before the time of --for or --until was over; give more\n")


def test_a_snapshot_that_cannot_be_made_costs_only_itself(
    adafocus: Adafocus, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(process: LiveProcess, number: int) -> Any:
        raise VideoError("the decoder crashed", stage="decode")

    monkeypatch.setattr(LiveProcess, "picture_of", lost)
    with streamed((clip.read_bytes(), "close"), None) as (address, _):
        outcome = adafocus(
            *("live", address, *WINDOWS, "--patience", "0.2"),
            *("--snapshot", tmp_path / "seen", "--snapshot-score", "0"),
        )
    assert outcome.code == 3
    assert [record["status"] for record in outcome.records] == ["ok"] * 4 + ["error"]
    assert "no snapshot: the decoder crashed" in outcome.err


def test_a_source_that_is_lost_is_exit_status_3_and_pictures_stay(
    adafocus: Adafocus, clip: Path, tmp_path: Path
) -> None:
    with streamed((clip.read_bytes(), "close"), None) as (address, _):
        outcome = adafocus(
            *("live", address, *WINDOWS, "--patience", "0.2"),
            *("--snapshot", tmp_path / "seen", "--snapshot-score", "0"),
        )
    assert outcome.code == 3
    assert [record["status"] for record in outcome.records] == ["ok"] * 4 + ["error"]
    assert "tried for 0.2 s" in outcome.err.splitlines()[-1]
    assert list((tmp_path / "seen").glob("*.jpg"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("0", "--for", "soon"), "--for soon is not a duration"),
        (("0", "--until", "2001-01-01T10:00"), "has passed"),
        (("0", "--until", "noon"), "--until noon is not a time"),
        (("0", "--format", "table"), "needs a terminal"),
        (("0", "-o", "clip.mp4"), "clip.mp4"),
        (("ftp://x", "-q"), "is not a source of live video"),
        (("udp://foo", "-q"), "udp://foo has no port; give udp://:PORT"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_loaded(
    adafocus: Adafocus, arguments: tuple[str, ...], said: str
) -> None:
    outcome = adafocus("live", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_durations_and_moments() -> None:
    assert duration_of("1d2h", "--for") == 93600
    for wrong in ("", "0", "1x", "h", "1 h", "-1"):
        with pytest.raises(UsageError):
            duration_of(wrong, "--for")
    today = moment_of(time.strftime("%H:%M", time.localtime(time.time() + 120)))
    assert 0 < today - time.time() <= 120
    gone = moment_of(time.strftime("%H:%M", time.localtime(time.time() - 120)))
    assert 23 * 3600 < gone - time.time() < 25 * 3600


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_one_video_on_stdin_is_tagged_as_its_file(adafocus: Adafocus, stdin: Any, clip: Path, kind: str) -> None:
    (expected,) = adafocus("classify", clip, "-m", "motion").records
    stdin(clip if kind == "file" else clip.read_bytes())
    outcome = adafocus("classify", "--stdin", "-m", "motion")
    assert (outcome.code, outcome.err) == (0, "")
    (record,) = outcome.records
    assert record["video"].pop("path") == "stdin://"
    assert without_timings(record) == {
        **without_timings(expected),
        "video": {name: value for name, value in expected["video"].items() if name != "path"},
    }
    assert clip.stat().st_size  # the file of the user is no copy, and stays


def test_more_on_stdin_than_is_spooled_is_an_error(stdin: Any) -> None:
    stdin(bytes(3 << 20))
    copies = Copies(Limits(max_bytes=1 << 20), threading.Event())
    with pytest.raises(LimitError, match="are taken of one video"):
        copies.fetch(STDIN)
    copies.close()


@pytest.mark.parametrize("more", [(), ("-0",)])
def test_a_video_in_the_place_of_a_list_is_one_error(
    adafocus: Adafocus, stdin: Any, tmp_path: Path, more: tuple[str, ...]
) -> None:
    stdin(numbered_clip(tmp_path / "clip.mp4", frames=10))
    outcome = adafocus("classify", "-", "-m", "motion", *more)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert "adafocus classify --stdin" in outcome.err


def test_stdin_is_one_video_and_nothing_else(adafocus: Adafocus) -> None:
    outcome = adafocus("classify", "--stdin", "a.mp4")
    assert outcome.code == 2
    assert "leave out the other inputs" in outcome.err
