"""The loop: clips take turns of glancing, looking and answering, until each has its answer.

Clips at the same point go together, a finished one leaves at once, and frames are asked for when they are due. Knows
nothing of files, labels, scores or devices.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adafocus_cli.exits import ExitRule, Schedule
from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.runtime import Runtime
from adafocus_cli.schema import Box, PatchBox, SkippedFrame, VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.sampling import FramePlan, Look, LookRequest
from adafocus_cli.video.windows import Window


@dataclass(eq=False)
class Clip:
    """A video or a window of one: its sampled frames as the model will see them, decoded when they are first asked for.

    `decode` has called `add` for each frame that a request wants, and `add_cut` for each look with a box, when its
    future is done. `to_source` takes a box in those frames to upright pixels of the video. `window` says which part of
    the video it is, if not all of it.
    """

    video: VideoInfo
    plan: FramePlan
    to_source: Callable[[Box], Box]
    decode: Callable[[Clip, LookRequest], Future[None]] | None = None
    window: Window | None = None
    decode_seconds: float = 0.0
    damaged_packets: frozenset[int] = frozenset()
    _frames: dict[int, tuple[np.ndarray, float]] = field(default_factory=dict)
    _cuts: dict[Look, np.ndarray] = field(default_factory=dict)

    def add(self, frame: int, pixels: np.ndarray, seconds: float) -> None:
        """A decoded frame, by its number in the video, and when it is shown."""
        self._frames[frame] = (pixels, seconds)

    def add_cut(self, look: Look, pixels: np.ndarray) -> None:
        """What a look into the source sees."""
        self._cuts[look] = pixels

    def missing(self, positions: Sequence[int]) -> list[int]:
        """Which of these positions have not been decoded; each frame once."""
        wanted = {self.plan.frames[position]: position for position in reversed(positions)}
        return sorted(position for frame, position in wanted.items() if frame not in self._frames)

    def request(self, positions: Sequence[int], size: int) -> LookRequest:
        """Looks at the frames at these positions, as squares of `size` pixels; those are wanted that are missing."""
        missing, positions = set(self.missing(positions)), sorted(set(positions))
        looks = tuple(Look(self.plan.frames[position], None, size) for position in positions)
        return LookRequest(looks, tuple(position in missing for position in positions))

    def positions(self, gaze: Gaze) -> list[int]:
        """Of the frames that a gaze looks at."""
        return [self.plan.focus[i] for i in gaze.frames.tolist()]

    def source_looks(self, gaze: Gaze, size: int) -> tuple[Look, ...]:
        """The looks of a gaze into the source, each of which becomes a square of `size`."""
        frames = (self.plan.frames[position] for position in self.positions(gaze))
        boxes = (self.to_source((*box,)) for box in gaze.boxes.tolist())
        return tuple(Look(frame, box, size) for frame, box in zip(frames, boxes, strict=True))

    def cuts_request(self, looks: tuple[Look, ...]) -> LookRequest:
        """Looks into the source; those are wanted that are missing, each once."""
        first = {look: number for number, look in reversed(list(enumerate(looks)))}
        wanted = (look not in self._cuts and first[look] == number for number, look in enumerate(looks))
        return LookRequest(looks, tuple(wanted))

    def cuts(self, looks: Sequence[Look]) -> np.ndarray:
        """What looks into the source see."""
        return np.stack([self._cuts[look] for look in looks])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its frames; those of another have another where each keeps the shape of its video."""
        return next(iter(self._frames.values()))[0].shape if self._frames else ()

    def pixels(self, positions: Sequence[int]) -> np.ndarray:
        return np.stack([self._frames[self.plan.frames[position]][0] for position in positions])

    def seconds_at(self, position: int) -> float:
        return self._frames[self.plan.frames[position]][1]

    @property
    def numbers(self) -> frozenset[int]:
        """Of the frames that have been decoded."""
        return frozenset(self._frames)

    @property
    def frames_decoded(self) -> int:
        return len(self._frames)


class Point(NamedTuple):
    """Where a clip is: its turn, and whether it has glanced and knows where to look, so that the answer is next."""

    turn: int = 0
    located: bool = False


@dataclass(eq=False)
class Run:
    """A clip on its way through the turns. `key` is the caller's, by which it knows the clip again."""

    clip: Clip
    key: Any
    point: Point = field(default_factory=Point)
    memory: Memory = field(default_factory=dict)
    seen: Tensor | None = None
    gaze: Gaze | None = None  # of a family that skips frames: only its looks that are kept
    answers: list[np.ndarray] = field(default_factory=list)
    looks: list[PatchBox] = field(default_factory=list)
    skipped: list[SkippedFrame] = field(default_factory=list)
    costs: list[Counter[str]] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False
    error: Exception | None = None
    frames: Future[None] | None = None

    @property
    def ready(self) -> bool:
        return self.frames is None or self.frames.done()


class Loop:
    """Clips in flight. `add` them, `step` until they come out."""

    def __init__(self, runtime: Runtime, schedule: Schedule, rule: ExitRule) -> None:
        self._runtime = runtime
        self._schedule = schedule
        self._rule = rule
        self._runs: list[Run] = []

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def lanes(self) -> int:
        """How many clips take a turn together."""
        return self._runtime.lanes

    @property
    def dearest_turn(self) -> int:
        """The multiply-adds of the turn that costs most."""
        return max(sum(cost.values()) for cost in self._schedule.costs)

    @property
    def framing(self) -> Framing:
        return self._runtime.model.spec.framing

    @property
    def window_seconds(self) -> float | None:
        """How long the windows are that a long video goes in, where nobody said."""
        return self._runtime.model.spec.window_seconds

    @property
    def looks_at_source(self) -> bool:
        """Whether clips are asked for boxes of the source, too."""
        return self._runtime.model.looks_at_source

    def plan(self, count: int) -> FramePlan:
        """Which frames of a video of `count` frames may be looked at."""
        return self._runtime.model.plan(count)

    def first_frames(self, plan: FramePlan) -> tuple[int, ...]:
        """The positions that a clip needs for its first turn."""
        return self._runtime.model.frames_of(self._schedule.turns[0], plan)

    def add(self, clip: Clip, key: Any) -> None:
        run = Run(clip, key)
        self._runs.append(run)
        self._ask_for_frames(run)

    def waiting(self) -> list[Future[None]]:
        """The frames that clips wait for; empty if a step can be taken."""
        if any(run.ready for run in self._runs):
            return []
        return [run.frames for run in self._runs if run.frames is not None]

    def step(self) -> list[Run]:
        """Takes the fullest batch one point further, later points first; the runs that are over."""
        groups: defaultdict[tuple[Point, tuple[int, ...]], list[Run]] = defaultdict(list)
        for run in self._runs:
            if run.ready:
                groups[run.point, run.clip.shape].append(run)
        if groups:
            fullest = max(groups, key=lambda group: (min(len(groups[group]), self._runtime.lanes), group[0]))
            self._advance(groups[fullest][: self._runtime.lanes], fullest[0])
        over = [run for run in self._runs if run.finished or run.error]
        self._runs = [run for run in self._runs if not (run.finished or run.error)]
        return over

    def _advance(self, batch: list[Run], point: Point) -> None:
        """One point further; an error on several clips is looked for one by one; what does not fit is halved."""
        for run in [run for run in batch if run.frames and run.frames.exception()]:
            run.error = _exception(run.frames)
            batch.remove(run)
        if not batch:
            return
        started = time.perf_counter()
        error = self._error_of(batch, point)
        # A lone clip, too, fills all lanes.
        if isinstance(error, torch.OutOfMemoryError) and self._runtime.halve_lanes():
            for first in range(0, len(batch), self._runtime.lanes):
                self._advance(batch[first : first + self._runtime.lanes], point)
            return
        if error is not None and len(batch) > 1:
            for run in batch:
                self._advance([run], point)
            return
        if error is not None:
            batch[0].error = error
            return
        for run in batch:
            run.seconds += (time.perf_counter() - started) / len(batch)
            self._move_on(run, point)

    def _move_on(self, run: Run, point: Point) -> None:
        """From a point to the next one, whose frames are asked for."""
        if point.located:
            looks = None if run.gaze is None or run.gaze.kept is None else len(run.gaze.frames)
            run.costs.append(self._schedule.cost(point.turn, run.clip.shape, looks))
            run.finished = run.finished or point.turn + 1 == len(self._schedule.turns)
            run.point = Point(point.turn + 1)
        else:
            run.point = Point(point.turn, located=True)
        if not run.finished:
            self._ask_for_frames(run)

    def _error_of(self, batch: list[Run], point: Point) -> Exception | None:
        """Takes the step; what went wrong."""
        try:
            (self._answer if point.located else self._see)(batch, self._schedule.turns[point.turn])
        except torch.OutOfMemoryError as error:
            return error.with_traceback(None)  # which would keep the tensors of the step
        except Exception as error:
            return error
        return None

    def _ask_for_frames(self, run: Run) -> None:
        """Has the frames decoded that the next point needs and that are not there yet."""
        request = self._next_request(run)
        run.frames = None
        if request.due:
            assert run.clip.decode is not None, "a clip that cannot decode has all its frames"
            run.frames = run.clip.decode(run.clip, request)

    def _next_request(self, run: Run) -> LookRequest:
        turn, plan, model = self._schedule.turns[run.point.turn], run.clip.plan, self._runtime.model
        if not run.point.located:
            return run.clip.request(model.frames_of(turn, plan), self.framing.size)
        if run.gaze is None or not turn.looks:
            return LookRequest((), ())
        if self.looks_at_source:
            return run.clip.cuts_request(run.clip.source_looks(run.gaze, model.spec.patch_size))
        return run.clip.request(run.clip.positions(run.gaze), self.framing.size)

    def _see(self, batch: list[Run], turn: Turn) -> None:
        """Glance at this turn's frames and locate its looks."""
        lanes = self._filled(batch)
        memory = _stacked([run.memory for run in lanes])
        if turn.glance:
            pixels = [run.clip.pixels([run.clip.plan.glance[i] for i in turn.glance]) for run in lanes]
            seen = self._runtime.glance(self._runtime.upload(pixels))
        else:
            seen = torch.stack([run.seen for run in lanes if run.seen is not None])
        gaze = self._runtime.locate(turn, seen, memory) if turn.looks else None
        gazes = [None if gaze is None else _of_lane(gaze, lane) for lane in range(len(batch))]
        memories = _unstacked(memory, len(batch))
        # Nothing raises from here on: after an error the runs are as before, and go one by one.
        for lane, run in enumerate(batch):
            run.seen, run.gaze, run.memory = seen[lane], gazes[lane], memories[lane]

    def _answer(self, batch: list[Run], turn: Turn) -> None:
        """Look where the glance said, and answer each of the turn's steps."""
        lanes = self._filled(batch)
        memory = _stacked([run.memory for run in lanes])
        seen = torch.stack([run.seen for run in lanes if run.seen is not None])
        focused = self._focus([(run.clip, run.gaze) for run in lanes if run.gaze is not None]) if turn.looks else None
        answers = self._runtime.classify(turn, seen, focused, memory).float().cpu().numpy()
        looks = [[] if run.gaze is None else _looks(run.clip, turn, run.gaze) for run in batch]
        skipped = [[] if run.gaze is None else _skipped(run.clip, turn, run.gaze) for run in batch]
        exits = [self._rule.first_exit(turn.answers, answers[lane]) for lane in range(len(batch))]
        memories = _unstacked(memory, len(batch))
        # Nothing raises from here on: after an error the runs are as before, and go one by one.
        for lane, (run, left) in enumerate(zip(batch, exits, strict=True)):
            run.memory = memories[lane]
            run.looks += looks[lane]
            run.skipped += skipped[lane]
            run.finished = left is not None
            run.answers.append(answers[lane] if left is None else answers[lane][: left - turn.answers.start + 1])

    def _focus(self, gazes: list[tuple[Clip, Gaze]]) -> Tensor:
        """All patches of all clips, as one batch; or the features that the glance has for them.

        Where frames are skipped, clips keep different numbers of looks, and each is a batch of its own: what a clip
        answers does not depend on how many looks others keep.
        """
        runtime = self._runtime
        if runtime.model.skips:
            return torch.stack([self._kept(clip, gaze) for clip, gaze in gazes])
        features = [gaze.features for _, gaze in gazes if gaze.features is not None]
        if features:
            return runtime.focus(torch.stack(features))
        if self.looks_at_source:
            size = runtime.model.spec.patch_size
            sources = [clip.cuts(clip.source_looks(gaze, size)) for clip, gaze in gazes]
        else:
            sources = [clip.pixels(clip.positions(gaze)) for clip, gaze in gazes]
        return self._focus_on(sources, torch.stack([gaze.boxes for _, gaze in gazes]))

    def _focus_on(self, sources: list[np.ndarray], boxes: Tensor) -> Tensor:
        pixels = self._runtime.upload(sources)
        patches = self._runtime.patches(pixels.flatten(0, 1), boxes.to(pixels.device).flatten(0, 1))
        return self._runtime.focus(patches.view(*pixels.shape[:2], *patches.shape[1:]))

    def _kept(self, clip: Clip, gaze: Gaze) -> Tensor:
        """The feature vectors of the looks that are kept, as maps of one cell, and zeros for those that are not."""
        assert gaze.kept is not None, "a family that skips says what it keeps"
        vectors = torch.zeros(len(gaze.kept), self._runtime.model.focus_net.channels, 1, 1)
        if not len(gaze.frames):
            return vectors
        maps = self._focus_on([clip.pixels(clip.positions(gaze))], gaze.boxes[None])
        vectors = vectors.to(maps)
        vectors[gaze.kept.to(maps.device)] = maps[0].mean(dim=(-2, -1), keepdim=True)
        return vectors

    def _filled(self, batch: list[Run]) -> list[Run]:
        """As many runs as the runtime has lanes; the empty ones see what the last clip sees."""
        return [*batch, *[batch[-1]] * (self._runtime.lanes - len(batch))]


def _of_lane(gaze: Gaze, lane: int) -> Gaze:
    features = None if gaze.features is None else gaze.features[lane]
    frames, boxes = gaze.frames[lane].cpu(), gaze.boxes[lane].cpu()
    if gaze.kept is None:
        return Gaze(frames, boxes, features)
    kept = gaze.kept[lane].cpu()
    return Gaze(frames[kept], boxes[kept], features, kept)


def _stacked(memories: list[Memory]) -> Memory:
    return {name: torch.stack([memory[name] for memory in memories]) for name in memories[0]}


def _unstacked(memory: Memory, clips: int) -> list[Memory]:
    return [{name: value[lane] for name, value in memory.items()} for lane in range(clips)]


def _exception(future: Future[None] | None) -> Exception:
    error = future.exception() if future else None
    return error if isinstance(error, Exception) else RuntimeError("the decoder was stopped")


def _looks(clip: Clip, turn: Turn, gaze: Gaze) -> list[PatchBox]:
    """A turn's looks as the record tells them: source frame numbers, seconds, upright source pixels."""
    steps = turn.looks if gaze.kept is None else compress(turn.looks, gaze.kept.tolist())
    looks = []
    for step, position, box in zip(steps, clip.positions(gaze), gaze.boxes.tolist(), strict=True):
        looks.append(PatchBox(step, clip.plan.frames[position], clip.seconds_at(position), clip.to_source((*box,))))
    return looks


def _skipped(clip: Clip, turn: Turn, gaze: Gaze) -> list[SkippedFrame]:
    """The frames of a turn that get no look."""
    if gaze.kept is None:
        return []
    positions = [clip.plan.glance[i] for i in compress(turn.glance, (~gaze.kept).tolist())]
    return [SkippedFrame(clip.plan.frames[position], clip.seconds_at(position)) for position in positions]
