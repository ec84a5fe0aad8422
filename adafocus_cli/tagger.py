"""Clips → stages → answers → results: owns the loop, the trajectory and the cost.

The only place that crops, decides when a clip is done, and turns an answer into a record. Knows nothing of files
but through `Tagger.load` and `tag_video`, nothing of devices, and of a family only its stages.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adafocus_cli import checkpoint
from adafocus_cli import labels as label_lists
from adafocus_cli.errors import UsageError
from adafocus_cli.flops import CostMeter, as_cost
from adafocus_cli.labels import LabelSet
from adafocus_cli.models.base import Family, Memory, Turn
from adafocus_cli.runtime import Runtime
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.schema import Box, Exit, Failure, ModelInfo, PatchBox, RunInfo, Tag, VideoInfo, VideoResult
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import FramePlan


@dataclass(frozen=True, eq=False)
class Clip:
    """One video's sampled frames, as the model will see them; `pixels` and `times` follow `plan.frames`.

    `to_source` takes a box in those frames to upright pixels of the video.
    """

    video: VideoInfo
    plan: FramePlan
    pixels: np.ndarray
    times: tuple[float, ...]
    to_source: Callable[[Box], Box]
    decode_seconds: float = 0.0


@dataclass(eq=False)
class _Run:
    """A clip on its way through the turns."""

    clip: Clip
    memory: Memory = field(default_factory=dict)
    seen: Tensor | None = None
    answers: list[Tensor] = field(default_factory=list)
    looks: list[PatchBox] = field(default_factory=list)
    costs: list[Counter[str]] = field(default_factory=list)
    seconds: float = 0.0


class Tagger:
    """Says what happens in videos. Build one with `Tagger.load`."""

    def __init__(self, runtime: Runtime, labels: LabelSet, model: ModelInfo) -> None:
        self.runtime = runtime
        self.labels = labels
        self.model = model
        self._meter = CostMeter(self.spec)
        self._full_frame_macs = self._meter.full_frame()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        patch_size: int | None = None,
        labels: str | Path | Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> Tagger:
        """A tagger from a checkpoint file: name, tensors, spec, labels, module, device.

        `batch_size` is how many clips an accelerator takes at once; a processor takes them one by one.
        """
        path = Path(model)
        if not path.is_file():
            raise UsageError(f"no model file {str(path)!r}; give the path of a checkpoint (--weights FILE)")
        with ThreadPoolExecutor(1) as background:
            digest = background.submit(checkpoint.sha256_of, path)
            loaded = checkpoint.load(path, patch_size=patch_size)
            spec = loaded.spec
            names = label_lists.resolve(labels, dataset=spec.dataset, classes=spec.classes)
            runtime = TorchRuntime(loaded.build(), device=device, precision=precision, batch_size=batch_size)
            info = ModelInfo(
                name=path.name,
                family=spec.family,
                dataset=spec.dataset,
                sha256=digest.result(),
                patch_size=spec.patch_size,
            )
        return cls(runtime, names, info)

    @property
    def spec(self) -> ModelSpec:
        return self.runtime.model.spec

    @property
    def family(self) -> Family:
        return self.runtime.model

    # From files: decoding happens in child processes (engine/).

    def tag_video(self, path: str | Path, *, top_k: int = 5, min_score: float = 0.0) -> VideoResult:
        """The result for one video file; raises `VideoError` where `tag_videos` would give a failure."""
        from adafocus_cli.engine.local import tag_one

        return tag_one(self, str(path), top_k=top_k, min_score=min_score)

    def tag_videos(
        self, paths: Iterable[str | Path], *, top_k: int = 5, min_score: float = 0.0
    ) -> Iterator[VideoResult | Failure]:
        """Results and failures, one a path, in their order, while later videos are being decoded."""
        from adafocus_cli.engine.local import Options, tag_files

        return tag_files(map(str, paths), lambda: self, Options(top_k=top_k, min_score=min_score))

    # From pixels.

    def tag_frames(
        self, glance: np.ndarray, focus: np.ndarray | None = None, *, top_k: int = 5, min_score: float = 0.0
    ) -> VideoResult:
        """The result for frames that are already sampled: uint8 RGB (frames, side, side, 3), in time order.

        `focus` is for families that sample their focus (or candidate) frames separately.
        """
        pixels = glance if focus is None else np.concatenate((glance, focus))
        plan = self.family.plan(1 << 20)
        shape = (len(plan.frames), self.spec.frame_size, self.spec.frame_size, 3)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise UsageError(
                f"frames are {pixels.dtype} {pixels.shape}, but {self.spec.family} takes uint8 {shape}: "
                f"{len(plan.glance)} to glance at, and candidates for a careful look among {len(plan.focus)}"
            )
        count, side = len(pixels), self.spec.frame_size
        video = VideoInfo(
            path="", width=side, height=side, fps=None, frames=count, duration=None, codec="raw", rotation=0,
            decoder="none",
        )  # fmt: skip
        own_plan = FramePlan(tuple(range(count)), plan.glance, plan.focus)
        clip = Clip(video, own_plan, pixels, times=(0.0,) * count, to_source=lambda box: box)
        return self.tag([clip], top_k=top_k, min_score=min_score)[0]

    def tag(self, clips: Sequence[Clip], *, top_k: int = 5, min_score: float = 0.0) -> list[VideoResult]:
        """Results for decoded clips, in their order."""
        runs = [_Run(clip) for clip in clips]
        turns = self.family.turns()
        costs = self._meter.of_turns(turns)
        for start in range(0, len(runs), self.runtime.lanes):
            batch = runs[start : start + self.runtime.lanes]
            for turn, cost in zip(turns, costs, strict=True):
                self._take_turn(batch, turn, cost)
        steps = turns[-1].answers.stop
        return [self._result(run, steps, top_k, min_score) for run in runs]

    # The loop.

    def _take_turn(self, batch: Sequence[_Run], turn: Turn, cost: Counter[str]) -> None:
        """One turn for some clips, all at the same point; empty lanes see what the last clip sees."""
        started = time.perf_counter()
        runtime = self.runtime
        lanes = [*batch, *[batch[-1]] * (runtime.lanes - len(batch))]
        memory = {name: torch.stack([run.memory[name] for run in lanes]) for name in batch[0].memory}
        seen = self._glance(lanes, turn)
        focused = None
        if turn.looks:
            gaze = runtime.locate(turn, seen, memory)
            chosen = gaze.frames.cpu().numpy()
            sources = [
                run.clip.pixels[np.take(run.clip.plan.focus, frames)] for run, frames in zip(lanes, chosen, strict=True)
            ]
            frames = runtime.upload(np.stack(sources))
            cut = runtime.patches(frames.flatten(0, 1), gaze.boxes.flatten(0, 1))
            focused = runtime.focus(cut.view(*frames.shape[:2], *cut.shape[1:]))
            boxes = gaze.boxes.cpu().numpy()
            for run, run_frames, run_boxes in zip(batch, chosen, boxes, strict=False):
                run.looks += _looks(run.clip, turn, run_frames, run_boxes)
        answers = runtime.classify(turn, seen, focused, memory).cpu()
        seconds = (time.perf_counter() - started) / len(batch)
        for lane, run in enumerate(batch):
            run.memory = {name: value[lane] for name, value in memory.items()}
            run.seen = seen[lane]
            run.answers.append(answers[lane])
            run.costs.append(cost)
            run.seconds += seconds

    def _glance(self, lanes: Sequence[_Run], turn: Turn) -> Tensor:
        """The feature maps of this turn's frames, or those of the last turn that had any."""
        if not turn.glance:
            return torch.stack([run.seen for run in lanes if run.seen is not None])
        pixels = [run.clip.pixels[np.take(run.clip.plan.glance, turn.glance)] for run in lanes]
        return self.runtime.glance(self.runtime.upload(np.stack(pixels)))

    def _result(self, run: _Run, steps: int, top_k: int, min_score: float) -> VideoResult:
        step_logits = torch.cat(run.answers).float().numpy()
        logits = step_logits[-1]
        return VideoResult(
            video=run.clip.video,
            model=self.model,
            labels=self._tags(logits, top_k, min_score),
            cost=as_cost(run.costs, self._full_frame_macs),
            trajectory=tuple(run.looks),
            exit=Exit(len(step_logits) - 1, steps),
            frames_decoded=len(set(run.clip.plan.frames)),
            runtime=RunInfo(
                device=self.runtime.device,
                precision=self.runtime.precision,
                runtime=self.runtime.name,
                seconds={"decode": run.clip.decode_seconds, "infer": run.seconds},
            ),
            logits=logits,
            step_logits=step_logits,
        )

    def _tags(self, logits: np.ndarray, top_k: int, min_score: float) -> tuple[Tag, ...]:
        """The best labels; of equal scores the lower index first."""
        spread = np.exp(logits.astype(np.float64) - logits.max())
        scores = spread / spread.sum()
        best = np.argsort(-scores, kind="stable")[:top_k]
        return tuple(Tag(self.labels[i], int(i), float(scores[i])) for i in best if scores[i] >= min_score)


def _looks(clip: Clip, turn: Turn, frames: np.ndarray, boxes: np.ndarray) -> list[PatchBox]:
    """A turn's looks as the record tells them: source frame numbers, seconds, upright source pixels."""
    looks = []
    for step, frame, box in zip(turn.looks, frames, boxes, strict=True):
        position = clip.plan.focus[frame]
        left, top, right, bottom = (float(side) for side in box)
        looks.append(
            PatchBox(
                step=step,
                frame=clip.plan.frames[position],
                time=clip.times[position],
                box=clip.to_source((left, top, right, bottom)),
            )
        )
    return looks
