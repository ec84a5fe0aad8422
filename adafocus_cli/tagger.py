"""Makes results of clips: a model, its labels, and what the loop makes of frames that are decoded already.

`Tagger` (api.py) adds video files to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adafocus_cli import checkpoint
from adafocus_cli import labels as label_lists
from adafocus_cli.errors import UsageError, VideoError, printable
from adafocus_cli.exits import ExitRule, read_rule, schedule
from adafocus_cli.files import sha256_of
from adafocus_cli.flops import as_cost, meter_of
from adafocus_cli.labels import LabelSet, scores_of, tags_or_guess
from adafocus_cli.library.store import find_model
from adafocus_cli.loop import Clip, Loop, Run
from adafocus_cli.models.base import Family
from adafocus_cli.requests import ModelRequest, Precision, RuntimeName, TagRequest
from adafocus_cli.runtime import Runtime, runtime_for
from adafocus_cli.schema import Exit, ModelInfo, RunInfo, VideoInfo, VideoResult
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import FramePlan, LookRequest

if TYPE_CHECKING:
    from typing_extensions import Self


class ClipTagger:
    """Makes results of clips with one model. Build one with `ClipTagger.load` or `ClipTagger.of`."""

    def __init__(self, runtime: Runtime, labels: LabelSet, describe: Callable[[], ModelInfo]) -> None:
        self.runtime = runtime
        self.labels = labels
        self._describe = describe
        self._meter = meter_of(self.spec)
        self._full_frame_macs = self._meter.full_frame()
        self._steps = self.family.turns()[-1].answers.stop

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        patch_size: int | None = None,
        views: int | None = None,
        labels: str | Path | Sequence[str] | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | None = None,
        runtime: RuntimeName = "auto",
    ) -> Self:
        """A tagger from the name of a model or its file.

        `views` is how often a network over whole clips sees a video; its answers are averaged.
        `batch_size` is how many clips an accelerator takes at once; a processor takes them one by one.
        """
        return cls.of(
            ModelRequest(
                source=model,
                patch_size=patch_size,
                views=views,
                labels=labels,
                device=device,
                precision=precision,
                batch_size=batch_size,
                runtime=runtime,
            )
        )

    @classmethod
    def of(cls, request: ModelRequest) -> Self:
        """The tagger that was asked for: file, tensors, spec, labels, module, device."""
        path = find_model(request.name_or_file)
        background = ThreadPoolExecutor(1, thread_name_prefix="hash")
        digest = background.submit(sha256_of, path)
        background.shutdown(wait=False)
        loaded = checkpoint.load(path, patch_size=request.patch_size, views=request.views)
        spec, about = loaded.spec, loaded.about
        labels = request.labels
        if labels is None and about and about.labels:
            labels = about.labels
        names = label_lists.resolve(labels, dataset=spec.dataset, classes=spec.classes)
        return cls(
            runtime_for(loaded.build(), request),
            names,
            lambda: ModelInfo(
                name=(about and about.name) or path.name,
                family=spec.family,
                dataset=spec.dataset,
                sha256=digest.result(),
                patch_size=spec.patch_size,
                source_sha256=about.source_sha256 if about else None,
            ),
        )

    def over(self, runtime: Runtime) -> ClipTagger:
        """The same model in another runtime, such as one that wraps this one's."""
        return ClipTagger(runtime, self.labels, lambda: self.model)

    @cached_property
    def model(self) -> ModelInfo:
        """Which model answers; the first to ask may wait until its file is hashed."""
        return self._describe()

    @property
    def spec(self) -> ModelSpec:
        return self.runtime.model.spec

    @property
    def family(self) -> Family:
        return self.runtime.model

    # From pixels.

    def tag_frames(
        self, glance: np.ndarray, focus: np.ndarray | None = None, *, top_k: int = 5, min_score: float | None = None
    ) -> VideoResult:
        """The result for frames that are already sampled: uint8 RGB (frames, side, side, 3), in time order.

        `focus` is for families that sample their focus (or candidate) frames separately. A family that looks at the
        source takes whole frames of any size.
        """
        if self.family.looks_at_source:
            if focus is not None or not _are_pictures(glance):
                what = f"{glance.dtype} {glance.shape}" + ("" if focus is None else " and focus frames")
                raise UsageError(f"frames are {what}, but {self.spec.family} takes uint8 (frames, height, width, 3)")
            return self.tag([source_clip(glance, self.family)], top_k=top_k, min_score=min_score)[0]
        given = (glance,) if focus is None else (glance, focus)
        plan = self.family.plan(1 << 20)
        shape = (len(plan.frames), *self.spec.framing.shape)
        fit = all(part.shape[1:] == shape[1:] and part.dtype == np.uint8 for part in given)
        if not fit or sum(map(len, given)) != shape[0]:
            frames = " and ".join(f"{part.dtype} {part.shape}" for part in given)
            raise UsageError(
                f"frames are {frames}, but {self.spec.family} takes uint8 {shape}: "
                f"{len(plan.glance)} to glance at, and candidates for a careful look among {len(plan.focus)}"
            )
        clip = clip_of(np.concatenate(given), plan)
        return self.tag([clip], top_k=top_k, min_score=min_score)[0]

    def tag(
        self, clips: Sequence[Clip], *, top_k: int = 5, min_score: float | None = None, rule: ExitRule | None = None
    ) -> list[VideoResult]:
        """Results for clips whose frames are at hand, in their order."""
        loop = self.loop(rule or ExitRule())
        for index, clip in enumerate(clips):
            loop.add(clip, index)
        over: dict[int, Run] = {}
        while len(loop):
            over |= {run.key: run for run in loop.step()}
        return [self.result(over[index], top_k=top_k, min_score=min_score) for index in range(len(clips))]

    # What the engine works with.

    def exit_rule(self, request: TagRequest) -> ExitRule:
        """When clips may be left; a file that was fitted for another model is refused."""
        if isinstance(request.exits, ExitRule):
            rule = request.exits
        elif request.exits is None:
            rule = ExitRule()
        else:
            rule = read_rule(Path(request.exits), self.model)
        return rule if request.max_gmacs is None else replace(rule, max_gmacs=request.max_gmacs)

    def min_score(self, asked: float | None) -> float:
        """The lowest score of a label that is told: the one asked for, or the model's own."""
        return self.spec.min_score if asked is None else asked

    def loop(self, rule: ExitRule) -> Loop:
        return Loop(self.runtime, schedule(self.family, self._meter, rule), rule)

    def result(self, run: Run, *, top_k: int, min_score: float | None) -> VideoResult:
        """What a run that is over says of its video; raises the error that ended it."""
        if run.error is not None:
            raise run.error
        step_logits = np.concatenate(run.answers)
        if not np.isfinite(step_logits[-1]).all():
            text = "the model's answer is no number; check its weights, or use another --precision"
            raise VideoError(f"{printable(run.clip.video.path)}: {text}", stage="infer")
        scores = scores_of(step_logits[-1], self.spec.family)
        tags, guess = tags_or_guess(scores, self.labels, top_k=top_k, min_score=self.min_score(min_score))
        return VideoResult(
            video=run.clip.video,
            model=self.model,
            labels=tuple(replace(tag, looks=self.family.looks_for(tag.index, run.memory)) for tag in tags),
            best_guess=guess,
            cost=as_cost(run.costs, self._full_frame_macs),
            trajectory=tuple(run.looks),
            skipped=tuple(run.skipped) if self.family.skips else None,
            exit=Exit(len(step_logits) - 1, self._steps),
            frames_decoded=run.clip.frames_decoded,
            runtime=RunInfo(
                device=self.runtime.device,
                precision=self.runtime.precision,
                runtime=self.runtime.name,
                seconds={"decode": run.clip.decode_seconds, "infer": run.seconds},
            ),
            logits=step_logits[-1],
            step_logits=step_logits,
        )


def clip_of(frames: np.ndarray, plan: FramePlan) -> Clip:
    """A clip whose frames are at hand: uint8 RGB (frames, side, side, 3), in the order of the plan."""
    count, side = frames.shape[:2]
    clip = Clip(
        _video_of(count, side, side), FramePlan(tuple(range(count)), plan.glance, plan.focus), to_source=lambda box: box
    )
    for frame, picture in enumerate(frames):
        clip.add(frame, picture, 0.0)
    return clip


def source_clip(frames: np.ndarray, family: Family) -> Clip:
    """A clip of whole frames that are at hand, for a family that looks into them: uint8 RGB (frames, h, w, 3)."""
    from adafocus_cli.video.pictures import cut_looks, preprocess

    count, height, width = frames.shape[:3]
    framing, plan = family.spec.framing, family.plan(count)

    def look(clip: Clip, request: LookRequest) -> Future[None]:
        for each, pixels in zip(request.due, cut_looks(request.due, frames.__getitem__), strict=True):
            clip.add_cut(each, pixels)
        done = Future[None]()
        done.set_result(None)
        return done

    clip = Clip(_video_of(count, width, height), plan, framing.geometry(width, height).to_source, look)
    for frame in dict.fromkeys(plan.frames):
        clip.add(frame, preprocess(frames[frame], framing), 0.0)
    return clip


def _are_pictures(frames: np.ndarray) -> bool:
    return frames.ndim == 4 and frames.shape[-1] == 3 and frames.size > 0 and frames.dtype == np.uint8


def _video_of(frames: int, width: int, height: int) -> VideoInfo:
    """Of frames that are at hand."""
    return VideoInfo(
        path="",
        width=width,
        height=height,
        fps=None,
        frames=frames,
        duration=None,
        codec="raw",
        rotation=0,
        decoder="none",
    )
