"""A record as the page shows it: what was found, where it looked and when, and what that cost.

Records may come from anywhere: every number is made a number, every name a text that is safe to show. Knows nothing
of pages or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adafocus_cli.output.escape import printable
from adafocus_cli.output.records import Record
from adafocus_cli.schema import Box
from adafocus_cli.scores import softmax

NO_LABEL = "no label"
# The page draws no more of them; a film of hours has tens of thousands.
MOST_LOOKS = 600
MOST_SEGMENTS = 400


class PageLook(NamedTuple):
    time: float
    frame: int
    box: Box


class Score(NamedTuple):
    label: str
    score: float


class PageSegment(NamedTuple):
    start: float
    end: float
    label: str
    score: float


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
    labels: tuple[Score, ...]
    steps: tuple[tuple[float, ...], ...]
    stages: Mapping[str, float]
    gmacs: float
    full_gmacs: float
    exit_step: int
    exit_of: int
    looks: tuple[PageLook, ...]
    look_count: int
    segments: tuple[PageSegment, ...]

    @property
    def best(self) -> str:
        return self.labels[0].label if self.labels else NO_LABEL

    @property
    def share(self) -> float:
        """Of what whole frames would have cost."""
        return self.gmacs / self.full_gmacs if self.full_gmacs else 0.0


@dataclass(frozen=True)
class Failed:
    path: str
    stage: str
    reason: str


Video = Tagged | Failed


def video_of(record: Record) -> Video:
    """Raises ValueError if this is no record."""
    try:
        return _failed(record) if record["status"] == "error" else _tagged(record)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("not a record") from error


def _failed(record: Record) -> Failed:
    path, error = str(record["video"]["path"]), record["error"]
    reason = printable(str(error["message"])).removeprefix(f"{printable(path)}: ")
    return Failed(path, printable(str(error["stage"])), reason)


def _tagged(record: Record) -> Tagged:
    video, cost, exit_ = record["video"], record["cost"], record["exit"]
    indices = [int(tag["index"]) for tag in record["labels"]]
    looks = sorted(_look(entry) for entry in record["trajectory"])
    segments = [_segment(entry) for entry in record.get("segments") or ()]
    return Tagged(
        path=str(video["path"]),
        width=max(1, int(video["width"])),
        height=max(1, int(video["height"])),
        frames=int(video["frames"]),
        fps=_number(video["fps"]),
        duration=_number(video["duration"]) or max((look.time for look in looks), default=0.0),
        codec=printable(str(video["codec"])),
        model=printable(str(record["model"]["name"])),
        labels=tuple(Score(printable(str(tag["label"])), _number(tag["score"])) for tag in record["labels"]),
        steps=_scores_by_step(record.get("step_logits"), indices),
        stages={printable(str(name)): _number(value) for name, value in cost["stages"].items()},
        gmacs=_number(cost["gmacs"]),
        full_gmacs=_number(cost["full_frame_gmacs"]),
        exit_step=int(exit_["step"]),
        exit_of=int(exit_["of"]),
        looks=tuple(_thinned(looks, MOST_LOOKS)),
        look_count=len(looks),
        segments=tuple(_thinned(segments, MOST_SEGMENTS)),
    )


def _look(entry: Mapping[str, Any]) -> PageLook:
    left, top, right, bottom = (_number(value) for value in entry["box"])
    return PageLook(_number(entry["time"]), int(entry["frame"]), (left, top, right, bottom))


def _segment(entry: Mapping[str, Any]) -> PageSegment:
    label = printable(str(entry["label"]))
    return PageSegment(_number(entry["start"]), _number(entry["end"]), label, _number(entry["score"]))


def _scores_by_step(logits: Any, indices: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Softmax after each step, of these classes; nothing if the record has no raw answers for them."""
    if not logits or not indices:
        return ()
    answers = np.asarray(logits, dtype=float)
    if answers.ndim != 2 or not np.isfinite(answers).all() or not 0 <= min(indices) <= max(indices) < answers.shape[1]:
        return ()
    return tuple(tuple(float(value) for value in row) for row in softmax(answers)[:, list(indices)])


def _number(value: Any) -> float:
    """0 for what JSON has no number for."""
    number = 0.0 if value is None else float(value)
    return number if math.isfinite(number) else 0.0


def _thinned(entries: Sequence[Any], most: int) -> Sequence[Any]:
    """Evenly, if there are too many."""
    every = math.ceil(len(entries) / most) if entries else 1
    return entries[::every]
