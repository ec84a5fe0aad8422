"""A record as a film: where the box is, what is said and what is spent at a moment.

Pure arithmetic on a record; knows nothing of pixels and files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from adafocus_cli.errors import UsageError
from adafocus_cli.schema import Box, PatchBox, Segment, Tag, VideoResult

# Records round times to milliseconds: a look must not miss its own frame.
_ROUNDED = 0.001


@dataclass(frozen=True)
class Story:
    """Looks are in the order of the film. Without segments, the label holds all the time."""

    width: int
    height: int
    looks: tuple[PatchBox, ...]
    skipped: tuple[float, ...]
    """When frames were shown that got no look."""
    label: Tag | None
    segments: tuple[Segment, ...]
    glance_gmacs: float
    gmacs: float
    full_gmacs: float
    """0: there is nothing to compare with."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Story:
        try:
            result = VideoResult.from_dict(record)
            story = cls._of(result)
            story.check_numbers()
        except ValueError:
            raise UsageError("the record does not have the fields of a result; write it with --format jsonl") from None
        return story

    @classmethod
    def _of(cls, result: VideoResult) -> Story:
        cost = result.cost
        return cls(
            width=result.video.width,
            height=result.video.height,
            looks=tuple(sorted(result.trajectory, key=lambda look: look.time)),
            skipped=tuple(sorted(frame.time for frame in result.skipped or ())),
            label=result.labels[0] if result.labels else None,
            segments=result.segments,
            glance_gmacs=cost.stages.get("glance", 0.0),
            gmacs=cost.gmacs,
            full_gmacs=cost.full_frame_gmacs or 0.0,
        )

    def check_numbers(self) -> None:
        """Nothing can be drawn at a place, a time or a cost that is NaN."""
        looks = (*self.skipped, *(value for look in self.looks for value in (look.time, *look.box)))
        times = (value for segment in self.segments for value in (segment.start, segment.end, segment.score))
        scores = () if self.label is None else (self.label.score,)
        if not all(map(isfinite, (*looks, *times, *scores, self.glance_gmacs, self.gmacs, self.full_gmacs))):
            raise ValueError("not a number")

    @cached_property
    def _times(self) -> list[float]:
        return [look.time - _ROUNDED for look in self.looks]

    def looks_until(self, time: float) -> int:
        return bisect_right(self._times, time)

    def skipped_until(self, time: float) -> int:
        return bisect_right(self.skipped, time + _ROUNDED)

    def skipping(self, time: float) -> bool:
        """Whether the frame that was glanced at last got no look."""
        made, skipped = self.looks_until(time), self.skipped_until(time)
        return skipped > 0 and (made == 0 or self.looks[made - 1].time < self.skipped[skipped - 1])

    def seconds_since_look(self, time: float) -> float:
        made = self.looks_until(time)
        return time - self._times[made - 1] if made else float("inf")

    def box_at(self, time: float) -> Box | None:
        """On its way from one look to the next, slow at both; at rest before the first and after the last.

        There is none while frames are skipped.
        """
        if not self.looks or self.skipping(time):
            return None
        made = self.looks_until(time)
        if made in (0, len(self.looks)):
            return self.looks[max(0, made - 1)].box
        before, after = self.looks[made - 1], self.looks[made]
        way = min(max((time - before.time) / max(after.time - before.time, _ROUNDED), 0.0), 1.0)
        eased = way * way * (3 - 2 * way)
        left, top, right, bottom = (a + eased * (b - a) for a, b in zip(before.box, after.box, strict=True))
        return left, top, right, bottom

    def tag_at(self, time: float) -> Tag | None:
        if not self.segments:
            return self.label
        now = (s for s in self.segments if s.start <= time + _ROUNDED < s.end + _ROUNDED)
        return next(map(_tag, now), None)

    def tags(self) -> list[Tag]:
        """All that are ever shown."""
        return [_tag(segment) for segment in self.segments] or [tag for tag in (self.label,) if tag]

    def spent_at(self, time: float) -> float:
        """The glance is paid for from the start, all else in equal parts by the looks."""
        if not self.looks:
            return self.gmacs
        return self.glance_gmacs + (self.gmacs - self.glance_gmacs) * self.looks_until(time) / len(self.looks)


def _tag(segment: Segment) -> Tag:
    return Tag(segment.label, segment.index, segment.score)
