"""What the tagger says of a video: frozen results, and the record `adafocus/1` that they become.

Knows nothing of tables, CSV or terminals (output/), nor of how a result came about (tagger.py).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

SCHEMA = "adafocus/1"

Stage = Literal["open", "decode", "infer"]
FAILED_IN = {"open": "could not be opened", "decode": "could not be decoded", "infer": "could not be tagged"}
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """A video as its frames are seen: `width` and `height` are upright, `rotation` is what was undone.

    `decode` is "fast" where keyframes stand in for frames that the model asked for, `frames_off` away at most.
    """

    path: str
    width: int
    height: int
    fps: float | None
    frames: int
    duration: float | None
    codec: str
    rotation: int
    decoder: str
    decode: Literal["exact", "fast"] = "exact"
    frames_off: int = 0
    frames_replaced: int = 0
    packets_damaged: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which model answered; `sha256` is its file's, `source_sha256` that of the file it was converted from."""

    name: str
    family: str
    dataset: str | None
    sha256: str
    patch_size: int
    source_sha256: str | None = None

    @property
    def identity(self) -> str:
        """The same for a published file and for what was converted from it."""
        return self.source_sha256 or self.sha256


@dataclass(frozen=True)
class Peak:
    """The window in which a label has its highest score."""

    window: int
    score: float


@dataclass(frozen=True)
class Tag:
    """A label; of a video in windows, `score` is the mean over them."""

    label: str
    index: int
    score: float
    best: Peak | None = None

    def to_dict(self) -> dict[str, Any]:
        tag = {"label": self.label, "index": self.index, "score": round(self.score, 6)}
        if self.best is None:
            return tag
        return {**tag, "best": {"window": self.best.window, "score": round(self.best.score, 6)}}


@dataclass(frozen=True, slots=True)  # a long film has tens of thousands
class PatchBox:
    """One careful look: left, top, right, bottom in upright pixels of the source."""

    step: int
    frame: int
    time: float
    box: Box

    def to_dict(self) -> dict[str, Any]:
        box = [round(value, 2) for value in self.box]
        return {"step": self.step, "frame": self.frame, "time": round(self.time, 3), "box": box}


@dataclass(frozen=True)
class Cost:
    """Multiply-adds, in units of 10⁹, of the layers that ran for one video, by stage."""

    stages: Mapping[str, float]
    full_frame_gmacs: float

    @property
    def gmacs(self) -> float:
        return sum(self.stages.values())

    @property
    def gflops(self) -> float:
        """Two operations for each multiply-add."""
        return 2 * self.gmacs

    def to_dict(self) -> dict[str, Any]:
        return {
            "gmacs": round(self.gmacs, 4),
            "stages": {name: round(value, 4) for name, value in self.stages.items()},
            "full_frame_gmacs": round(self.full_frame_gmacs, 4),
            "gflops": round(self.gflops, 4),
        }


def gmacs_digits(value: float) -> str:
    """Of small models, too, not 0.

    >>> gmacs_digits(26.94), gmacs_digits(0.372), gmacs_digits(0.01704)
    ('26.9', '0.37', '0.017')
    """
    digits = ".2g" if value < 0.1 else ".2f" if value < 10 else ".1f"
    return f"{value:{digits}}"


def in_gmacs(value: float) -> str:
    return f"{gmacs_digits(value)} GMACs"


@dataclass(frozen=True)
class Exit:
    """The step whose answer was taken, counted from 0, and how many steps there are."""

    step: int
    of: int


@dataclass(frozen=True, kw_only=True)
class WindowResult:
    """A part of a video, in seconds, tagged as a clip of its own."""

    start: float
    end: float
    labels: tuple[Tag, ...]
    cost: Cost
    trajectory: tuple[PatchBox, ...]
    exit: Exit

    def to_dict(self) -> dict[str, Any]:
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "labels": [tag.to_dict() for tag in self.labels],
            "cost": self.cost.to_dict(),
            "trajectory": [patch.to_dict() for patch in self.trajectory],
            "exit": asdict(self.exit),
        }


@dataclass(frozen=True)
class Segment:
    """From when to when a label holds, in seconds; `score` is its mean over the windows in it."""

    start: float
    end: float
    label: str
    index: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return {**times, "label": self.label, "index": self.index, "score": round(self.score, 6)}


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What it ran on and how long that took: the only part of a record that may differ between runs."""

    device: str
    precision: str
    runtime: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """A tagged video. `logits` and `step_logits` are float32 arrays, steps in looking order.

    `windows` and `segments` are of a video that was tagged in windows; `step_logits` then has a row for each window.
    """

    video: VideoInfo
    model: ModelInfo
    labels: tuple[Tag, ...]
    cost: Cost
    trajectory: tuple[PatchBox, ...]
    exit: Exit
    frames_decoded: int
    runtime: RunInfo
    logits: np.ndarray = field(repr=False, compare=False)
    step_logits: np.ndarray = field(repr=False, compare=False)
    windows: tuple[WindowResult, ...] = ()
    segments: tuple[Segment, ...] = ()

    status: Literal["ok"] = "ok"

    def to_dict(self, *, logits: bool = False) -> dict[str, Any]:
        """The record, ready for JSON; `logits` adds the raw answers."""
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "status": self.status,
            "video": {**path_fields(self.video.path), **_rounded(_without_path(self.video))},
            "model": asdict(self.model),
            "labels": [tag.to_dict() for tag in self.labels],
            "cost": self.cost.to_dict(),
            "trajectory": [] if self.windows else [patch.to_dict() for patch in self.trajectory],
            "exit": asdict(self.exit),
            "frames_decoded": self.frames_decoded,
            "runtime": {
                "device": self.runtime.device,
                "precision": self.runtime.precision,
                "runtime": self.runtime.runtime,
                "seconds": _rounded(dict(self.runtime.seconds)),
            },
        }
        if self.windows:
            record["windows"] = windows = [window.to_dict() for window in self.windows]
            # They are the same looks; of a long film, there is no room for them twice.
            looks = chain.from_iterable(window["trajectory"] for window in windows)
            record["trajectory"] = [{**look, "step": step} for step, look in enumerate(looks)]
            record["segments"] = [segment.to_dict() for segment in self.segments]
        if logits:
            record["logits"] = self.logits.tolist()
            record["step_logits"] = self.step_logits.tolist()
        return record


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video that could not be tagged, and what to do about it, in one sentence."""

    path: str
    stage: Stage
    type: str
    message: str

    status: Literal["error"] = "error"

    def to_dict(self, *, logits: bool = False) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "status": self.status,
            "video": path_fields(self.path),
            "error": {"stage": self.stage, "type": self.type, "message": self.message},
        }


Result = VideoResult | Failure


def path_fields(path: str) -> dict[str, str]:
    """A path as a record has it: text that any reader takes, and, of a name that is not text, its bytes.

    >>> path_fields("a.mp4"), path_fields("\\udcff.mp4")
    ({'path': 'a.mp4'}, {'path': '\\\\udcff.mp4', 'path_bytes': '/y5tcDQ='})
    """
    text = path.encode("utf-8", "backslashreplace").decode()
    if text == path:
        return {"path": path}
    try:
        return {"path": text, "path_bytes": base64.b64encode(os.fsencode(path)).decode()}
    except UnicodeEncodeError:  # no file can have this name
        return {"path": text}


def path_of(record: Mapping[str, Any]) -> str:
    """The path of a record, exactly."""
    video = record["video"]
    if "path_bytes" in video:
        return os.fsdecode(base64.b64decode(video["path_bytes"], validate=True))
    return str(video["path"])


def _without_path(video: VideoInfo) -> dict[str, Any]:
    return {name: value for name, value in asdict(video).items() if name != "path"}


def _rounded(values: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    return {k: round(v, digits) if isinstance(v, float) else v for k, v in values.items()}
