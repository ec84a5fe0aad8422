"""The whole measurement: the model by itself and beside others, decoding, both together, and the sweep.

Each part is one interleaved run, in which everything that is compared takes turns. The sweep varies frames, patch size,
batch and length of the video; models of other sizes have random weights, and what a device or a model cannot vary is
left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adafocus_cli.benchmark.bench_model import (
    BenchModel,
    as_task,
    find_bench_model,
    variant_name,
    with_random_weights,
)
from adafocus_cli.benchmark.interleaved import OnProgress, TimedTask, time_interleaved
from adafocus_cli.benchmark.model_only import measure_model_only
from adafocus_cli.benchmark.reference import ReferenceModel
from adafocus_cli.benchmark.report import REFERENCE, BenchReport, BenchSetting, Curve, Row
from adafocus_cli.benchmark.videos import BatchPipeline, ReferencePipeline, make_video, readers
from adafocus_cli.diagnose.checks import describe_machine, find_accelerators
from adafocus_cli.errors import ModelError
from adafocus_cli.flops import cost_of
from adafocus_cli.models.base import Family
from adafocus_cli.requests import ModelRequest, TagRequest
from adafocus_cli.spec import ModelSpec
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.process import VideoProcess

_MADE_SECONDS, _MADE_TIMES = 10, 8
_MOST_DECODED, _MOST_TAGGED = 5, 50


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to measure. Without `paths`, a video is made."""

    source: str
    patch_size: int | None
    variants: tuple[ModelRequest, ...]
    baselines: tuple[str, ...]
    crops: bool
    rounds: int
    sweep: bool
    paths: tuple[str, ...]


def measure(request: BenchRequest, on_progress: OnProgress) -> BenchReport:
    load, rounds = _load(), request.rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="adafocus-bench-")))
        on_progress("loading the model")
        model = find_bench_model(request.source, request.patch_size, folder)
        taggers = {variant_name(tagger): tagger for tagger in (model.load(variant) for variant in request.variants)}
        some, *_ = taggers.values()
        reference = ReferenceModel(model.family(), some.runtime.device)
        setting = _describe_setting(model, some, load, rounds)
        by_itself = measure_model_only(taggers, reference, request.baselines, request.crops, rounds, on_progress)
        on_progress("making a video")
        paths = request.paths or (make_video(folder / "made.mp4", seconds=_MADE_SECONDS),) * _MADE_TIMES
        return BenchReport(
            setting=setting,
            peak=by_itself.peak,
            model_only=by_itself.rows,
            stages=by_itself.stages,
            videos=_described(request.paths),
            decoding=_decoding(paths, reference, rounds, on_progress, stack),
            end_to_end=_end_to_end(paths[:_MOST_TAGGED], taggers, reference, rounds, on_progress, stack),
            curves=curves(model, request.variants, rounds, folder, on_progress) if request.sweep else (),
        )


def _decoding(
    paths: Sequence[str], reference: ReferenceModel, rounds: int, on_progress: OnProgress, stack: ExitStack
) -> tuple[Row, ...]:
    some = list(dict.fromkeys(paths))[:_MOST_DECODED]
    timings = time_interleaved(readers(some, reference.model, stack), rounds, on_progress)
    return tuple(Row(name=name, timing=timing) for name, timing in timings.items())


def _end_to_end(
    paths: Sequence[str],
    taggers: Mapping[str, ClipTagger],
    reference: ReferenceModel,
    rounds: int,
    on_progress: OnProgress,
    stack: ExitStack,
) -> tuple[Row, ...]:
    way = ReferencePipeline(stack.enter_context(VideoProcess()), reference, paths)
    batches = [BatchPipeline(tagger, paths, TagRequest()).task(name) for name, tagger in taggers.items()]
    timings = time_interleaved([way.task(REFERENCE), *batches], rounds, on_progress)
    return tuple(Row.compared_with(REFERENCE, name, timings, {}) for name in timings)


def _described(paths: Sequence[str]) -> str:
    if not paths:
        return f"a made-up video of {_MADE_SECONDS} s"
    return f"{min(len(paths), _MOST_TAGGED)} of {len(paths)} videos"


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _describe_setting(model: BenchModel, tagger: ClipTagger, load: float | None, rounds: int) -> BenchSetting:
    runtime, spec, machine = tagger.runtime, tagger.spec, describe_machine()
    accelerators = [found.name for found in find_accelerators() if found.device.startswith(runtime.device)]
    return BenchSetting(
        model=model.name,
        made_up_weights=model.random_weights,
        family=spec.family,
        patch_size=spec.patch_size,
        glance_frames=spec.glance_frames,
        focus_frames=spec.focus_frames,
        gmacs=round(cost_of(spec).gmacs, 4),
        device=runtime.device,
        hardware=(accelerators or [machine.cpu])[0],
        cores=machine.cores,
        threads=torch.get_num_threads(),
        batch=runtime.lanes,
        load=load,
        rounds=rounds,
    )


_LENGTHS = (5, 20, 60)  # seconds
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_PATCH_STEP = 32  # pixels, what one pixel of the networks' maps covers

Point = dict[str, float]
"""Seconds a video, by task."""


def curves(
    model: BenchModel, variants: Sequence[ModelRequest], rounds: int, folder: Path, on_progress: OnProgress
) -> tuple[Curve, ...]:
    family = model.family()
    spec = replace(family.spec, dataset=None)

    def sized(spec: ModelSpec) -> Point:
        return _of_sizes(spec, variants, rounds, folder, on_progress)

    def batched(clips: int) -> Point:
        some = [replace(variant, batch_size=clips) for variant in variants]
        return _of_batch(model, some, rounds, on_progress)

    count = spec.focus_frames
    found = (
        _curve("frames", "frames looked at", (count // 2, count, 2 * count), lambda n: sized(spec.with_frames(n))),
        _curve("patch size", "px", _patch_sizes(family), lambda side: sized(spec.with_patch_size(side))),
        _curve("batch", "videos at a time", _BATCHES, batched),
        _curve("length", "s of video", _LENGTHS, lambda length: _of_length(length, model, rounds, folder, on_progress)),
    )
    return tuple(curve for curve in found if curve is not None)


def _curve(varied: str, unit: str, values: Iterable[int], measured: Callable[[int], Point]) -> Curve | None:
    """None if fewer than two values are possible."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for value in values:
        try:
            point = measured(value)
        except ModelError:  # no model of this family has such a size
            continue
        if not point:
            break
        for name, seconds in point.items():
            lines.setdefault(name, []).append((value, seconds))
    if not lines or min(map(len, lines.values())) < 2:
        return None
    return Curve(varied=varied, unit=unit, lines={name: tuple(points) for name, points in lines.items()})


def _patch_sizes(family: Family) -> range:
    """From less than half of the frame's side to all of it, for families with patches."""
    side = family.spec.frame_size
    return range(side // 2 // _PATCH_STEP * _PATCH_STEP, side + 1 if family.cuts_patches else 0, _PATCH_STEP)


def _of_sizes(
    spec: ModelSpec, variants: Sequence[ModelRequest], rounds: int, folder: Path, on_progress: OnProgress
) -> Point:
    model = with_random_weights(spec, "sweep", folder)
    taggers = [model.load(variant) for variant in variants]
    reference = ReferenceModel(model.family(), taggers[0].runtime.device)
    tell_size = f"{spec.focus_frames} patches of {spec.patch_size} px"
    tasks = [reference.task(REFERENCE), *(as_task(tagger) for tagger in taggers)]
    return _medians(tasks, rounds, lambda text: on_progress(f"{tell_size}: {text}"))


def _of_batch(model: BenchModel, variants: Sequence[ModelRequest], rounds: int, on_progress: OnProgress) -> Point:
    """Empty if a device does not take the requested number of clips."""
    taggers = [model.load(variant) for variant in variants]
    tasks = [
        as_task(tagger)
        for tagger, variant in zip(taggers, variants, strict=True)
        if tagger.runtime.lanes == variant.batch_size
    ]
    return _medians(tasks, rounds, on_progress)


def _of_length(length: int, model: BenchModel, rounds: int, folder: Path, on_progress: OnProgress) -> Point:
    on_progress(f"a video of {length} s")
    path = make_video(folder / f"{length}.mp4", seconds=length)
    with ExitStack() as stack:
        tasks = readers([path], model.family(), stack)
        return _medians(tasks, rounds, lambda text: on_progress(f"{length} s of video: {text}"))


def _medians(tasks: Sequence[TimedTask], rounds: int, on_progress: OnProgress) -> Point:
    return {name: timing.median for name, timing in time_interleaved(tasks, rounds, on_progress).items()}
