"""The results of an evaluation, and its record `adafocus-evaluation/1`. Shares are from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from adafocus_cli.schema import Failure, ModelInfo

SCHEMA = "adafocus-evaluation/1"

Metric = Literal["top-1", "mAP, all labels", "mAP, one label"]
"""What papers print. Of a video with several labels, either mAP counts all of them, or only the first: the class of the
lowest number, where the authors of V1 draw one anew each time."""


@dataclass(frozen=True, kw_only=True)
class ClassReport:
    """One class; `taken_for` is the most frequent wrong answer to its videos."""

    label: str
    index: int
    videos: int
    top1: float
    ap_published: float
    ap_scikit_learn: float
    taken_for: str | None
    taken_for_videos: int


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Numbers of videos by their class (row) and the answer (column), for classes that occur as either."""

    indices: tuple[int, ...]
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """Of a video, or the mean over many."""

    gmacs: float
    stages: Mapping[str, float]
    full_frame_gmacs: float | None
    frames_decoded: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The accuracy of the answers after a step."""

    step: int
    top1: float
    top5: float


@dataclass(frozen=True, kw_only=True)
class EvaluationSetting:
    """What was evaluated."""

    model: ModelInfo
    data: str
    policy: str
    seed: int
    available: int
    """The number of videos in the data, of which a sample may have been taken."""
    exits: str | None = None
    max_gmacs: float | None = None
    decode: str = "exact"


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All shares are over the `videos` that could be tagged; `exits` counts them by the step whose answer was taken.

    `metric` is what the model's paper prints, if it has one. A mAP is the mean over the classes that a video shows.
    """

    videos: int
    failures: tuple[Failure, ...]
    top1: float
    top5: float
    metric: Metric | None
    map_published: float
    """Computed as the papers do, over all labels of a video."""
    map_one_label: float
    """The same over the first label of a video."""
    map_scikit_learn: float
    several_labels: int
    """How many videos have more than one."""
    classes_without_videos: int
    classes: tuple[ClassReport, ...]
    confusion: Confusion = field(repr=False)
    cost: CostReport
    steps: int
    exits: Mapping[int, int]
    by_step: tuple[StepReport, ...]

    def value(self, metric: Metric) -> float:
        return {"top-1": self.top1, "mAP, all labels": self.map_published, "mAP, one label": self.map_one_label}[metric]

    def to_dict(self, setting: EvaluationSetting, *, seconds: float) -> dict[str, Any]:
        """The record, ready for JSON; `seconds` is how long the evaluation took."""
        return {
            "schema": SCHEMA,
            **asdict(setting),
            "videos": {"tagged": self.videos, "failed": len(self.failures)},
            "accuracy": {
                "over": "the videos that were tagged",
                "paper": self.metric and {"metric": self.metric, "value": round(self.value(self.metric), 6)},
                "top1": round(self.top1, 6),
                "top5": round(self.top5, 6),
                "mean_average_precision": {
                    "as_published": round(self.map_published, 6),
                    "scikit_learn": round(self.map_scikit_learn, 6),
                },
                "mean_average_precision_one_label": round(self.map_one_label, 6),
                "classes": {"averaged": len(self.classes), "without_videos": self.classes_without_videos},
                "videos_with_several_labels": self.several_labels,
                "by_step": [_rounded(asdict(step)) for step in self.by_step],
            },
            "cost": _rounded(asdict(self.cost)),
            "exits": {"of": self.steps, "videos": [{"step": s, "videos": n} for s, n in self.exits.items()]},
            "seconds": round(seconds, 3),
            "classes": [_rounded(asdict(entry)) for entry in self.classes],
            "confusion": asdict(self.confusion),
            "failures": [failure.to_dict() for failure in self.failures],
        }


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    return round(values, 6) if isinstance(values, float) else values
