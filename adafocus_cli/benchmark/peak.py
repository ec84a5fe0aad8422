"""How fast this machine calculates at best: kernels that networks are made of, timed in the same rounds as a model.

A product of large matrices alone is no peak: another library, or a convolution that stays in the caches, may be faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from adafocus_cli.benchmark.interleaved import TimedTask, Timing, in_one_part, wait_for
from adafocus_cli.diagnose.checks import cpu_features
from adafocus_cli.requests import cores
from adafocus_cli.runtime.pytorch import PRECISIONS

if TYPE_CHECKING:
    import openvino

_SMALLEST, _LARGEST = 512, 16384
_SECONDS = 0.05  # of work: long compared with the cost of a launch
_SIDE = 1024  # of a matrix that one core multiplies by itself
_MAPS = (2, 256, 28, 28)  # which a 3×3 convolution makes of as many
_LAYERS = 2  # of each network, those with the most work


@dataclass(frozen=True)
class Kernel:
    """So many 10⁹ multiply-adds a run."""

    name: str
    gmacs: float
    run: Callable[[], object]

    def task(self) -> TimedTask:
        return TimedTask(self.name, in_one_part(self.run))

    def rates(self, timing: Timing) -> list[float]:
        """10⁹ multiply-adds a second, in each round."""
        return [self.gmacs / seconds for seconds in timing.seconds()]


def kernels(device: str, precision: str, graphs: Sequence[openvino.Model] = ()) -> list[Kernel]:
    """All that may be the fastest here; `graphs` are those of a model that OpenVINO runs in this format."""
    found = [matrix_product(device, precision), _convolution(device, precision)] if precision in PRECISIONS else []
    if device == "cpu" and find_spec("openvino") is not None:
        found += _of_openvino(precision, graphs)
    return found


# torch.


def matrix_product(device: str, precision: str) -> Kernel:
    """Of square matrices that are large enough to take a while."""
    side = _SMALLEST
    while True:
        factor = torch.randn(side, side, device=device).to(PRECISIONS[precision])
        multiply = partial(_with_tf32, precision == "tf32", torch.matmul, factor, factor)
        if side == _LARGEST or _seconds(multiply) > _SECONDS:
            return Kernel(f"matrix product by torch, {precision}", side**3 / 1e9, multiply)
        side *= 2


def _convolution(device: str, precision: str) -> Kernel:
    number, (_, channels, *sides) = PRECISIONS[precision], _MAPS
    weights = torch.randn(channels, channels, 3, 3, device=device).to(number, memory_format=torch.channels_last)
    maps = torch.randn(4 if device == "cpu" else 256, channels, *sides, device=device).to(
        number, memory_format=torch.channels_last
    )
    convolve = partial(_with_tf32, precision == "tf32", nn.functional.conv2d, maps, weights, padding=1)
    return _repeated(f"convolution by torch, {precision}", maps.numel() * channels * 9 / 1e9, convolve)


@torch.inference_mode()
def _with_tf32(allowed: bool, operation: Callable[..., torch.Tensor], *given: torch.Tensor, **how: int) -> None:
    usual = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            wait_for(operation(*given, **how))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = usual


# OpenVINO: on every core a stream of one thread, as networks run.


@dataclass(frozen=True)
class _Layer:
    """A convolution that is not depthwise; of the sides of a picture, or of a clip."""

    maps: tuple[int, ...]
    weights: tuple[int, ...]
    strides: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]

    @classmethod
    def of(cls, node: openvino.Node) -> _Layer:
        maps, weights = (tuple(node.input_value(place).shape) for place in (0, 1))
        how = node.get_attributes()
        return cls(maps, weights, *(tuple(how[name]) for name in ("strides", "pads_begin", "pads_end")))

    @property
    def name(self) -> str:
        weights, maps = ("×".join(map(str, sides)) for sides in (self.weights, self.maps))
        return f"layer {weights} of maps {maps} by OpenVINO"


def _of_openvino(precision: str, graphs: Sequence[openvino.Model]) -> list[Kernel]:
    square, channels = (_SIDE, _SIDE), _MAPS[1]
    common = _Layer(_MAPS, (channels, channels, 3, 3), (1, 1), (1, 1), (1, 1))
    layers = dict.fromkeys(layer for graph in graphs for layer in _largest_layers(graph))
    return [
        _compiled("matrix product by OpenVINO", precision, square, square),
        _compiled("convolution by OpenVINO", precision, common.maps, common.weights, common),
        *(_compiled(layer.name, precision, layer.maps, layer.weights, layer) for layer in layers),
    ]


def _largest_layers(graph: openvino.Model) -> list[_Layer]:
    """Each kind once."""
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    work = {_Layer.of(node): prod(node.output(0).shape) * prod(node.input_value(1).shape[1:]) for node in nodes}
    return sorted(work, key=lambda layer: -work[layer])[:_LAYERS]


def _compiled(
    name: str, precision: str, given: tuple[int, ...], weights: tuple[int, ...], layer: _Layer | None = None
) -> Kernel:
    """A convolution, or without a layer a product of matrices; with int8, of numbers that are rounded before."""
    from openvino import Model
    from openvino import opset13 as op

    from adafocus_cli.runtime.openvino import LEVELS, compiled_for_streams, rounded

    chance, threads = np.random.default_rng(0), torch.get_num_threads()
    maps, factor = op.parameter(given, np.float32), op.constant(chance.standard_normal(weights, np.float32))
    source = maps
    if precision == "int8":
        source, factor = rounded(maps, -4, 4), rounded(factor, -4, 4, levels=LEVELS - 1)
    if layer is None:
        out = op.matmul(source, factor, False, False)
    else:
        sides = layer.strides, layer.pads_begin, layer.pads_end, [1] * len(layer.strides)
        out = op.convolution(source, factor, *map(list, sides))
    macs = prod(out.shape) * prod(weights[1:])
    graph = compiled_for_streams(Model([out], [maps]), precision, threads, threads)
    requests = [graph.create_infer_request() for _ in range(threads)]
    shown = chance.standard_normal(given, np.float32)

    def run() -> None:
        for request in requests:
            request.start_async([shown], share_inputs=True)
        for request in requests:
            request.wait()

    return _repeated(f"{name}, {precision}", threads * macs / 1e9, run)


def _repeated(name: str, gmacs: float, once: Callable[[], object]) -> Kernel:
    times = max(1, ceil(_SECONDS / max(_seconds(once), 1e-6))) if _SECONDS else 1

    def run() -> None:
        for _ in range(times):
            once()

    return Kernel(name, gmacs * times, run)


def _seconds(run: Callable[[], object]) -> float:
    """Of a second run."""
    run()
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


# What processor and clock allow.

_CLOCK = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")


def theoretical_rate(precision: str) -> float | None:
    """10⁹ multiply-adds a second of all cores at the highest clock; None where the system does not tell it."""
    try:
        kilohertz = int(_CLOCK.read_text())
    except (OSError, ValueError):
        return None
    each = macs_per_cycle(precision, cpu_features())
    return None if each is None else each * min(cores(), torch.get_num_threads()) * kilohertz / 1e6


def macs_per_cycle(precision: str, features: frozenset[str]) -> int | None:
    """Multiply-adds of a core in a cycle, with two units for them as all server processors have.

    Zen 4, which has AVX-512 but not the instructions that came with Zen 5, calculates its 512 bits in two halves.
    """
    halves = {"avx512f", "sse4a"} <= features and "avx512_vp2intersect" not in features  # sse4a: AMD's
    fp32 = 32 if "avx512f" in features and not halves else 16 if {"avx2", "fma"} <= features else None
    if precision == "bf16":
        return 1024 if "amx_bf16" in features else 2 * (fp32 or 0) if "avx512_bf16" in features else None
    if precision == "int8":
        return 2048 if "amx_int8" in features else 4 * (fp32 or 0) if "avx512_vnni" in features else None
    return fp32 if precision == "fp32" else None
