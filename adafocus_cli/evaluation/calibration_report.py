"""What a calibration found: frozen values, and the record that they become.

Shares are from 0 to 1, steps count from 0. Knows nothing of how they were fitted or how they are shown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from adafocus_cli.evaluation.metrics import Metric
from adafocus_cli.exits import Criterion


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of many videos: the mean cost in 10⁹ multiply-adds, how right the answers are, and how many are left where."""

    gmacs: float
    top1: float
    mean_average_precision: float
    accuracy: float
    """By the metric of the calibration."""
    left: tuple[tuple[int, int], ...]
    """(step, videos)"""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gmacs": round(self.gmacs, 6),
            "top1": round(self.top1, 6),
            "map_published": round(self.mean_average_precision, 6),
            "accuracy": round(self.accuracy, 6),
            "left": [{"step": step, "videos": videos} for step, videos in self.left],
        }


@dataclass(frozen=True, kw_only=True)
class Point:
    """How accurate at which cost; `accuracy` is by the metric of the calibration."""

    gmacs: float
    top1: float
    accuracy: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a budget gets: thresholds, what they did to either half, and what the same step for all does within it.

    `ratio` is None where the budget is enough for everything, and 0 where it is below all laws: then everything is left
    at the first exit.
    """

    budget: float
    ratio: float | None
    thresholds: tuple[float, ...]
    fitted: Outcome
    checked: Outcome
    same_step: Outcome


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The points are of the half that was checked on, but for `fitted_laws`.

    `metric` is what laws are chosen by; mAP is over those of the `classes` that a video of the half shows.
    """

    steps: int
    group: int
    metric: Metric
    criterion: Criterion
    fitted_on: int
    checked_on: int
    classes: int
    classes_checked: int
    full: Outcome
    choices: tuple[Choice, ...]
    fitted_laws: tuple[Point, ...]
    laws: tuple[Point, ...]
    same_steps: tuple[Point, ...]

    @property
    def margin(self) -> float:
        """By how much chance moves top-1 on so many videos: half of a 95 % interval."""
        return 1.96 * math.sqrt(self.full.top1 * (1 - self.full.top1) / self.checked_on)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; thresholds, which may be infinite, are for files."""
        return {
            "steps": self.steps,
            "group": self.group,
            "metric": self.metric,
            "criterion": self.criterion,
            "classes_without_videos": self.classes - self.classes_checked,
            "margin": round(self.margin, 6),
            "full": self.full.to_dict(),
            "budgets": [
                {
                    "gmacs": choice.budget,
                    "ratio": choice.ratio and round(choice.ratio, 6),
                    "fitted": choice.fitted.to_dict(),
                    "checked": choice.checked.to_dict(),
                    "same_step": choice.same_step.to_dict(),
                }
                for choice in self.choices
            ],
            "laws": [point.to_dict() for point in self.laws],
            "same_steps": [point.to_dict() for point in self.same_steps],
        }
