"""What a calibration found: frozen values, and the record that they become.

Shares are from 0 to 1, steps count from 0. Knows nothing of how they were fitted or how they are shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of many videos: the mean cost in 10⁹ multiply-adds, how right the answers are, and how many are left where."""

    gmacs: float
    top1: float
    mean_average_precision: float
    left: tuple[tuple[int, int], ...]
    """(step, videos)"""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gmacs": round(self.gmacs, 6),
            "top1": round(self.top1, 6),
            "map_published": round(self.mean_average_precision, 6),
            "left": [{"step": step, "videos": videos} for step, videos in self.left],
        }


@dataclass(frozen=True, kw_only=True)
class Point:
    """How accurate at which cost."""

    gmacs: float
    top1: float

    def to_dict(self) -> dict[str, float]:
        return {"gmacs": round(self.gmacs, 6), "top1": round(self.top1, 6)}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a budget gets: thresholds, what they did to either half, and what the same step for all does within it.

    `ratio` is None where the budget is enough for everything.
    """

    budget: float
    ratio: float | None
    thresholds: tuple[float, ...]
    fitted: Outcome
    checked: Outcome
    same_step: Outcome


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The points are of the half that was checked on."""

    steps: int
    group: int
    fitted_on: int
    checked_on: int
    full: Outcome
    choices: tuple[Choice, ...]
    laws: tuple[Point, ...]
    same_steps: tuple[Point, ...]

    @property
    def margin(self) -> float:
        """By how much chance moves an accuracy on so many videos: half of a 95 % interval."""
        return 1.96 * math.sqrt(self.full.top1 * (1 - self.full.top1) / self.checked_on)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; thresholds, which may be infinite, are for files."""
        return {
            "steps": self.steps,
            "group": self.group,
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
