"""A model without decoding: by stage, and against the machine's peak.

The peak is a product of two large matrices, which all networks are made of. Stages are timed by a runtime that times
what the loop asks of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor

from adafocus_cli.benchmark.bench_model import as_task, noise_clip
from adafocus_cli.benchmark.interleaved import (
    OnProgress,
    SecondsByPart,
    TimedTask,
    Timing,
    in_one_part,
    ratio,
    time_interleaved,
    wait_for,
)
from adafocus_cli.benchmark.report import Row
from adafocus_cli.flops import cost_of
from adafocus_cli.models.base import Gaze
from adafocus_cli.runtime import Runtime
from adafocus_cli.runtime.pytorch import PRECISIONS
from adafocus_cli.schema import Cost
from adafocus_cli.tagger import ClipTagger

_SMALLEST, _LARGEST = 512, 16384
_SECONDS = 0.05  # of work: long compared with the cost of a launch


class MatrixProduct:
    """A product of square matrices in a number format, large enough to take a while."""

    def __init__(self, device: str, precision: str) -> None:
        self.name = f"matrix product, {precision}"
        self._device = device
        self._format = PRECISIONS[precision]
        self._tf32 = precision == "tf32"

    def task(self) -> TimedTask:
        return TimedTask(self.name, in_one_part(self._multiply))

    def rates(self, timing: Timing) -> list[float]:
        """10⁹ multiply-adds a second, in each round."""
        gmacs = len(self._factor) ** 3 / 1e9
        return [gmacs / seconds for seconds in timing.seconds()]

    def _multiply(self, factor: torch.Tensor | None = None) -> None:
        factor, usual = self._factor if factor is None else factor, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = self._tf32
        try:
            wait_for(factor @ factor)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = usual

    @cached_property
    def _factor(self) -> torch.Tensor:
        side = _SMALLEST
        while True:
            factor = torch.randn(side, side, device=self._device).to(self._format)
            self._multiply(factor)
            started = time.perf_counter()
            self._multiply(factor)
            if time.perf_counter() - started > _SECONDS or side == _LARGEST:
                return factor
            side *= 2


def share(gmacs: float, seconds: Sequence[float], rates: Sequence[float]) -> float:
    """The share of the peak rates that this work reached, timed in the same rounds."""
    return ratio([gmacs / each for each in seconds], rates)


STAGES = ("upload", "glance", "locate", "patches", "focus", "classify")
REST = "rest"


class TimedRuntime:
    """Passes everything on to a runtime, and adds up the seconds of each stage."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._runtime, name)
        return partial(self._timed, name, attribute) if name in STAGES else attribute

    def _timed(self, name: str, stage: Callable[..., Tensor | Gaze], *arguments: Any) -> Tensor | Gaze:
        started = time.perf_counter()
        answer = stage(*arguments)
        wait_for(answer.boxes if isinstance(answer, Gaze) else answer)
        self.seconds[name] += time.perf_counter() - started
        return answer


class StageTimer:
    """Times a batch through the loop by stage; `rest` is the loop itself."""

    def __init__(self, tagger: ClipTagger) -> None:
        self._runtime = TimedRuntime(tagger.runtime)
        self._tagger = ClipTagger(cast(Runtime, self._runtime), tagger.labels, lambda: tagger.model)
        self._clips = [noise_clip(tagger.family)] * tagger.runtime.lanes

    def task(self, name: str) -> TimedTask:
        return TimedTask(name, self.run, len(self._clips))

    def run(self) -> SecondsByPart:
        self._runtime.seconds.clear()
        started = time.perf_counter()
        self._tagger.tag(self._clips)
        elapsed = time.perf_counter() - started
        stages = {stage: self._runtime.seconds[stage] for stage in STAGES}
        return {**stages, REST: elapsed - sum(stages.values())}


@dataclass(frozen=True)
class ModelOnly:
    """`peak` is in 10⁹ multiply-adds a second, by precision."""

    rows: tuple[Row, ...]
    stages: tuple[Row, ...]
    peak: Mapping[str, float]


def measure_model_only(
    taggers: Mapping[str, ClipTagger], rounds: int, on_progress: OnProgress, others: Sequence[TimedTask] = ()
) -> ModelOnly:
    """Everything in the same rounds; `others` are rows to compare with."""
    some, *_ = taggers.values()
    precisions = dict.fromkeys(tagger.runtime.precision for tagger in taggers.values())
    products = {precision: MatrixProduct(some.runtime.device, precision) for precision in precisions}
    stages = {name: StageTimer(tagger).task(f"{name}, by stage") for name, tagger in taggers.items()}
    rows = [*others, *map(as_task, taggers.values())]
    timings = time_interleaved(
        [*rows, *stages.values(), *(each.task() for each in products.values())], rounds, on_progress
    )
    rates = {precision: product.rates(timings[product.name]) for precision, product in products.items()}

    cost, shares = cost_of(some.spec), {}
    for name, tagger in taggers.items():
        rate = rates[tagger.runtime.precision]
        shares[name] = {"all": share(cost.gmacs, timings[name].seconds(), rate)}
        shares[stages[name].name] = _by_stage(cost, timings[stages[name].name], rate)
    return ModelOnly(
        rows=tuple(Row(task.name, timings[task.name], shares.get(task.name)) for task in rows),
        stages=tuple(Row(task.name, timings[task.name], shares[task.name]) for task in stages.values()),
        peak={precision: max(rate) for precision, rate in rates.items()},
    )


def _by_stage(cost: Cost, timing: Timing, rates: Sequence[float]) -> dict[str, float]:
    """Of the stages that the model has: networks over whole clips have no focus."""
    work = {stage: cost.stages[stage] for stage in ("glance", "focus") if cost.stages[stage]}
    each = {stage: share(gmacs, timing.seconds(stage), rates) for stage, gmacs in work.items()}
    return {**each, "networks": share(sum(work.values()), timing.seconds(*work), rates)}
