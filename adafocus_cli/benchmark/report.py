"""What was measured: rows that are compared, curves, and the record that they become. Seconds are those of one video.

Knows nothing of how it was measured or how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adafocus_cli.benchmark.interleaved import Timing, ratio

SCHEMA = "adafocus-bench/1"
PLAIN = "plain path"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was measured, and on what; `load` is how busy the machine was before, in processes that want a core."""

    model: str
    made_up_weights: bool
    family: str
    patch_size: int
    glance_frames: int
    focus_frames: int
    gmacs: float
    device: str
    hardware: str
    cores: int
    threads: int
    batch: int
    load: float | None
    rounds: int

    @property
    def threads_in_words(self) -> str:
        return f"{self.threads} thread{'s' if self.threads != 1 else ''}"

    @property
    def busy(self) -> bool:
        return self.load is not None and self.load > 0.25 * self.cores


@dataclass(frozen=True, kw_only=True)
class Row:
    """Somebody's time. `ratio` is in units of the plain path's; `shares` say how much of the machine's peak was used,
    by stage or as `all`."""

    name: str
    timing: Timing
    ratio: float | None = None
    shares: Mapping[str, float] | None = None

    @classmethod
    def beside(
        cls, other: str, name: str, timings: Mapping[str, Timing], shares: Mapping[str, Mapping[str, float]]
    ) -> Row:
        """Compared with another who took turns with it; or, if it was timed once, with his median."""
        timing, plain = timings[name], timings[other]
        together = len(timing.rounds) == len(plain.rounds)
        against = ratio(timing.seconds(), plain.seconds()) if together else timing.median / plain.median
        return cls(name=name, timing=timing, ratio=against, shares=shares.get(name))

    def to_dict(self) -> dict[str, Any]:
        timing, parts = self.timing, self.timing.parts
        return {
            "name": self.name,
            "seconds": round(timing.median, 6),
            "rounds": [round(seconds, 6) for seconds in timing.seconds()],
            "spread": round(timing.spread, 4),
            "videos_per_second": round(1 / timing.median, 4),
            "ratio_to_plain": self.ratio and round(self.ratio, 4),
            "share_of_peak": self.shares and {name: round(share, 4) for name, share in self.shares.items()},
            **({"stages": {name: round(part, 6) for name, part in parts.items()}} if len(parts) > 1 else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Seconds over something that was varied; `lines` are points of each who was timed."""

    varied: str
    unit: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]

    def to_dict(self) -> dict[str, Any]:
        lines = {
            name: [{"value": value, "seconds": round(seconds, 6)} for value, seconds in points]
            for name, points in self.lines.items()
        }
        return {"varied": self.varied, "unit": self.unit, "lines": lines}


@dataclass(frozen=True, kw_only=True)
class Report:
    """`peak` is in 10⁹ multiply-adds a second, by precision; `videos` says what was decoded."""

    setting: Setting
    peak: Mapping[str, float]
    model_only: tuple[Row, ...]
    stages: tuple[Row, ...]
    videos: str
    decoding: tuple[Row, ...]
    end_to_end: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "setting": asdict(self.setting),
            "peak_gmacs_per_second": {precision: round(gmacs, 2) for precision, gmacs in self.peak.items()},
            "model_only": [row.to_dict() for row in self.model_only],
            "stages": [row.to_dict() for row in self.stages],
            "videos": self.videos,
            "decoding": [row.to_dict() for row in self.decoding],
            "end_to_end": [row.to_dict() for row in self.end_to_end],
            "curves": [curve.to_dict() for curve in self.curves],
        }
