"""The command line, run inside the test or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.cli.app import run
from tests.cli.fake_engine import FakeEngine
from tests.forked import Forked

ROOT = Path(__file__).parents[2]


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def paths(self) -> list[str]:
        return [record["video"]["path"] for record in self.records]


Adafocus = Callable[..., Outcome]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Takes the place of the real one; tests of the real one leave this fixture out."""
    fake = FakeEngine()
    monkeypatch.setitem(sys.modules, "adafocus_cli.engine.local", fake.as_module())
    return fake


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file that only has to be there."""
    path = tmp_path / "model.pth"
    path.touch()
    return str(path)


@pytest.fixture
def adafocus(capfd: pytest.CaptureFixture[str]) -> Adafocus:
    """Runs a command line inside the test."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def start(*arguments: object, **options: Any) -> Forked:
    """`adafocus` with the fake engine as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return Forked("tests.cli.fake_engine", arguments, **options)


def start_anew(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """The same, started and ended as users see it, which takes a second more."""
    command = [sys.executable, "-m", "tests.cli.fake_engine", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, **options}
    return subprocess.Popen(command, cwd=ROOT, **options)
