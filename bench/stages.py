"""Seconds of each stage for one video: `python bench/stages.py [FAMILY|FILE …] [--patch-size P] [--rounds N]`.

Of a family in its published sizes, with random weights, or of a model's file. Random frames, no decoding: the shapes
decide. They take turns within each round, so that a busy
moment of the machine hits them alike; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adafocus_cli.checkpoint import load
from adafocus_cli.flops import STAGES, CostMeter
from adafocus_cli.models import FAMILIES, build, default_spec
from adafocus_cli.models.base import Memory
from adafocus_cli.runtime.choice import runtime_for


class Timed:
    """One model's stages, run and timed as the loop runs them."""

    def __init__(self, name: str, patch_size: int | None, device: str, precision: str, runtime: str) -> None:
        torch.manual_seed(0)
        self.name = Path(name).stem
        model = build(default_spec(name, patch_size=patch_size)) if name in FAMILIES else load(Path(name)).build()
        self.spec = model.spec
        self.runtime = runtime_for(model, runtime=runtime, device=device, precision=precision)
        (cost,) = CostMeter(self.spec).of_turns(self.runtime.model.turns())
        self.gmacs = {stage: cost[stage] / 1e9 for stage in STAGES}
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.plan = self.runtime.model.plan(1 << 12)
        side = self.spec.frame_size
        self.pixels = np.random.default_rng(0).integers(0, 256, (len(self.plan.frames), side, side, 3), np.uint8)

    def run(self) -> None:
        runtime, plan = self.runtime, self.plan
        (turn,) = runtime.model.turns()
        memory: Memory = {}
        glanced = self.pixels[[plan.glance[i] for i in turn.glance]]
        seen = self._time("glance", lambda: runtime.glance(runtime.upload(self._lanes(glanced))))
        gaze = self._time("policy", lambda: runtime.locate(turn, seen, memory))
        looked = self.pixels[[plan.focus[i] for i in gaze.frames[0].tolist()]]
        focused = self._time("focus", lambda: self._focus(self._lanes(looked), gaze.boxes))
        self._time("classify", lambda: runtime.classify(turn, seen, focused, memory))

    def _lanes(self, pixels: np.ndarray) -> np.ndarray:
        return np.repeat(pixels[None], self.runtime.lanes, axis=0)

    def _focus(self, pixels: np.ndarray, boxes: torch.Tensor) -> torch.Tensor:
        frames = self.runtime.upload(pixels)
        patches = self.runtime.patches(frames.flatten(0, 1), boxes.flatten(0, 1))
        return self.runtime.focus(patches.view(*frames.shape[:2], *patches.shape[1:]))

    def _time(self, stage: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[stage].append((time.perf_counter() - started) / self.runtime.lanes)
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="FAMILY|FILE", nargs="*", default=list(FAMILIES))
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runtime", default="auto")
    arguments = parser.parse_args()
    how = (arguments.patch_size, arguments.device, arguments.precision, arguments.runtime)
    timed = [Timed(name, *how) for name in arguments.models]
    for each in timed:
        each.run()
        each.seconds.clear()
    for _ in range(arguments.rounds):
        for each in timed:
            each.run()
    print(
        f"{'model':18}{'P':>5}"
        + "".join(f"{stage:>10}" for stage in STAGES)
        + f"{'video':>10}{'GMACs':>8}{'GMACs/s':>9}"
    )
    for each in timed:
        seconds = {stage: statistics.median(each.seconds[stage]) for stage in STAGES}
        total, gmacs = sum(seconds.values()), sum(each.gmacs.values())
        row = "".join(f"{seconds[stage]:10.4f}" for stage in STAGES)
        print(f"{each.name:18}{each.spec.patch_size:5}{row}{total:10.4f}{gmacs:8.2f}{gmacs / total:9.1f}")


if __name__ == "__main__":
    main()
