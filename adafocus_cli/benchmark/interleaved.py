"""Things timed against one another: they take turns, so that a busy moment of the machine hits all of them alike.

Ratios are therefore taken round by round. Knows nothing of what is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

OnProgress = Callable[[str], None]
"""Gets a line on what is being measured."""
Parts = Mapping[str, float]
"""Seconds by part; together they are what the whole took."""


@dataclass(frozen=True)
class Entrant:
    """What is timed: `run` does the work on so many videos, to its very end."""

    name: str
    run: Callable[[], Parts]
    videos: int = 1


@dataclass(frozen=True)
class Timing:
    """Seconds a video, by part, in each round."""

    rounds: tuple[Parts, ...]

    def seconds(self, *parts: str) -> list[float]:
        """Of these parts together, or of all, in each round."""
        return [sum(each[part] for part in parts or each) for each in self.rounds]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds())

    @property
    def spread(self) -> float:
        """How far apart the quarters of the rounds lie, as a share of the median."""
        if len(self.rounds) == 1:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds(), n=4, method="inclusive")
        return (upper - lower) / self.median

    @property
    def parts(self) -> dict[str, float]:
        """The median of each."""
        return {part: statistics.median(self.seconds(part)) for part in self.rounds[0]}


def ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """
    >>> ratio([1.0, 6.0, 2.0], [2.0, 10.0, 4.0])
    0.5
    """
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def timed(
    entrants: Sequence[Entrant], rounds: int, tell: Callable[[str], None], *, warm: bool = True
) -> dict[str, Timing]:
    """By name. Every entrant once in every round; before the first, each once without being timed, to get warm."""
    measured: dict[str, list[Parts]] = {entrant.name: [] for entrant in entrants}
    for number in range(0 if warm else 1, rounds + 1):
        for entrant in entrants:
            tell(f"{entrant.name}, round {number} of {rounds}" if number else f"{entrant.name}, getting warm")
            parts = entrant.run()
            if number:
                per_video = {part: seconds / entrant.videos for part, seconds in parts.items()}
                measured[entrant.name].append(per_video)
    return {name: Timing(tuple(taken)) for name, taken in measured.items()}


def whole(action: Callable[[], object]) -> Callable[[], Parts]:
    """As something to be timed that has no parts."""

    def run() -> Parts:
        started = time.perf_counter()
        action()
        return {"all": time.perf_counter() - started}

    return run


def finish(tensor: Tensor) -> None:
    """Waits until it is calculated, which an accelerator else does while the caller goes on."""
    tensor.flatten()[:1].cpu()
