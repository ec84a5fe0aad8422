"""Which stretches of a video are tagged as clips of their own: pure arithmetic on the times of its frames.

Knows nothing of files or pixels; which frames of a window a model looks at is for the model to say (sampling.py).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from adafocus_cli.errors import UsageError, printable
from adafocus_cli.video.limits import LimitError
from adafocus_cli.video.sampling import FramePlan

SHORTEST = 0.1
MAX_WINDOWS = 100_000
# Of a stride: a tail that is shorter is left to the window before it.
_TAIL = 0.1
# What rounding may take from the time of a frame.
_ROUNDING = 0.0005


@dataclass(frozen=True)
class Window:
    """One of `of` windows of a video: from when to when, and its frames."""

    index: int
    of: int
    start: float
    end: float
    frames: range

    def shifted(self, plan: FramePlan) -> FramePlan:
        """A plan for as many frames as the window has, with the numbers that they have in the video."""
        return FramePlan(tuple(self.frames.start + frame for frame in plan.frames), plan.glance, plan.focus)


@dataclass(frozen=True)
class Windowing:
    """Windows of `seconds`, one every `stride`."""

    seconds: float
    stride: float

    @classmethod
    def of(cls, window: float | None, stride: float | None) -> Windowing | None:
        """None without a window; without a stride, half a window, or the shortest."""
        if window is None:
            if stride is not None:
                raise UsageError(f"--stride {stride:g} needs windows; add --window SECONDS")
            return None
        stride = max(window / 2, SHORTEST) if stride is None else stride
        for name, value in (("window", window), ("stride", stride)):
            if not SHORTEST <= value < math.inf:
                raise UsageError(f"--{name} {value:g} does not fit; give seconds, {SHORTEST:g} or more")
        return cls(window, stride)

    def cut(self, times: np.ndarray, name: str) -> list[Window]:
        """Those of a video whose frames are shown at these times; windows without a frame are left out.

        The last one ends with the video, so that it is as long as the others.
        """
        duration = _end(times)
        starts = self._starts(duration, name)
        ends = [*(start + self.seconds for start in starts[:-1]), duration]
        first = np.searchsorted(times, np.subtract(starts, _ROUNDING))
        stop = np.searchsorted(times, np.subtract(ends, _ROUNDING))
        first[0], stop[-1] = 0, len(times)
        spans = [each for each in zip(starts, ends, first.tolist(), stop.tolist(), strict=True) if each[2] < each[3]]
        return [Window(i, len(spans), start, end, range(a, b)) for i, (start, end, a, b) in enumerate(spans)]

    def _starts(self, duration: float, name: str) -> list[float]:
        room = duration - self.seconds
        if room <= _TAIL * self.stride:
            return [0.0]
        if room / self.stride > MAX_WINDOWS:
            text = f"{duration:g} seconds are more than {MAX_WINDOWS} windows; give a longer --stride"
            raise LimitError(f"{printable(name)}: {text}")
        return [*(i * self.stride for i in range(math.ceil(room / self.stride - _TAIL))), room]


def _end(times: np.ndarray) -> float:
    """When the last frame has been shown as long as the others are in the mean."""
    return float(times[-1] * len(times) / max(1, len(times) - 1))


@dataclass
class _Passing:
    """A window that has begun to pass; `first` is the number of its first frame."""

    index: int
    first: int


class PassingWindows:
    """The windows of a stream, each as soon as it has passed: those that `cut` makes of the same frames.

    Only a tail that is shorter than a tenth of a stride is in none: the window before it was given out before.
    """

    def __init__(self, windowing: Windowing) -> None:
        self._seconds, self._stride = windowing.seconds, windowing.stride
        self._open: deque[_Passing] = deque()
        self._next = 0  # the index of the first window that has not begun
        self._last_start: float | None = None  # of those that were given out
        self._recent: deque[tuple[int, float]] = deque()  # numbers and times, as far back as the last window may reach
        self.count = 0
        """How many frames have come."""

    @property
    def oldest(self) -> int:
        """The number of the first frame that a window to come may have in it."""
        return self._recent[0][0] if self._recent else 0

    @property
    def seconds(self) -> float:
        """The time of the last frame."""
        return self._recent[-1][1] if self._recent else 0.0

    @property
    def firsts(self) -> list[int]:
        """The numbers of the first frames of those that are passing."""
        return [window.first for window in self._open]

    def add(self, time: float) -> list[Window]:
        """The windows that are over before the next frame, which is shown at this time, later than all before it."""
        over = []
        while self._open and time >= self._end_of(self._open[0].index) - _ROUNDING:
            over.append(self._given_out(self._open.popleft()))
        if self._end_of(self._next) <= time:  # a gap: the windows in it have no frames
            self._next = max(self._next, math.floor((time - self._seconds) / self._stride) - 1)
        while self._next * self._stride - _ROUNDING <= time:
            if time < self._end_of(self._next) - _ROUNDING:
                self._open.append(_Passing(self._next, self.count))
            self._next += 1
        self._recent.append((self.count, time))
        while self._recent[0][1] < time - self._seconds - _ROUNDING:
            self._recent.popleft()
        self.count += 1
        return over

    def end(self) -> list[Window]:
        """The windows that were passing when the stream ended; the last one ends with it."""
        if not self.count:
            return []
        duration = self.seconds * self.count / max(1, self.count - 1)
        room = duration - self._seconds
        if self._last_start is None and room <= _TAIL * self._stride:
            return [Window(0, 1, 0.0, duration, range(self.count))]
        regular = math.ceil(room / self._stride - _TAIL)
        over = [self._given_out(each) for each in self._open if each.index < regular]
        if self._last_start is not None and self._last_start >= room - _TAIL * self._stride:
            return over
        first = next((number for number, time in self._recent if time >= room - _ROUNDING), self.count)
        last = Window(max(regular, 0), 1, room, duration, range(first, self.count))
        return [*over, last] if last.frames else over

    def _end_of(self, index: int) -> float:
        return index * self._stride + self._seconds

    def _given_out(self, passing: _Passing) -> Window:
        self._last_start = start = passing.index * self._stride
        return Window(passing.index, 1, start, self._end_of(passing.index), range(passing.first, self.count))
