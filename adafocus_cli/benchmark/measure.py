"""The whole measurement: the model in each runtime and number format, decoding, and both together.

Each part is one interleaved run, in which everything that is compared takes turns.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adafocus_cli.benchmark.bench_model import BenchModel, find_bench_model, variant_name
from adafocus_cli.benchmark.interleaved import OnProgress, SecondsByPart, TimedTask, in_one_part, time_interleaved
from adafocus_cli.benchmark.model_only import measure_model_only
from adafocus_cli.benchmark.report import BenchReport, BenchSetting, Row
from adafocus_cli.benchmark.videos import make_video
from adafocus_cli.diagnose.checks import (
    DECODER_MODULES,
    DECODERS,
    computes_in_bf16,
    describe_machine,
    find_accelerators,
)
from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.errors import AdaFocusError, DeviceError
from adafocus_cli.flops import cost_of
from adafocus_cli.models.base import Family
from adafocus_cli.requests import ModelRequest, Precision, RuntimeName, TagRequest
from adafocus_cli.schema import Failure, Result
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.process import VideoProcess

_MADE_SECONDS, _MADE_TIMES = 10, 8
_MOST_DECODED, _MOST_TAGGED = 5, 50
_RUNTIMES: tuple[RuntimeName, ...] = ("torch", "openvino")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to measure. Empty `precisions` and `runtimes`: all at hand. Without `paths`, a video is made."""

    model: ModelRequest
    precisions: tuple[Precision, ...] = ()
    runtimes: tuple[RuntimeName, ...] = ()
    rounds: int
    paths: tuple[str, ...] = ()


def measure(request: BenchRequest, on_progress: OnProgress) -> BenchReport:
    load, rounds = _load(), request.rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="adafocus-bench-")))
        on_progress("loading the model")
        model = find_bench_model(str(request.model.name_or_file), request.model.patch_size, folder)
        taggers = load_variants(model, request)
        some, *_ = taggers.values()
        by_itself = measure_model_only(taggers, rounds, on_progress)
        on_progress("making a video")
        paths = request.paths or (make_video(folder / "made.mp4", seconds=_MADE_SECONDS),) * _MADE_TIMES
        decoded = list(dict.fromkeys(paths))[:_MOST_DECODED]
        return BenchReport(
            setting=_describe_setting(model, some, load, rounds),
            peaks=by_itself.peaks,
            model_only=by_itself.rows,
            stages=by_itself.stages,
            videos=_described(request.paths),
            decoding=timed(readers(decoded, some.family, stack), rounds, on_progress),
            end_to_end=timed(batches(taggers, paths[:_MOST_TAGGED]), rounds, on_progress),
        )


def load_variants(model: BenchModel, request: BenchRequest) -> dict[str, ClipTagger]:
    """The model, loaded for each runtime and number format, by the name of their row."""
    found: dict[str, ClipTagger] = {}
    obstacle: DeviceError | None = None
    all_named = bool(request.runtimes and request.precisions)
    for precision in request.precisions or _PRECISIONS:
        for runtime in request.runtimes or _RUNTIMES:
            try:
                tagger = model.load(replace(request.model, precision=precision, runtime=runtime))
            except DeviceError as error:
                if all_named:
                    raise
                # Of formats that nobody named, the first says it most plainly.
                obstacle = error if request.precisions else obstacle or error
                continue
            if request.precisions or not _is_emulated(tagger):
                found[variant_name(tagger)] = tagger
    if not found:
        raise obstacle or DeviceError("nothing of this model can be run here")
    return found


def _is_emulated(tagger: ClipTagger) -> bool:
    runtime = tagger.runtime
    return (runtime.device, runtime.precision) == ("cpu", "bf16") and not computes_in_bf16()


def timed(tasks: Sequence[TimedTask], rounds: int, on_progress: OnProgress) -> tuple[Row, ...]:
    return tuple(Row(name, timing) for name, timing in time_interleaved(tasks, rounds, on_progress).items())


def batches(taggers: Mapping[str, ClipTagger], paths: Sequence[str]) -> list[TimedTask]:
    return [BatchPipeline(tagger, paths, TagRequest()).task(name) for name, tagger in taggers.items()]


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


def readers(paths: Sequence[str], family: Family, stack: ExitStack) -> list[TimedTask]:
    """A task for every installed decoder, in a process that ends with the stack."""
    there = [decoder for decoder in DECODERS if find_spec(DECODER_MODULES[decoder])]
    return [_reader(stack.enter_context(VideoProcess(decoder=decoder)), decoder, paths, family) for decoder in there]


def _reader(process: VideoProcess, name: str, paths: Sequence[str], family: Family) -> TimedTask:
    """Opens videos and decodes the frames of a model's first turn."""
    (turn, *_), framing = family.turns(), family.spec.framing

    def read() -> None:
        for path in paths:
            video = process.open(path)
            plan = family.plan(video.info.frames)
            first = {plan.frames[position] for position in family.frames_of(turn, plan)}
            process.frames(video, sorted(first), framing=framing)

    return TimedTask(name, in_one_part(read), len(paths))


class BatchPipeline:
    """Tags as `adafocus batch` does, with the videos repeated endlessly. Only a part is timed: the videos before it
    fill the queues between decoding and model, those after it keep them full.
    """

    def __init__(self, tagger: ClipTagger, paths: Sequence[str], request: TagRequest) -> None:
        lanes = tagger.runtime.lanes
        self._videos = lanes * -(-len(paths) // lanes)
        self._before = lanes * -(-2 * request.workers // lanes)
        self._tagger, self._paths, self._request = tagger, paths, request

    def task(self, name: str) -> TimedTask:
        return TimedTask(name, self._run, self._videos)

    def _run(self) -> SecondsByPart:
        threads = torch.get_num_threads()
        try:
            with closing(tag_as_they_come(cycle(self._paths), self._tagger, self._request)) as results:
                _take(results, self._before)
                started = time.perf_counter()
                _take(results, self._videos)
                return {"all": time.perf_counter() - started}
        finally:
            torch.set_num_threads(threads)  # the batch sets its own


def _take(results: Iterator[Result], count: int) -> None:
    for result in islice(results, count):
        if isinstance(result, Failure):
            raise AdaFocusError(f"{result.message} (only videos that can be tagged can be measured; leave it out)")
