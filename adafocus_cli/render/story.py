"""A record as a film: where the box is, what is said and what is spent at a moment.

Pure arithmetic on a record; knows nothing of pixels and files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from adafocus_cli.errors import UsageError
from adafocus_cli.schema import Box, Tag

# Records round times to milliseconds: a look must not miss its own frame.
_ROUNDED = 0.001


@dataclass(frozen=True)
class FilmLook:
    time: float
    frame: int
    box: Box


@dataclass(frozen=True)
class LabelSpan:
    """From when to when a label holds, in seconds."""

    start: float
    end: float
    tag: Tag


@dataclass(frozen=True)
class Story:
    """Looks are in the order of the film. Without spans, the label holds all the time."""

    width: int
    height: int
    looks: tuple[FilmLook, ...]
    label: Tag | None
    spans: tuple[LabelSpan, ...]
    glance_gmacs: float
    gmacs: float
    full_gmacs: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Story:
        try:
            return cls._of(record)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UsageError("the record does not have the fields of a result; write it with --format jsonl") from None

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> Story:
        video, cost = record["video"], record["cost"]
        labels = [_tag(entry) for entry in record["labels"]]
        spans = [LabelSpan(float(s["start"]), float(s["end"]), _tag(s)) for s in record.get("segments", ())]
        return cls(
            width=int(video["width"]),
            height=int(video["height"]),
            looks=tuple(sorted(map(_look, record["trajectory"]), key=lambda look: look.time)),
            label=labels[0] if labels else None,
            spans=tuple(spans),
            glance_gmacs=float(cost["stages"].get("glance", 0.0)),
            gmacs=float(cost["gmacs"]),
            full_gmacs=float(cost["full_frame_gmacs"]),
        )

    @cached_property
    def _times(self) -> list[float]:
        return [look.time - _ROUNDED for look in self.looks]

    def looks_until(self, time: float) -> int:
        return bisect_right(self._times, time)

    def seconds_since_look(self, time: float) -> float:
        made = self.looks_until(time)
        return time - self._times[made - 1] if made else float("inf")

    def box_at(self, time: float) -> Box | None:
        """On its way from one look to the next, slow at both; at rest before the first and after the last."""
        if not self.looks:
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
        if not self.spans:
            return self.label
        return next((span.tag for span in self.spans if span.start <= time + _ROUNDED < span.end + _ROUNDED), None)

    def tags(self) -> list[Tag]:
        """All that are ever shown."""
        return [span.tag for span in self.spans] or [tag for tag in (self.label,) if tag]

    def spent_at(self, time: float) -> float:
        """The glance is paid for from the start, all else in equal parts by the looks."""
        if not self.looks:
            return self.gmacs
        return self.glance_gmacs + (self.gmacs - self.glance_gmacs) * self.looks_until(time) / len(self.looks)


def _tag(entry: Mapping[str, Any]) -> Tag:
    return Tag(str(entry["label"]), int(entry["index"]), float(entry["score"]))


def _look(entry: Mapping[str, Any]) -> FilmLook:
    left, top, right, bottom = (float(value) for value in entry["box"])
    return FilmLook(float(entry["time"]), int(entry["frame"]), (left, top, right, bottom))
