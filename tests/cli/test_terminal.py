"""Signals that come while a record is being written."""

from __future__ import annotations

import signal

import pytest

from adafocus_cli.cli.terminal import delayed_signals


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
