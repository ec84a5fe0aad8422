"""The whole measurement: a model by itself and beside others, decoding, and both together.

Each part is one run of rounds in which all that is compared in it takes turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adafocus_cli.benchmark import videos
from adafocus_cli.benchmark.bench_model import Subject, Variant, find, name_of
from adafocus_cli.benchmark.end_to_end import Batch, PlainWay
from adafocus_cli.benchmark.interleaved import timed
from adafocus_cli.benchmark.model_only import alone
from adafocus_cli.benchmark.reference import PlainPath
from adafocus_cli.benchmark.report import PLAIN, Report, Row, Setting
from adafocus_cli.benchmark.sweep import curves
from adafocus_cli.diagnose.machine import find_accelerators, look_at_machine
from adafocus_cli.engine.local import Options
from adafocus_cli.flops import cost_of
from adafocus_cli.tagger import Tagger
from adafocus_cli.video.process import VideoProcess

_MADE_SECONDS, _MADE_TIMES = 10, 8
_MOST_DECODED, _MOST_TAGGED = 5, 50

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure. Without `paths`, on a video made for it."""

    source: str
    patch_size: int | None
    variants: tuple[Variant, ...]
    baselines: tuple[str, ...]
    crops: bool
    rounds: int
    sweep: bool
    paths: tuple[str, ...]


def measure(request: Request, tell: Tell) -> Report:
    load, rounds = _load(), request.rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="adafocus-bench-")))
        tell("loading the model")
        subject = find(request.source, request.patch_size, folder)
        taggers = {name_of(tagger): tagger for tagger in (variant.load(subject) for variant in request.variants)}
        some, *_ = taggers.values()
        plain = PlainPath(subject.family(), some.runtime.device)
        setting = _setting(subject, some, load, rounds)
        by_itself = alone(taggers, plain, request.baselines, request.crops, rounds, tell)
        tell("making a video")
        paths = request.paths or (videos.make(folder / "made.mp4", seconds=_MADE_SECONDS),) * _MADE_TIMES
        return Report(
            setting=setting,
            peak=by_itself.peak,
            model_only=by_itself.rows,
            stages=by_itself.stages,
            videos=_described(request.paths),
            decoding=_decoding(paths, plain, rounds, tell, stack),
            end_to_end=_end_to_end(paths[:_MOST_TAGGED], taggers, plain, rounds, tell, stack),
            curves=curves(subject, request.variants, rounds, folder, tell) if request.sweep else (),
        )


def _decoding(paths: Sequence[str], plain: PlainPath, rounds: int, tell: Tell, stack: ExitStack) -> tuple[Row, ...]:
    some = list(dict.fromkeys(paths))[:_MOST_DECODED]
    timings = timed(videos.readers(some, plain.model, stack), rounds, tell)
    return tuple(Row(name=name, timing=timing) for name, timing in timings.items())


def _end_to_end(
    paths: Sequence[str], taggers: Mapping[str, Tagger], plain: PlainPath, rounds: int, tell: Tell, stack: ExitStack
) -> tuple[Row, ...]:
    way = PlainWay(stack.enter_context(VideoProcess()), plain, paths)
    batches = [Batch(tagger, paths, Options()).entrant(name) for name, tagger in taggers.items()]
    timings = timed([way.entrant(PLAIN), *batches], rounds, tell)
    return tuple(Row.beside(PLAIN, name, timings, {}) for name in timings)


def _described(paths: Sequence[str]) -> str:
    if not paths:
        return f"a made-up video of {_MADE_SECONDS} s"
    return f"{min(len(paths), _MOST_TAGGED)} of {len(paths)} videos"


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _setting(subject: Subject, tagger: Tagger, load: float | None, rounds: int) -> Setting:
    runtime, spec, machine = tagger.runtime, tagger.spec, look_at_machine()
    accelerators = [found.name for found in find_accelerators() if found.device.startswith(runtime.device)]
    return Setting(
        model=subject.name,
        made_up_weights=subject.made_up,
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
