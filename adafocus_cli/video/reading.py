"""What every reader answers, and the form of a reader.

Knows nothing of containers or codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Deadline


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame as it was asked for; `number` is another than the one asked for where it stands in for that."""

    number: int
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Reading:
    """Pictures by the frame number asked for; `damaged` are the packets found so since the video was opened."""

    pictures: Mapping[int, Picture]
    damaged: frozenset[int] = frozenset()

    @property
    def replaced(self) -> int:
        return sum(number != picture.number for number, picture in self.pictures.items())


def nearest(candidates: np.ndarray, number: int) -> int:
    """Which of ascending numbers is nearest, of two the first; `number` itself where there are none.

    >>> nearest(np.array([0, 10, 20]), 15)
    10
    """
    return int(candidates[np.argmin(np.abs(candidates - number))]) if len(candidates) else number


Keep = Callable[[int, np.ndarray], None]
"""Takes all of a frame, upright, by the number asked for."""


class Reader(Protocol):
    """One open video; answers any frames in any order of requests."""

    info: VideoInfo
    warnings: tuple[str, ...]

    def read(
        self,
        wanted: Sequence[int],
        *,
        framing: Framing,
        deadline: Deadline,
        later: Sequence[int] = (),
        keep: Keep | None = None,
    ) -> Reading:
        """The frames with these numbers, ascending and distinct.

        `later` are those that may be asked for next. `keep` is given the source of each frame, as it is decoded.
        """

    def time_of(self, number: int) -> float:
        """Seconds from the first frame."""

    def keyframe_near(self, number: int) -> int:
        """The nearest frame that is decoded without others; the frame itself where the reader finds none sooner."""

    def close(self) -> None: ...
