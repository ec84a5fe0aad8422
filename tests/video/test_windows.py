"""Which windows a video has, by the times of its frames."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.video.limits import LimitError
from adafocus_cli.video.windows import PassingWindows, Windowing


def cut(seconds, window, stride=None, *, fps=10):
    found = Windowing.of(window, stride).cut(np.arange(round(seconds * fps)) / fps, "clip.mp4")
    assert [each.index for each in found] == list(range(found[0].of))
    return [(round(each.start, 3), round(each.end, 3), each.frames) for each in found]


def test_windows_begin_one_stride_apart_and_the_last_ends_with_the_video():
    assert cut(9, 4, 2) == [
        (0.0, 4.0, range(0, 40)),
        (2.0, 6.0, range(20, 60)),
        (4.0, 8.0, range(40, 80)),
        (5.0, 9.0, range(50, 90)),
    ]


def test_without_a_stride_windows_overlap_by_half():
    assert cut(8, 4) == cut(8, 4, 2)


def test_a_stride_that_nobody_gave_is_no_error():
    assert Windowing.of(0.1, None) == Windowing(0.1, 0.1)


def test_a_tail_too_short_for_a_window_moves_the_last_one():
    assert [start for start, *_ in cut(8.1, 4, 2)] == [0.0, 2.0, 4.1]


@pytest.mark.parametrize("seconds", [0.2, 3.9, 4.0, 4.1])
def test_a_video_as_long_as_a_window_has_one_with_all_its_frames(seconds):
    ((start, end, frames),) = cut(seconds, 4, 2)
    assert (start, end, frames) == (0.0, round(seconds, 3), range(round(10 * seconds)))


def test_strides_longer_than_windows_leave_something_out():
    assert [frames for *_, frames in cut(30, 2, 14)] == [range(0, 20), range(140, 160), range(280, 300)]


def test_windows_follow_the_times_of_frames_not_their_numbers():
    times = np.array([0.0, 0.1, 0.2, 0.3, 7.0, 8.0, 9.0])
    found = Windowing.of(2, 2).cut(times, "clip.mp4")
    assert [(each.start, each.frames) for each in found][:2] == [(0.0, range(0, 4)), (6.0, range(4, 5))]
    assert found[-1].frames.stop == 7


@pytest.mark.parametrize(("window", "stride"), [(0, None), (-1, 1), (4, 0.01), (float("inf"), 1), (float("nan"), 1)])
def test_windows_that_cannot_be_are_refused(window, stride):
    with pytest.raises(UsageError, match="does not fit; give seconds"):
        Windowing.of(window, stride)


def test_a_stride_without_a_window_says_what_is_missing():
    with pytest.raises(UsageError, match="add --window SECONDS"):
        Windowing.of(None, 2)


def test_a_video_that_says_it_lasts_for_years_is_refused():
    with pytest.raises(LimitError, match="give a longer --stride"):
        Windowing.of(4, 2).cut(np.array([0.0, 1e9]), "clip.mp4")


def passed(times, windowing):
    passing = PassingWindows(windowing)
    over = [window for time in times for window in passing.add(float(time))] + passing.end()
    return [(each.start, each.end, each.frames) for each in over]


@pytest.mark.parametrize("seed", range(40))
def test_the_windows_of_a_stream_are_those_of_the_file_that_it_makes(seed):
    chance = np.random.default_rng(seed)
    steps = chance.choice([0.04, 0.04, 0.05, 0.4], size=chance.integers(1, 400))
    steps[chance.integers(len(steps))] += chance.choice([0, 0, 3, 50])  # a gap
    times = np.cumsum(steps) - steps[0]
    windowing = Windowing.of(chance.choice([0.5, 2, 4, 4.1]), chance.choice([0.3, 1, 2, 7]))
    cut = [(each.start, each.end, each.frames) for each in windowing.cut(times, "clip.mp4")]
    found = passed(times, windowing)
    if len(found) == len(cut) and found[-1] != cut[-1]:
        assert found.pop()[2].start <= cut.pop()[2].start  # the last frames are in the window before
    assert found == cut


def test_a_gap_of_years_in_a_stream_costs_nothing():
    starts = [round(start) for start, *_ in passed([0.0, 1.0, 2e9, 2e9 + 4], Windowing(4, 2))]
    assert starts[:3] == [0, 1999999998, 2000000000]
