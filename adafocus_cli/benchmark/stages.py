"""Where the time goes: a runtime whose stages are timed, for the loop to run on. Knows nothing of what they do."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor

from adafocus_cli.benchmark.bench_model import noise
from adafocus_cli.benchmark.interleaved import Entrant, Parts
from adafocus_cli.models.base import Gaze
from adafocus_cli.runtime import Runtime
from adafocus_cli.tagger import Tagger

STAGES = ("upload", "glance", "locate", "patches", "focus", "classify")
REST = "rest"


class TimedRuntime:
    """Does as the runtime that it stands for, and adds up what each stage takes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._runtime, name)
        return partial(self._timed, name, attribute) if name in STAGES else attribute

    def _timed(self, name: str, stage: Callable[..., Tensor | Gaze], *arguments: Any) -> Tensor | Gaze:
        started = time.perf_counter()
        answer = stage(*arguments)
        finish(answer.boxes if isinstance(answer, Gaze) else answer)
        self.seconds[name] += time.perf_counter() - started
        return answer


class Stages:
    """Clips through a model's loop, with seconds by stage; `rest` is what the loop does itself."""

    def __init__(self, tagger: Tagger) -> None:
        self._runtime = TimedRuntime(tagger.runtime)
        self._tagger = Tagger(cast(Runtime, self._runtime), tagger.labels, lambda: tagger.model)
        self._clips = [noise(tagger.family)] * tagger.runtime.lanes

    def entrant(self, name: str) -> Entrant:
        return Entrant(name, self.run, len(self._clips))

    def run(self) -> Parts:
        self._runtime.seconds.clear()
        started = time.perf_counter()
        self._tagger.tag(self._clips)
        elapsed = time.perf_counter() - started
        stages = {stage: self._runtime.seconds[stage] for stage in STAGES}
        return {**stages, REST: elapsed - sum(stages.values())}


def finish(tensor: Tensor) -> None:
    """Waits until it is calculated, which an accelerator else does while the caller goes on."""
    tensor.flatten()[:1].cpu()
