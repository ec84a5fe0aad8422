"""Which files of a watched folder are complete."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from adafocus_cli.cli import batch
from adafocus_cli.cli.batch import watched


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
