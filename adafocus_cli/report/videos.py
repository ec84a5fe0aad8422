"""A record as the page shows it: what was found, where it looked and when, and what that cost.

Records may come from anywhere: every number is made a number, every name a text that is safe to show. Knows nothing
of pages or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adafocus_cli.errors import printable
from adafocus_cli.labels import scores_of
from adafocus_cli.schema import Failure, PatchBox, Record, Segment, Tag, VideoResult, result_of, share_of

NO_LABEL = "no label"
LEAST_SCORE = 0.2  # of what counts as found, if it is not the best label
# The page draws no more of them; a film of hours has tens of thousands.
MOST_LOOKS = 600
MOST_SEGMENTS = 400


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A tagged video; `looks` in the order of the film, `steps` with the scores of `labels` after each step."""

    path: str
    width: int
    height: int
    frames: int
    fps: float
    duration: float
    codec: str
    model: str
    labels: tuple[Tag, ...]
    steps: tuple[tuple[float, ...], ...]
    stages: Mapping[str, float]
    gmacs: float
    full_gmacs: float
    """0: there is nothing to compare with."""
    exit_step: int
    exit_of: int
    looks: tuple[PatchBox, ...]
    look_count: int
    skipped: tuple[float, ...]
    """When frames were shown that got no look."""
    skipped_count: int
    segments: tuple[Segment, ...]

    @property
    def best(self) -> str:
        return self.labels[0].label if self.labels else NO_LABEL

    @property
    def also(self) -> list[str]:
        """What was found besides: at some time, or with a score that is not that of a guess."""
        sure = {tag.label for tag in self.labels if tag.score >= LEAST_SCORE}
        return sorted(sure | {segment.label for segment in self.segments})

    @property
    def share(self) -> float | None:
        """Of what whole frames would have cost."""
        return share_of(self.gmacs, self.full_gmacs)


@dataclass(frozen=True)
class Failed:
    path: str
    stage: str
    reason: str


Video = Tagged | Failed


def video_of(record: Record) -> Video:
    """Raises ValueError if this is not a record."""
    result = result_of(record)
    return _failed(result) if isinstance(result, Failure) else _tagged(result)


def _failed(failure: Failure) -> Failed:
    reason = printable(failure.message).removeprefix(f"{printable(failure.path)}: ")
    return Failed(failure.path, printable(failure.stage), reason)


def _tagged(result: VideoResult) -> Tagged:
    video, cost = result.video, result.cost
    looks = sorted(map(_look, result.trajectory), key=lambda look: (look.time, look.frame, look.box))
    segments = [_segment(segment) for segment in result.segments]
    return Tagged(
        path=video.path,
        width=max(1, video.width),
        height=max(1, video.height),
        frames=video.frames,
        fps=_number(video.fps),
        duration=_number(video.duration) or max((look.time for look in looks), default=0.0),
        codec=printable(video.codec),
        model=printable(result.model.name),
        labels=tuple(Tag(printable(tag.label), tag.index, _number(tag.score)) for tag in result.labels),
        steps=_scores_by_step(result, [tag.index for tag in result.labels]),
        stages={printable(name): _number(value) for name, value in cost.stages.items()},
        gmacs=_number(cost.gmacs),
        full_gmacs=_number(cost.full_frame_gmacs),
        exit_step=result.exit.step,
        exit_of=result.exit.of,
        looks=tuple(_thinned(looks, MOST_LOOKS)),
        look_count=len(looks),
        skipped_count=len(result.skipped or ()),
        skipped=tuple(_thinned([_number(frame.time) for frame in result.skipped or ()], MOST_LOOKS)),
        segments=tuple(_thinned(segments, MOST_SEGMENTS)),
    )


def _look(patch: PatchBox) -> PatchBox:
    left, top, right, bottom = map(_number, patch.box)
    return PatchBox(patch.step, patch.frame, _number(patch.time), (left, top, right, bottom))


def _segment(segment: Segment) -> Segment:
    start, end, score = map(_number, (segment.start, segment.end, segment.score))
    return Segment(start, end, printable(segment.label), segment.index, score)


def _scores_by_step(result: VideoResult, indices: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """After each step, of these classes; nothing if the record has no raw answers for them."""
    logits = result.step_logits
    if not logits.size or not indices:
        return ()
    answers = logits.astype(float)
    if answers.ndim != 2 or not np.isfinite(answers).all() or not 0 <= min(indices) <= max(indices) < answers.shape[1]:
        return ()
    return tuple(
        tuple(float(value) for value in row) for row in scores_of(answers, result.model.family)[:, list(indices)]
    )


def _number(value: float | None) -> float:
    """0 for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else 0.0


def _thinned(entries: Sequence[Any], most: int) -> Sequence[Any]:
    """Evenly, if there are too many."""
    every = math.ceil(len(entries) / most) if entries else 1
    return entries[::every]
