"""Interleaved timing: tasks take turns, so that a busy moment of the machine hits all of them alike.

Ratios are therefore taken round by round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

OnProgress = Callable[[str], None]
"""Gets a line on what is being measured."""
SecondsByPart = Mapping[str, float]
"""Seconds by part of a task; they add up to the whole."""


@dataclass(frozen=True)
class TimedTask:
    """What is timed: `run` does the work on this number of videos and waits until it is done."""

    name: str
    run: Callable[[], SecondsByPart]
    videos: int = 1


@dataclass(frozen=True)
class Timing:
    """Seconds a video, by part, in each round."""

    rounds: tuple[SecondsByPart, ...]

    def seconds(self, *parts: str) -> list[float]:
        """The seconds of these parts together, or of all, in each round."""
        return [sum(each[part] for part in parts or each) for each in self.rounds]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds())

    @property
    def spread(self) -> float:
        """The interquartile range of the rounds, as a share of the median."""
        if len(self.rounds) == 1:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds(), n=4, method="inclusive")
        return (upper - lower) / self.median

    @property
    def parts(self) -> dict[str, float]:
        """The median of each part."""
        return {part: statistics.median(self.seconds(part)) for part in self.rounds[0]}


def ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """
    >>> ratio([1.0, 6.0, 2.0], [2.0, 10.0, 4.0])
    0.5
    """
    return statistics.median(value / reference for value, reference in zip(values, references, strict=True))


def time_interleaved(
    tasks: Sequence[TimedTask], rounds: int, tell: Callable[[str], None], *, warm: bool = True
) -> dict[str, Timing]:
    """Timings by name. Every task runs once in every round; before that, each once untimed, as a warm-up."""
    measured: dict[str, list[SecondsByPart]] = {task.name: [] for task in tasks}
    for number in range(0 if warm else 1, rounds + 1):
        for task in tasks:
            tell(f"{task.name}, round {number} of {rounds}" if number else f"{task.name}, warm-up")
            parts = task.run()
            if number:
                per_video = {part: seconds / task.videos for part, seconds in parts.items()}
                measured[task.name].append(per_video)
    return {name: Timing(tuple(taken)) for name, taken in measured.items()}


def in_one_part(action: Callable[[], object]) -> Callable[[], SecondsByPart]:
    """The seconds of an action as a single part."""

    def run() -> SecondsByPart:
        started = time.perf_counter()
        action()
        return {"all": time.perf_counter() - started}

    return run


def wait_for(tensor: Tensor) -> None:
    """Waits until a tensor is computed: accelerators work asynchronously."""
    tensor.flatten()[:1].cpu()
