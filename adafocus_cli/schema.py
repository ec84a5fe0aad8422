"""What the tagger says of a video: frozen results, the record `adafocus/1` that they become, and the way back.

A record that is read may come from anywhere: what has not the fields of one is a ValueError, and numbers that JSON does
not know, which are written as null, are NaN again.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import numpy as np

SCHEMA = "adafocus/1"

Record = dict[str, Any]  # what becomes JSON

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

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> VideoInfo:
        video = record["video"]
        counts = ("rotation", "frames_off", "frames_replaced", "packets_damaged")  # not all in older records
        return cls(
            path=path_of(record),
            width=int(video["width"]),
            height=int(video["height"]),
            fps=None if video["fps"] is None else float(video["fps"]),
            frames=int(video["frames"]),
            duration=None if video["duration"] is None else float(video["duration"]),
            codec=str(video["codec"]),
            decoder=str(video.get("decoder", "")),
            decode="fast" if video.get("decode") == "fast" else "exact",
            **{name: int(video.get(name, 0)) for name in counts},
        )


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which model answered; `sha256` is its file's, `source_sha256` that of the file it was converted from."""

    name: str
    family: str
    dataset: str | None
    sha256: str
    patch_size: int
    source_sha256: str | None = None

    @classmethod
    def from_dict(cls, model: Mapping[str, Any]) -> ModelInfo:
        return cls(
            name=str(model["name"]),
            family=str(model.get("family", "")),
            dataset=model.get("dataset"),
            sha256=str(model.get("sha256", "")),
            patch_size=int(model.get("patch_size", 0)),
            source_sha256=model.get("source_sha256"),
        )

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
    """A label; of a video in windows, `score` is the mean over them, or the highest where labels are independent.

    `parent` is a wider name, where the list of labels has one. `looks` are the steps of the trajectory that speak for
    the label, where a family can say so.
    """

    label: str
    index: int
    score: float
    parent: str | None = None
    looks: tuple[int, ...] | None = None
    best: Peak | None = None

    @classmethod
    def from_dict(cls, tag: Mapping[str, Any]) -> Tag:
        peak = tag.get("best")
        best = None if peak is None else Peak(int(peak["window"]), _float(peak["score"]))
        parent, looks = tag.get("parent"), tag.get("looks")
        return cls(
            label=str(tag["label"]),
            index=int(tag["index"]),
            score=_float(tag["score"]),
            parent=None if parent is None else str(parent),
            looks=None if looks is None else tuple(map(int, looks)),
            best=best,
        )

    def to_dict(self) -> dict[str, Any]:
        tag: dict[str, Any] = {"label": self.label, "index": self.index, "score": round(self.score, 6)}
        if self.parent is not None:
            tag["parent"] = self.parent
        if self.looks is not None:
            tag["looks"] = list(self.looks)
        if self.best is not None:
            tag["best"] = {"window": self.best.window, "score": round(self.best.score, 6)}
        return tag


@dataclass(frozen=True, slots=True)  # a long film has tens of thousands
class PatchBox:
    """One careful look: left, top, right, bottom in upright pixels of the source."""

    step: int
    frame: int
    time: float
    box: Box

    @classmethod
    def from_dict(cls, patch: Mapping[str, Any]) -> PatchBox:
        left, top, right, bottom = map(_float, patch["box"])
        return cls(int(patch.get("step", 0)), int(patch["frame"]), _float(patch["time"]), (left, top, right, bottom))

    def to_dict(self) -> dict[str, Any]:
        box = [round(value, 2) for value in self.box]
        return {"step": self.step, "frame": self.frame, "time": round(self.time, 3), "box": box}


@dataclass(frozen=True)
class SkippedFrame:
    """A frame that was glanced at and found not to be worth a look."""

    frame: int
    time: float

    @classmethod
    def from_dict(cls, skipped: Mapping[str, Any]) -> SkippedFrame:
        return cls(int(skipped["frame"]), _float(skipped["time"]))

    def to_dict(self) -> dict[str, Any]:
        return {"frame": self.frame, "time": round(self.time, 3)}


@dataclass(frozen=True)
class Cost:
    """Multiply-adds, in units of 10⁹, of the layers that ran for one video, by stage.

    `full_frame_gmacs` is what whole frames would have cost; None for a family that has nothing to compare with them.
    `total` is there if it was read from a record, where the stages are rounded, and their sum would be a little off.
    """

    stages: Mapping[str, float]
    full_frame_gmacs: float | None
    total: float | None = None

    @classmethod
    def from_dict(cls, cost: Mapping[str, Any]) -> Cost:
        stages = {str(name): _float(value) for name, value in cost["stages"].items()}
        full = cost["full_frame_gmacs"]
        return cls(stages, None if full is None else float(full), _float(cost["gmacs"]))

    @property
    def gmacs(self) -> float:
        return sum(self.stages.values()) if self.total is None else self.total

    @property
    def share(self) -> float | None:
        """Of what whole frames would have cost."""
        return share_of(self.gmacs, self.full_frame_gmacs)

    @property
    def gflops(self) -> float:
        """Two operations for each multiply-add."""
        return 2 * self.gmacs

    def to_dict(self) -> dict[str, Any]:
        return {
            "gmacs": round(self.gmacs, 4),
            "stages": {name: round(value, 4) for name, value in self.stages.items()},
            "full_frame_gmacs": None if self.full_frame_gmacs is None else round(self.full_frame_gmacs, 4),
            "gflops": round(self.gflops, 4),
        }


def share_of(gmacs: float, full: float | None) -> float | None:
    """
    >>> share_of(1.0, 4.0), share_of(1.0, None), share_of(0.0, 0.0)
    (0.25, None, None)
    """
    return gmacs / full if full else None


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

    @classmethod
    def from_dict(cls, exit_: Mapping[str, Any]) -> Exit:
        return cls(int(exit_["step"]), int(exit_["of"]))


@dataclass(frozen=True, kw_only=True)
class WindowResult:
    """A part of a video, in seconds, tagged as a clip of its own."""

    start: float
    end: float
    labels: tuple[Tag, ...]
    cost: Cost
    trajectory: tuple[PatchBox, ...]
    exit: Exit
    skipped: tuple[SkippedFrame, ...] | None = None

    @classmethod
    def from_dict(cls, window: Mapping[str, Any]) -> WindowResult:
        return cls(
            start=_float(window["start"]),
            end=_float(window["end"]),
            labels=tuple(map(Tag.from_dict, window["labels"])),
            cost=Cost.from_dict(window["cost"]),
            trajectory=tuple(map(PatchBox.from_dict, window["trajectory"])),
            exit=Exit.from_dict(window["exit"]),
            skipped=_skipped(window),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "labels": [tag.to_dict() for tag in self.labels],
            "cost": self.cost.to_dict(),
            "trajectory": [patch.to_dict() for patch in self.trajectory],
            "exit": asdict(self.exit),
            **_skipped_field(self.skipped),
        }


@dataclass(frozen=True)
class Segment:
    """From when to when a label holds, in seconds; `score` is its mean over the windows in it."""

    start: float
    end: float
    label: str
    index: int
    score: float

    @classmethod
    def from_dict(cls, segment: Mapping[str, Any]) -> Segment:
        times = _float(segment["start"]), _float(segment["end"])
        return cls(*times, str(segment["label"]), int(segment["index"]), _float(segment["score"]))

    def to_dict(self) -> dict[str, Any]:
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return {**times, "label": self.label, "index": self.index, "score": round(self.score, 6)}


@dataclass(frozen=True, kw_only=True)
class LiveSpan:
    """The part of a stream that a record is about.

    `since` and `until` are when it came, in seconds from 1970; `start` and `end` the same by the clock of the stream,
    in seconds from the first frame of the connection, which a time without a stream has not. What was dropped in it, or
    before it, is counted.
    """

    since: float
    until: float
    start: float | None = None
    end: float | None = None
    windows_dropped: int = 0
    frames_dropped: int = 0

    @classmethod
    def from_dict(cls, live: Mapping[str, Any]) -> LiveSpan:
        def seconds(name: str) -> float | None:
            return None if live.get(name) is None else float(live[name])

        return cls(
            since=_seconds_from_1970(live["since"]),
            until=_seconds_from_1970(live["until"]),
            start=seconds("start"),
            end=seconds("end"),
            windows_dropped=int(live.get("windows_dropped", 0)),
            frames_dropped=int(live.get("frames_dropped", 0)),
        )

    def to_dict(self) -> dict[str, Any]:
        live: dict[str, Any] = {"since": utc_text(self.since), "until": utc_text(self.until)}
        if self.start is not None and self.end is not None:
            live |= {"start": round(self.start, 3), "end": round(self.end, 3)}
            live |= {"windows_dropped": self.windows_dropped, "frames_dropped": self.frames_dropped}
        return live


def utc_text(seconds: float) -> str:
    """
    >>> utc_text(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds_from_1970(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What it ran on and how long that took: the only part of a record that may differ between runs."""

    device: str
    precision: str
    runtime: str
    seconds: Mapping[str, float]

    @classmethod
    def from_dict(cls, runtime: Mapping[str, Any]) -> RunInfo:
        names = {name: str(runtime.get(name, "")) for name in ("device", "precision", "runtime")}
        return cls(**names, seconds={name: _float(value) for name, value in runtime.get("seconds", {}).items()})


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
    best_guess: Tag | None = None
    """The label with the highest score, where that is too low for it to be told."""
    live: LiveSpan | None = None
    """Where it is of a part of a stream."""
    skipped: tuple[SkippedFrame, ...] | None = None
    """The frames that got no look, of a model that may skip some."""

    status: Literal["ok"] = "ok"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> VideoResult:
        """From a record of a tagged video, as exact as the record is; without raw answers, those arrays are empty."""
        import numpy as np

        with _not_a_record():
            if record["status"] != "ok":
                raise ValueError
            return cls(
                video=VideoInfo.of_record(record),
                model=ModelInfo.from_dict(record["model"]),
                labels=tuple(map(Tag.from_dict, record["labels"])),
                cost=Cost.from_dict(record["cost"]),
                trajectory=tuple(map(PatchBox.from_dict, record["trajectory"])),
                exit=Exit.from_dict(record["exit"]),
                frames_decoded=int(record.get("frames_decoded", 0)),
                runtime=RunInfo.from_dict(record.get("runtime", {})),
                logits=np.asarray(record.get("logits") or (), dtype=np.float32),
                step_logits=np.asarray(record.get("step_logits") or (), dtype=np.float32),
                windows=tuple(map(WindowResult.from_dict, record.get("windows") or ())),
                segments=tuple(map(Segment.from_dict, record.get("segments") or ())),
                best_guess=Tag.from_dict(record["best_guess"]) if record.get("best_guess") else None,
                live=LiveSpan.from_dict(record["live"]) if record.get("live") else None,
                skipped=_skipped(record),
            )

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
        if self.best_guess is not None:
            record["best_guess"] = self.best_guess.to_dict()
        if self.live is not None:
            record["live"] = self.live.to_dict()
        if self.windows:
            record["windows"] = windows = [window.to_dict() for window in self.windows]
            # They are the same looks; of a long film, there is no room for them twice.
            looks = chain.from_iterable(window["trajectory"] for window in windows)
            record["trajectory"] = [{**look, "step": step} for step, look in enumerate(looks)]
            record["segments"] = [segment.to_dict() for segment in self.segments]
        record |= _skipped_field(self.skipped)
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
    live: LiveSpan | None = None
    """When there was nothing, where it is of a stream."""

    status: Literal["error"] = "error"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Failure:
        with _not_a_record():
            if record["status"] != "error":
                raise ValueError
            error = {name: str(record["error"][name]) for name in ("stage", "type", "message")}
            stage = cast("Stage", error["stage"])
            live = LiveSpan.from_dict(record["live"]) if record.get("live") else None
            return cls(path=path_of(record), stage=stage, type=error["type"], message=error["message"], live=live)

    def to_dict(self, *, logits: bool = False) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "status": self.status,
            "video": path_fields(self.path),
            "error": {"stage": self.stage, "type": self.type, "message": self.message},
            **({} if self.live is None else {"live": self.live.to_dict()}),
        }


Result = VideoResult | Failure


def result_of(record: Mapping[str, Any]) -> Result:
    """What a record says; raises ValueError if it is not one."""
    with _not_a_record():
        is_failure = record["status"] == "error"
    return Failure.from_dict(record) if is_failure else VideoResult.from_dict(record)


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


@contextmanager
def _not_a_record() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError("not a record") from error


def _skipped(record: Mapping[str, Any]) -> tuple[SkippedFrame, ...] | None:
    frames = record.get("skipped")
    return None if frames is None else tuple(map(SkippedFrame.from_dict, frames))


def _skipped_field(frames: Sequence[SkippedFrame] | None) -> Record:
    return {} if frames is None else {"skipped": [frame.to_dict() for frame in frames]}


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _without_path(video: VideoInfo) -> dict[str, Any]:
    return {name: value for name, value in asdict(video).items() if name != "path"}


def _rounded(values: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    return {k: round(v, digits) if isinstance(v, float) else v for k, v in values.items()}
