"""What a file of records comes to: labels, costs, exits and failures, counted while the records pass by.

Knows nothing of pages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from adafocus_cli.report.videos import Tagged, Video

# Costs are counted in parts of the full-frame cost of this many percent; the last one is open.
PERCENT = 5
PARTS = 100 // PERCENT + 1
MOST_REASONS = 50


@dataclass
class Summary:
    tagged: int = 0
    failed: int = 0
    seconds: float = 0.0
    gmacs: float = 0.0
    full_gmacs: float = 0.0
    looks: int = 0
    models: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)
    steps: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    costs: list[int] = field(default_factory=lambda: [0] * PARTS)

    def add(self, video: Video) -> None:
        if not isinstance(video, Tagged):
            self.failed += 1
            self.reasons[video.reason] += 1
            return
        self.tagged += 1
        self.seconds += video.duration
        self.gmacs += video.gmacs
        self.full_gmacs += video.full_gmacs
        self.looks += video.look_count
        self.models[video.model] += 1
        self.labels[video.best] += 1
        self.exits[video.exit_step] += 1
        self.steps = max(self.steps, video.exit_of)
        self.costs[min(max(int(100 * video.share / PERCENT), 0), PARTS - 1)] += 1

    @property
    def videos(self) -> int:
        return self.tagged + self.failed

    def to_dict(self) -> dict[str, Any]:
        """Lists of names and counts, the most frequent first; exits by step."""
        steps = max([self.steps, *(step + 1 for step in self.exits)])
        return {
            "tagged": self.tagged,
            "failed": self.failed,
            "seconds": round(self.seconds, 1),
            "gmacs": round(self.gmacs, 3),
            "full_gmacs": round(self.full_gmacs, 3),
            "looks": self.looks,
            "models": self.models.most_common(),
            "labels": self.labels.most_common(),
            "reasons": self.reasons.most_common(MOST_REASONS),
            "exits": [self.exits[step] for step in range(min(steps, 256))],
            "costs": self.costs,
        }
