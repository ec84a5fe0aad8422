"""What is made of timings, on made-up ones."""

from __future__ import annotations

import pytest

from adafocus_cli.benchmark.interleaved import TimedTask, Timing, time_interleaved
from adafocus_cli.benchmark.model_only import share
from adafocus_cli.benchmark.report import Row


def timing(*seconds, part="all"):
    return Timing(tuple({part: each} for each in seconds))


def test_everybody_takes_a_turn_in_every_round_and_the_first_does_not_count():
    seconds = {"a": iter((100.0, 1.0, 2.0)), "b": iter((100.0, 6.0, 8.0))}
    order = []

    def task(name, videos):
        return TimedTask(name, lambda: order.append(name) or {"all": next(seconds[name])}, videos)

    timings = time_interleaved([task("a", 1), task("b", 2)], 2, lambda text: None)
    assert order == ["a", "b"] * 3
    assert timings["a"].seconds() == [1, 2]
    assert timings["b"].seconds() == [3, 4], "of one video"


def test_the_share_of_the_peak_is_taken_round_by_round():
    assert share(10, [2.0, 1.0, 4.0], [10.0, 20.0, 5.0]) == 0.5


def test_parts_add_up_and_the_spread_leaves_outliers_out():
    both = Timing(tuple({"glance": each, "focus": 2 * each} for each in (1.0, 2.0, 2.0, 2.0, 50.0)))
    assert both.seconds()[:2] == [3, 6]
    assert both.seconds("focus")[0] == 2
    assert both.parts == {"glance": 2, "focus": 4}
    assert both.median == 6
    assert both.spread == 0


def test_the_record_says_the_same():
    row = Row(name="ours", timing=timing(0.5, 0.5), shares={"all": 0.75})
    assert row.to_dict() == {
        "name": "ours",
        "seconds": 0.5,
        "rounds": [0.5, 0.5],
        "spread": 0.0,
        "videos_per_second": 2.0,
        "share_of_peak": {"all": 0.75},
    }
    assert timing(0.5).seconds() == [0.5]


@pytest.mark.parametrize("rounds", [1, 3])
def test_stages_are_in_the_record(rounds):
    stages = Timing(tuple({"glance": 1.0, "rest": 0.5} for _ in range(rounds)))
    assert Row(name="ours", timing=stages).to_dict()["stages"] == {"glance": 1.0, "rest": 0.5}
