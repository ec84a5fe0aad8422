"""Signals that come while a record is being written, and reports that nobody takes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from adafocus_cli.cli.app import run
from adafocus_cli.cli.terminal import delayed_signals
from tests.cli.test_doctor import report


def test_it_waits_for_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), delayed_signals():  # noqa: PT012 — the signal comes inside
        signal.raise_signal(signal.SIGINT)
        steps.append("written")
    assert steps == ["written"]


def test_a_second_one_does_not_wait() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), delayed_signals():  # noqa: PT012 — the signals come inside
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("written")
    assert steps == []


def test_afterwards_all_is_as_it_was() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with delayed_signals():
        assert signal.getsignal(signal.SIGINT) is not usual
    assert signal.getsignal(signal.SIGINT) is usual


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adafocus_cli.diagnose.diagnose", lambda: report(ready=True))


REPORTS = pytest.mark.parametrize("command", ["doctor", "models list", "models show motion", "models list -f json"])


@REPORTS
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_onto_a_full_disk_is_one_line(
    command: str, one_check: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(command.split()) == 1
    err = capsys.readouterr().err
    assert err.startswith("adafocus: error: cannot write to standard output: No space left on device")
    assert err.count("\n") == 1


@REPORTS
def test_a_reader_of_a_report_that_has_seen_enough_is_no_error(
    command: str, one_check: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert run(command.split()) == 141
    assert capsys.readouterr().err == ""
