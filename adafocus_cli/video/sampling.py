"""Which frames of a video a model looks at: pure arithmetic on frame counts.

Knows nothing of files or pixels. A family picks one of these rules; the tagger decodes what the plan names. Given a
source of chance, a rule draws other frames at every look, as training does.
The published rules are meant in double precision and in their order of operations: where rounding shows, the frames
that the published models were tested with are the rounded ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import floor
from typing import Any, NamedTuple, Protocol

from adafocus_cli.schema import Box


class Chance(Protocol):
    """Where random numbers come from, such as a generator of numpy."""

    def integers(self, below: int, /, *, size: int) -> Any: ...

    def random(self, size: int, /) -> Any: ...


@dataclass(frozen=True)
class FramePlan:
    """The frames of one video that a model may look at.

    `frames` are source frame numbers; `glance` and `focus` are positions in it: what the glance sees,
    and what the focus may choose from.
    """

    frames: tuple[int, ...]
    glance: tuple[int, ...]
    focus: tuple[int, ...]


class Look(NamedTuple):
    """A frame by its number, which part of it, and the side of the square that this becomes, in pixels.

    `box` is left, top, right, bottom in upright pixels of the source; None is all that the model's framing shows.
    """

    frame: int
    box: Box | None
    size: int


@dataclass(frozen=True)
class LookRequest:
    """What a clip looks at next, and of each look whether it is wanted: the others are at hand."""

    looks: tuple[Look, ...]
    wanted: tuple[bool, ...]

    @property
    def due(self) -> list[Look]:
        """Those that are wanted."""
        return [look for look, wanted in zip(self.looks, self.wanted, strict=True) if wanted]


def spread(count: int, wanted: int, chance: Chance | None = None) -> tuple[int, ...]:
    """The middle of each of `wanted` equal parts, as V1 and V2 calculate it: half a part, then whole ones.

    By chance, any frame of each of as many parts of whole frames; what is left over at the end is never drawn.
    Of a short video that is all frames, some more than once.

    >>> spread(280, 4), spread(3, 5)
    ((35, 105, 175, 245), (0, 0, 1, 2, 2))
    >>> spread(16, 12)[7]  # 10, but for rounding
    9
    """
    if chance is not None and count >= wanted:
        part = count // wanted
        return tuple(part * i + int(draw) for i, draw in enumerate(chance.integers(part, size=wanted)))
    length = count / wanted
    return tuple(int(length / 2 + length * i) for i in range(wanted))


def spread_by_share(count: int, wanted: int, chance: Chance | None = None) -> tuple[int, ...]:
    """The same middles as Uni-AdaFocus calculates them: as shares of the whole, which are rounded elsewhere.

    By chance, any place of each part, in short videos too.

    >>> spread_by_share(280, 4), spread_by_share(16, 12)[7]
    ((35, 105, 175, 245), 10)
    >>> spread_by_share(216, 36)[18]  # 111, but for rounding
    110
    """
    within = [0.5] * wanted if chance is None else chance.random(wanted)
    return tuple(floor((i + float(draw)) / wanted * count) for i, draw in enumerate(within))


def repeat_last(count: int, wanted: int, chance: Chance | None = None) -> tuple[int, ...]:
    """`spread`, or for a short video all its frames and then the last again.

    >>> repeat_last(3, 5)
    (0, 1, 2, 2, 2)
    """
    return spread(count, wanted, chance) if count >= wanted else tuple(min(i, count - 1) for i in range(wanted))


def repeat_first(count: int, wanted: int, chance: Chance | None = None) -> tuple[int, ...]:
    """`spread`, or for a short video its first frame throughout; by chance, one of `wanted` frames is not short.

    >>> repeat_first(3, 5), repeat_first(5, 5)
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
    """
    if count > wanted or (count == wanted and chance is not None):
        return spread(count, wanted, chance)
    return (0,) * wanted


def coarse_to_fine(count: int) -> tuple[int, ...]:
    """The order in which every step refines: the middle, the ends, then the middles of what lies between.

    >>> coarse_to_fine(16)
    (7, 0, 15, 3, 11, 1, 5, 9, 13, 2, 4, 6, 8, 10, 12, 14)
    """
    order = list(dict.fromkeys(((count - 1) // 2, 0, count - 1)))
    while len(order) < count:
        seen = sorted(order)
        order += [(a + b) // 2 for a, b in pairwise(seen) if b - a > 1]
    return tuple(order)


def one_list(frames: tuple[int, ...], *, glance: tuple[int, ...]) -> FramePlan:
    """The focus may choose among all the frames, of which the glance sees some."""
    return FramePlan(frames, glance=glance, focus=tuple(range(len(frames))))


def same_frames(frames: tuple[int, ...]) -> FramePlan:
    """Glance and focus share their frames."""
    return one_list(frames, glance=tuple(range(len(frames))))


def separate_frames(glance: tuple[int, ...], focus: tuple[int, ...]) -> FramePlan:
    """Glance and focus sample the video each for itself."""
    return FramePlan(
        glance + focus,
        glance=tuple(range(len(glance))),
        focus=tuple(range(len(glance), len(glance) + len(focus))),
    )


def evenly(count: int, frames: int, step: int, clips: int, chance: Chance | None = None) -> tuple[int, ...]:
    """Clips of frames that are `step` apart, from the start of the video to its end; a single one is in its middle.

    By chance, a clip begins anywhere. Past the end the last frame is repeated.

    >>> evenly(100, 3, 8, 2), evenly(100, 3, 8, 1), evenly(10, 3, 8, 1)
    ((0, 8, 16, 83, 91, 99), (41, 49, 57), (0, 8, 9))
    """
    room = max(0, count - 1 - step * (frames - 1))
    if chance is not None:
        starts = [int(draw) for draw in chance.integers(room + 1, size=clips)]
    else:
        starts = [room * i // (clips - 1) for i in range(clips)] if clips > 1 else [room // 2]
    return tuple(min(start + step * i, count - 1) for start in starts for i in range(frames))
