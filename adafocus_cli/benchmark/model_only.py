"""A model without decoding: by stage, and against the machine's peak (peak.py).

Stages are timed by a runtime that times what the loop asks of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from adafocus_cli.benchmark.bench_model import as_task, noise_clip
from adafocus_cli.benchmark.interleaved import (
    OnProgress,
    SecondsByPart,
    TimedTask,
    Timing,
    ratio,
    time_interleaved,
    wait_for,
)
from adafocus_cli.benchmark.peak import Kernel, kernels, theoretical_rate
from adafocus_cli.benchmark.report import MachinePeak, Row
from adafocus_cli.flops import cost_of
from adafocus_cli.models.base import Gaze
from adafocus_cli.runtime import Runtime
from adafocus_cli.schema import Cost
from adafocus_cli.tagger import ClipTagger

if TYPE_CHECKING:
    from adafocus_cli.runtime.openvino import OpenVinoRuntime


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
        self._tagger = tagger.over(cast(Runtime, self._runtime))
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
    """`peaks` are by precision."""

    rows: tuple[Row, ...]
    stages: tuple[Row, ...]
    peaks: Mapping[str, MachinePeak]


def measure_model_only(
    taggers: Mapping[str, ClipTagger], rounds: int, on_progress: OnProgress, others: Sequence[TimedTask] = ()
) -> ModelOnly:
    """Everything in the same rounds; `others` are rows to compare with."""
    some, *_ = taggers.values()
    cost = cost_of(some.spec)
    of_peak = {each.runtime.precision: _kernels(each.runtime.precision, taggers) for each in taggers.values()}
    stages = {name: StageTimer(tagger).task(f"{name}, by stage") for name, tagger in taggers.items()}
    rows = [*others, *map(as_task, taggers.values())]
    tasks = [kernel.task() for tried in of_peak.values() for kernel in tried]
    timings = time_interleaved([*rows, *stages.values(), *tasks], rounds, on_progress)

    rates: dict[str, list[float]] = {}
    peaks: dict[str, MachinePeak] = {}
    for precision, tried in of_peak.items():
        found = {kernel.name: kernel.rates(timings[kernel.name]) for kernel in tried}
        for name, tagger in taggers.items():
            if tagger.runtime.precision == precision:
                found |= _own_rates(name, cost, timings[name], timings[stages[name].name])
        rates[precision] = [max(each) for each in zip(*found.values(), strict=True)]
        best = max(found, key=lambda name: max(found[name]))
        theoretical = theoretical_rate(precision) if some.runtime.device == "cpu" else None
        peaks[precision] = MachinePeak(max(found[best]), best.removesuffix(f", {precision}"), theoretical)
    shares = {}
    for name, tagger in taggers.items():
        rate = rates[tagger.runtime.precision]
        shares[name] = {"all": share(cost.gmacs, timings[name].seconds(), rate)}
        shares[stages[name].name] = _by_stage(cost, timings[stages[name].name], rate)
    return ModelOnly(
        rows=tuple(Row(task.name, timings[task.name], shares.get(task.name)) for task in rows),
        stages=tuple(Row(task.name, timings[task.name], shares[task.name]) for task in stages.values()),
        peaks=peaks,
    )


def _kernels(precision: str, taggers: Mapping[str, ClipTagger]) -> list[Kernel]:
    """With the largest layers of the model's own networks, where OpenVINO runs them in this format."""
    some, *_ = taggers.values()
    for tagger in taggers.values():
        if (tagger.runtime.name, tagger.runtime.precision) == ("openvino", precision):
            tagger.tag([noise_clip(tagger.family)])  # only then it is known which pictures they see
            networks = cast("OpenVinoRuntime", tagger.runtime).networks
            return kernels(some.runtime.device, precision, [graph for each in networks for graph in each.graphs()])
    return kernels(some.runtime.device, precision)


def _own_rates(name: str, cost: Cost, whole: Timing, by_stage: Timing) -> dict[str, list[float]]:
    """Those of the networks themselves: what they reach, the machine does."""
    found = {f"{name}: all": [cost.gmacs / seconds for seconds in whole.seconds()]}
    for stage in ("glance", "focus"):
        if gmacs := cost.stages[stage]:
            found[f"{name}: {stage}"] = [gmacs / seconds for seconds in by_stage.seconds(stage)]
    return found


def _by_stage(cost: Cost, timing: Timing, rates: Sequence[float]) -> dict[str, float]:
    """Of the stages that the model has: networks over whole clips have no focus."""
    work = {stage: cost.stages[stage] for stage in ("glance", "focus") if cost.stages[stage]}
    each = {stage: share(gmacs, timing.seconds(stage), rates) for stage, gmacs in work.items()}
    return {**each, "networks": share(sum(work.values()), timing.seconds(*work), rates)}
