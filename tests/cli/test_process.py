"""`adafocus` as a process: what it loads, how it ends, and what it leaves behind."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from adafocus_cli.cli.app import app
from tests.cli.conftest import ROOT, start, start_anew

HEAVY = {"torch", "numpy", "av", "decord", "PIL", "yaml", "pydantic", "multiprocessing"}


@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["flops", "-h"], ["doctor", "-h"], []])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom adafocus_cli.cli.app import run\n"
        f"code = run({arguments})\nprint(code, *{{m.partition('.')[0] for m in sys.modules}}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, *modules = done.stderr.split()
    assert status == "0"
    assert "Examples" in done.stdout
    assert not HEAVY & set(modules)


def test_help_breaks_lines_where_a_terminal_of_80_columns_would() -> None:
    """Paragraphs are left to the terminal to wrap; commands, which it would cut in two, fit."""
    for command in get_command(app).commands.values():
        assert command.help
        assert command.epilog
        assert not any("\n" in paragraph for paragraph in command.help.split("\n\n")), command.help
        for line in re.sub(r"\[/?\w+\]", "", command.epilog).splitlines():
            assert len(line) <= 78, line


@pytest.mark.parametrize("command", ["classify", "flops", "doctor"])
def test_help_is_whole_at_80_columns(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adafocus_cli", command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
    )
    examples = done.stdout.partition("Examples")[2]
    assert f"adafocus {command}" in examples
    assert "[cyan]" not in done.stdout
    assert "…" not in done.stdout  # nothing was cut off
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version() -> None:
    done = subprocess.run([sys.executable, "-m", "adafocus_cli", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("adafocus 0.")


@pytest.mark.parametrize("earlier", [False, True], ids=["asked during the run", "asked before, as coverage does"])
def test_at_its_end_it_calls_whoever_asked_for_it_and_takes_nothing_apart_that_need_not_be(earlier: bool) -> None:
    script = f"""
import atexit, sys
from adafocus_cli.__main__ import main

class Kept:
    def __del__(self):
        print("taken apart")

def ask():
    atexit.register(print, "called")

kept = Kept()
sys.argv = ["adafocus", "--no-such-option"]
if {earlier}:
    ask()
try:
    main()
finally:
    if not {earlier}:
        ask()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["called", *(["taken apart"] if earlier else [])]


def test_interrupted_while_python_runs_text(tmp_path: Path) -> None:
    script = """
from adafocus_cli.cli import app

def make_a_dataclass(*_):
    exec("raise KeyboardInterrupt")

app._invoke = make_a_dataclass
raise SystemExit(app.run([]))
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "-m", "script"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "adafocus: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("format_", ["json", "jsonl", "csv"])
def test_interrupted_results_are_complete(number: signal.Signals, format_: str, weights: str) -> None:
    start_one = start_anew if format_ == "json" else start
    process = start_one("classify", "a.mp4", "slow.mp4", "-w", weights, "-f", format_)
    assert process.stdout is not None
    first = process.stdout.readline()
    if format_ == "json":
        first += process.stdout.read(10)  # the record follows the bracket
    process.send_signal(number)
    out, err = process.communicate(timeout=30)  # slow.mp4 takes twice as long
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert b"engine closed" in err
    assert (b"adafocus: interrupted" in err) is (number == signal.SIGINT)
    if format_ == "json":
        assert len(json.loads(first + out)) == 1
    elif format_ == "jsonl":
        assert json.loads(first)["status"] == "ok"


def test_each_result_is_out_before_the_next(weights: str) -> None:
    process = start("classify", "-", "-w", weights, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for name in ("a.mp4", "b.mp4"):
        process.stdin.write(f"{name}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["video"]["path"] == name
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv", "table"])
def test_a_reader_that_has_seen_enough(format_: str, weights: str) -> None:
    process = start("classify", *(["a.mp4"] * 2000), "-w", weights, "-f", format_)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b"engine closed\n"
    assert process.wait(20) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(weights: str) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start_anew("classify", "a.mp4", "b.mp4", "-w", weights, stdout=full)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"adafocus: error: cannot write to standard output: No space left on device" in err
    assert b"Exception ignored" not in err


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_a_closed_standard_output_is_one_line(closed: str) -> None:
    command = f'"{sys.executable}" -m adafocus_cli --version {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("adafocus: error: ")
    assert "Bad file descriptor" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_is_a_whole_array_at_any_time(weights: str, tmp_path: Path) -> None:
    target = tmp_path / "tags.json"
    process = start("classify", "a.mp4", "b.mp4", "slow.mp4", "-w", weights, "-o", target)
    deadline = time.monotonic() + 20
    while not (target.exists() and target.read_text().count('"path"') == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert len(json.loads(target.read_text())) == 2


def test_bytes_that_are_no_text_come_through(weights: str, tmp_path: Path) -> None:
    process = start("classify", "-", "-w", weights, stdin=subprocess.PIPE)
    out, _ = process.communicate(b"\xff\xc3\xa9.mp4\n", timeout=20)
    video = json.loads(out)["video"]
    assert video["path"] == "\\udcffé.mp4"
    assert base64.b64decode(video["path_bytes"]) == b"\xff\xc3\xa9.mp4"


def test_nothing_is_read_from_stdin_without_being_asked(weights: str) -> None:
    process = start("classify", "-w", weights, stdin=subprocess.PIPE)
    _, err = process.communicate(b"a.mp4\n", timeout=20)
    assert process.returncode == 2
    assert b"no videos were given" in err


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_the_table_and_colours_if_it_wants_them(weights: str, no_color: bool) -> None:
    shown = in_terminal("classify", "a.mp4", "broken.mp4", "-w", weights, no_color=no_color)
    assert "Arm wrestling" in shown
    assert "could not be opened" in shown
    assert ("\x1b[1;31m" in shown) is not no_color


def in_terminal(*arguments: object, no_color: bool) -> str:
    """What a process writes to a terminal, standard error included."""
    reader, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **({"NO_COLOR": "1"} if no_color else {})}
    process = start(*arguments, stdin=terminal, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    pieces = []
    with contextlib.suppress(OSError):  # how a terminal says that it has ended
        while piece := os.read(reader, 4096):
            pieces.append(piece)
    process.wait(20)
    os.close(reader)
    return b"".join(pieces).decode()
