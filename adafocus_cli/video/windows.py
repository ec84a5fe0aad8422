"""Which stretches of a video are tagged as clips of their own: pure arithmetic on the times of its frames.

Knows nothing of files or pixels; which frames of a window a model looks at is for the model to say (sampling.py).
"""

from __future__ import annotations

import math
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
