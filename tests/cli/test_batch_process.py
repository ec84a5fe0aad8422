"""`adafocus batch` as a process: how it ends when it is told to, when it is killed, and what a run after that does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT
from tests.clips import numbered_clip
from tests.conftest import without_timings
from tests.forked import Forked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Many names, few contents: but for a byte at their end, which players skip."""
    folder = tmp_path_factory.mktemp("videos")
    clips = [numbered_clip(folder / f"{n}.mp4", frames=60, first_number=100 * n).read_bytes() for n in range(3)]
    for n in range(24):
        (folder / f"{n}.mp4").write_bytes(clips[n % 3] + bytes([n]))
    return folder


def start(folder: Path, *arguments: object) -> Forked:
    (folder / "model.pth").touch()
    command = ["batch", "--workers", "1", "-w", folder / "model.pth", "-o", folder / "tags.jsonl", *arguments]
    return Forked("tests.cli.tiny_adafocus", command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def lines(folder: Path) -> list[str]:
    path = folder / "tags.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def records(folder: Path) -> dict[str, dict]:
    found = [without_timings(json.loads(line)) for line in lines(folder)]
    assert len({record["video"]["path"] for record in found}) == len(found)
    return {record["video"]["path"]: record for record in found}


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_finishes_what_is_in_flight_and_the_next_run_the_rest(videos, tmp_path, number):
    process = start(tmp_path, videos)
    wait_until(lambda: lines(tmp_path))
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"finishing the videos in progress" in err
    assert 1 <= len(records(tmp_path)) < 24
    process = start(tmp_path, videos)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(records(tmp_path)) == 24
    assert b"done before" in err


def test_told_twice_it_ends_at_once(videos, tmp_path):
    process = start(tmp_path, videos, "--watch", "--settle", "0.1")
    wait_until(lambda: lines(tmp_path))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"finishing" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    records(tmp_path)


def test_killed_again_and_again_it_ends_with_what_an_unbroken_run_has(videos, tmp_path):
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    assert start(unbroken, videos).wait(120) == 0
    for more in (1, 5, 9):
        process, before = start(tmp_path, videos), len(lines(tmp_path))
        wait_until(lambda at_least=before + more: len(lines(tmp_path)) >= at_least)
        process.kill()
        process.communicate()
    assert start(tmp_path, videos).wait(120) == 0
    assert records(tmp_path) == records(unbroken)


def test_a_disk_that_is_full_ends_it_though_paths_may_still_come(videos, tmp_path):
    """Whatever the number of loops, which is that of the cores."""

    import resource  # Windows has none

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    (tmp_path / "model.pth").touch()
    command = [sys.executable, "-m", "tests.cli.tiny_adafocus", "batch", "-", "-w", tmp_path / "model.pth"]
    command += ["-o", tmp_path / "tags.jsonl", "--runtime", "torch"]
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "3"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=little_room,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(f"{videos / '0.mp4'}\n".encode())
    process.stdin.flush()
    try:
        assert process.wait(timeout=120) == 1
        said = process.stderr.read()
        assert (said.count(b"\n"), b"tags.jsonl" in said, b"Traceback" in said) == (1, True, False), said
    finally:
        process.kill()
        process.communicate()


def test_a_second_run_into_one_file_is_refused(videos, tmp_path):
    first = start(tmp_path, videos, "--watch", "--settle", "0.1")
    wait_until(lambda: lines(tmp_path))
    second = start(tmp_path, videos)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 2
    assert b"is being written by another run" in err
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=120)
    assert first.returncode == 130


def test_watched_files_are_tagged_as_they_arrive_and_again_when_they_change(videos, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    process = start(tmp_path, folder, "--watch", "--settle", "0.2")
    (folder / "a.mp4").write_bytes((videos / "0.mp4").read_bytes())
    wait_until(lambda: len(lines(tmp_path)) == 1)
    (folder / "b.mp4").write_bytes((videos / "1.mp4").read_bytes())
    wait_until(lambda: len(lines(tmp_path)) == 2)
    first = records(tmp_path)
    (folder / "a.mp4").write_bytes((videos / "2.mp4").read_bytes())
    wait_until(lambda: len(lines(tmp_path)) == 3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.count(f"adafocus: {folder / 'a.mp4'}: ".encode()) == 2
    last = records(tmp_path)
    assert {path: last[path] == first[path] for path in first} == {
        str(folder / "a.mp4"): False,
        str(folder / "b.mp4"): True,
    }


def test_a_model_file_that_goes_away_in_the_middle_is_not_missed(videos, tmp_path):
    process = start(tmp_path, videos)
    wait_until(lambda: lines(tmp_path))
    (tmp_path / "model.pth").unlink()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(records(tmp_path)) == 24


def test_a_folder_that_changes_meanwhile_costs_only_what_is_gone(videos, tmp_path):
    folder = tmp_path / "changing"
    shutil.copytree(videos, folder)
    process = start(tmp_path, folder)
    wait_until(lambda: lines(tmp_path))
    waiting = sorted(folder.iterdir())
    done = {json.loads(line)["video"]["path"] for line in lines(tmp_path)}
    gone = next(path for path in reversed(waiting) if str(path) not in done)
    gone.unlink()
    (folder / "new.mp4").write_bytes((folder / "0.mp4").read_bytes() + b"new")
    process.communicate(timeout=120)
    assert process.returncode == 3
    statuses = {path: record["status"] for path, record in records(tmp_path).items() if not path.endswith("new.mp4")}
    assert statuses.pop(str(gone)) == "error"
    assert statuses == {str(path): "ok" for path in waiting if path != gone}


def test_nobody_who_listens_is_no_reason_to_end(videos, tmp_path):
    process = start(tmp_path, videos, "--verbose")
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    process.stdout.close()
    process.wait(timeout=120)
    assert len(records(tmp_path)) == 24


def test_times_that_lie_ahead_or_far_back_are_times_like_any_other(videos, tmp_path):
    """As they are found once a clock was set back."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, seconds in (("0.mp4", 4_000_000_000), ("1.mp4", 1)):
        shutil.copy(videos / name, folder)
        os.utime(folder / name, (seconds, seconds))
    assert start(tmp_path, folder).wait(timeout=120) == 0
    before = lines(tmp_path)
    os.utime(tmp_path / "tags.jsonl", (1, 1))
    assert start(tmp_path, folder).wait(timeout=120) == 0
    assert len(before) == 2
    assert lines(tmp_path) == before


def test_a_folder_that_cannot_be_written_to_is_one_line(videos, tmp_path):
    process = start(tmp_path, videos, "-o", "/proc/tags.jsonl")
    _, said = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert b"/proc" in said
    assert b"Traceback" not in said
    assert said.count(b"\n") == 1
