"""The model without decoding, by runtime: `python bench/model_only.py [FAMILY …] [--patch-size P] [--rounds N]`.

Beside them the authors' way: a frame and a patch at a time, nothing folded, in fp32. All take turns on one thread; the
best of each is printed in seconds of the processor, which a busy machine hardly changes, and as a share of what a
product of matrices reaches in the same number format.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch

from adafocus_cli.flops import cost_of
from adafocus_cli.models import build, default_spec
from adafocus_cli.models.base import Family, Memory
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime import Runtime, runtime_for
from adafocus_cli.runtime.pytorch import PRECISIONS

WAYS = [(runtime, precision) for runtime in ("torch", "openvino") for precision in ("fp32", "bf16")]
SIDE = 2048  # of the matrices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", metavar="FAMILY", nargs="*", default=["adafocus-v1", "adafocus-v2"])
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peaks = {
        precision: 2 * SIDE**3 / min(seconds(product(precision)) for _ in range(arguments.rounds))
        for precision in ("fp32", "bf16")
    }
    print("product of matrices:", ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
    for family in arguments.families:
        measure(family, arguments.patch_size, arguments.rounds, peaks)


def measure(family: str, patch_size: int, rounds: int, peaks: dict[str, float]) -> None:
    torch.manual_seed(0)
    spec = default_spec(family, patch_size=patch_size)
    model, cost = build(spec), cost_of(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, spec.frame_size, spec.frame_size, 3), np.uint8)
    ways: dict[tuple[str, str], Callable[[], object]] = {("plain", "fp32"): lambda: plainly(model, pixels)}
    for runtime, precision in WAYS:
        ready = runtime_for(deepcopy(model), ModelRequest(runtime=runtime, device="cpu", precision=precision))
        ways[runtime, precision] = lambda ready=ready: run(ready, pixels)  # type: ignore[misc]
    best = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for way, action in ways.items():
            took = seconds(action)
            best[way] = min(best[way], took) if number else best[way]  # the first round warms up
    flop = 2e9 * (cost.stages["glance"] + cost.stages["focus"])
    for (runtime, precision), took in best.items():
        ratio, share = took / best["plain", "fp32"], flop / took / peaks[precision]
        print(f"{family:14} P {patch_size} {runtime:9} {precision}: {took:.3f} s, {ratio:.2f} ×, {share:4.0%} of peak")


@torch.inference_mode()
def plainly(model: Family, pixels: np.ndarray) -> None:
    frames, memory = torch.from_numpy(pixels), Memory()
    for turn in model.turns(1):
        seen = model.glance(model.normalised(frames[:, turn.glance]))
        gaze = model.locate(turn, seen, memory)
        patches = model.patches(frames[:, gaze.frames[0]].flatten(0, 1), gaze.boxes.flatten(0, 1))
        model.classify(turn, seen, model.focus(patches[None]), memory)


def run(runtime: Runtime, pixels: np.ndarray) -> None:
    (turn,) = runtime.model.turns()
    frames, memory = runtime.upload(pixels), Memory()
    seen = runtime.glance(frames[:, turn.glance])
    gaze = runtime.locate(turn, seen, memory)
    patches = runtime.patches(frames[:, gaze.frames[0]].flatten(0, 1), gaze.boxes.flatten(0, 1))
    runtime.classify(turn, seen, runtime.focus(patches[None]), memory)


def product(precision: str) -> Callable[[], torch.Tensor]:
    matrix = torch.randn(SIDE, SIDE).to(PRECISIONS[precision])
    return lambda: matrix @ matrix


def seconds(action: Callable[[], object]) -> float:
    """Of the processor, all threads together."""
    started = time.process_time()
    action()
    return time.process_time() - started


if __name__ == "__main__":
    main()
