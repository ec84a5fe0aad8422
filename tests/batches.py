"""`adafocus batch` as a process of its own, with a tiny model: started, killed, gone on with, and what came of it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adafocus_cli.engine.local import tag_files
from adafocus_cli.output.journal import record_file
from adafocus_cli.output.records import listed_path
from adafocus_cli.schema import Record
from tests.conftest import without_timings
from tests.forked import Forked
from tests.tiny import tiny_tagger


def start(paths: Sequence[str], output: Path, *more: object) -> Forked:
    with tempfile.NamedTemporaryFile(suffix=".txt", delete=False) as listed:
        listed.write(b"\n".join(map(os.fsencode, paths)))
    command = ["batch", "--files-from", listed.name, "-o", output, "--weights", __file__, "--quiet", *more]
    return Forked("tests.cli.tiny_adafocus", command, stderr=subprocess.PIPE, start_new_session=True)


def run(paths: Sequence[str], output: Path, *more: object, seconds: float = 300) -> tuple[int, str]:
    """The exit status, and what it said."""
    process = start(paths, output, *more)
    _, said = process.communicate(timeout=seconds)
    return process.returncode, said.decode()


def kill_after(process: Forked, is_time: Callable[[], bool], seconds: float = 300) -> None:
    """As the kernel ends a process that takes too much memory; its children end by themselves."""
    end = time.monotonic() + seconds
    while process.poll() is None and not is_time():
        assert time.monotonic() < end, "the moment to kill it never came"
        time.sleep(0.01)
    process.kill()
    process.communicate()


def records_by_path(output: Path) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in record_file(output).records():
        found.setdefault(listed_path(record), []).append(record)
    return found


def alone(path: str) -> dict[str, Any]:
    """What the tagger says of a video when there is no other."""
    (result,) = tag_files([path], lambda: tiny_tagger("adafocus-v2"))
    return without_timings(result.to_dict())


def comparable(record: Record) -> dict[str, Any]:
    """As `alone` gives it."""
    return {name: value for name, value in without_timings(record).items() if name not in ("source", "settings")}


def processes_left(process: Forked) -> list[str]:
    """Of its session, for children that ended late a little later."""
    for _ in range(100):
        listing = subprocess.run(["ps", "-eo", "sid,args"], capture_output=True, text=True, check=True).stdout
        left = [line for line in listing.splitlines() if line.split()[0] == str(process.pid)]
        if not left:
            break
        time.sleep(0.1)
    return left
