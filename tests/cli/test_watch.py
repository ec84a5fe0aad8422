"""Which files of a watched folder are complete, and what is said while it is watched."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from adafocus_cli.cli import batch
from adafocus_cli.cli.batch import BatchVideos, Pace, Shard, watched
from adafocus_cli.cli.inputs import Sources
from adafocus_cli.cli.terminal import ProgressBar, Terminal
from adafocus_cli.engine.ledger import Tally
from tests.output.made_up import tagged


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """Runs the watch for some looks at the folder; `between` is called after each, a second passes."""
    clock = [0.0]
    monkeypatch.setattr(batch, "monotonic", lambda: clock[0])

    def run(count, *, settle=1.5, between=lambda number: None):
        stop, number = threading.Event(), [0]

        def look():
            number[0] += 1
            clock[0] += 1
            if number[0] > 1:
                between(number[0] - 1)
            if number[0] == count:
                stop.set()
            return sorted(map(str, tmp_path.iterdir()))

        monkeypatch.setattr(stop, "wait", lambda seconds: None)
        return [(Path(path).name, number[0]) for path in watched(look, stop, settle=settle)]

    return run


def test_a_file_is_given_once_when_it_has_not_changed_for_a_while(tmp_path, looks):
    (tmp_path / "a").write_text("a")
    assert looks(8) == [("a", 3)]


def test_a_file_that_grows_is_not_complete(tmp_path, looks):
    path = tmp_path / "a"
    path.write_text("a")
    assert looks(8, between=lambda number: number < 4 and path.write_text("a" * number * 2)) == [("a", 6)]


def test_a_file_that_changes_later_is_given_again(tmp_path, looks):
    path = tmp_path / "a"
    path.write_text("a")
    assert looks(9, between=lambda number: number == 4 and path.write_text("longer")) == [("a", 3), ("a", 7)]


def test_only_files_are_given_and_those_that_go_are_forgotten(tmp_path, looks):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_text("a")
    assert looks(8, between=lambda number: number == 1 and (tmp_path / "a").unlink()) == []


def test_a_clock_that_is_set_back_does_not_matter(tmp_path, looks):
    path = tmp_path / "a"
    path.write_text("a")
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    assert looks(8) == [("a", 3)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not known there")
def test_a_file_that_is_open_for_writing_is_not_complete(tmp_path, looks):
    path = tmp_path / "a"
    with path.open("w") as file:
        file.write("a")
        file.flush()
        if not batch._is_being_written(str(path)):
            pytest.skip("this file system has no leases")
        assert looks(8) == []
    assert looks(8) == [("a", 3)]


@pytest.mark.parametrize("entry", ["absent", "absent/*.mp4"])
def test_a_folder_that_is_not_there_is_refused(adafocus, weights, tmp_path, entry):
    done = adafocus("batch", tmp_path / entry, "-w", weights, "-o", tmp_path / "tags.jsonl", "--watch")
    assert (done.code, done.out) == (2, "")
    assert f"there is no folder {tmp_path / entry} to watch" in done.err


def test_a_folder_that_goes_while_it_is_watched_is_told_once(tmp_path, capsys):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    stop, looks = threading.Event(), []

    def after_a_look(waiting):
        looks.append(waiting)
        if len(looks) == 1:
            shutil.rmtree(inbox)
        if len(looks) == 4:
            stop.set()

    videos = BatchVideos(Sources((str(inbox),), None, False), Shard(1, 1), settle=0.001)
    assert list(videos.paths(stop, Terminal(), after_a_look)) == []
    watching, gone = capsys.readouterr().err.splitlines()
    assert watching == f"adafocus: watching {inbox}; Ctrl-C ends it"
    assert gone.startswith(f"adafocus: warning: {inbox} is gone")


@pytest.fixture
def pace(monkeypatch):
    """The progress of a watched batch without a terminal, and the clock that it sees."""
    clock = [0.0]
    monkeypatch.setattr(batch, "monotonic", lambda: clock[0])
    return Pace(Tally(), ProgressBar(visible=False), Terminal(), each=True), clock


def test_without_a_terminal_every_video_has_a_line(pace, capsys):
    pace[0].show(None, tagged("inbox/a.mp4"))
    err = capsys.readouterr().err
    assert err.startswith("adafocus: inbox/a.mp4: Arm wrestling 91.2 %, ")
    assert err.count("\n") == 1


def test_without_a_terminal_there_is_a_line_a_minute_while_nothing_comes(pace, capsys):
    shown, clock = pace
    for seconds in range(0, 150):
        clock[0] = float(seconds)
        shown.wait(2)
    line = "adafocus: watching; 0 done, 0 failed, 2 not complete yet\n"
    assert capsys.readouterr().err == 2 * line
