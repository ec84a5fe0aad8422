"""Chooses the ranges in which a network rounds to eight bits, from what it was given to see.

A range is the one that moves numbers least, in squares: it may cut off the few that are far out. By how much rounding
moves the mean of what a channel makes is taken off again. Only what convolutions are given is rounded; sums of
branches, which all that follows is added to, are dear to round and cheap to calculate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import openvino
import torch
from openvino import Node
from openvino import opset13 as op
from torch import Tensor

from adafocus_cli.nn.backbones import Backbone
from adafocus_cli.nn.pixels import normalised
from adafocus_cli.runtime import Runtime
from adafocus_cli.runtime.openvino import (
    LEVELS,
    CompiledNetwork,
    Ranges,
    convolutions,
    graph_of,
    quantise,
    rounded_by_hand,
    rounded_weights,
    the_core,
)

# Calls whose pictures are kept, and pictures of each where a network sees them one by one.
_CALLS, _PICTURES = 32, 4
# Of what a layer is given in a call; and how narrow a range is tried.
_NUMBERS, _NARROWEST, _WIDTHS = 4096, 0.4, 25
# By how many calls layers are compared, each rounded alone.
_COMPARED = 4
# A layer stays in full precision if so much of the squared error is its own, and all of them together are no more of
# the work than that.
_DEAR, _MOST_WORK = 0.05, 0.03


@dataclass
class SeenPictures:
    """What a network was given in the course of some videos."""

    calls: list[np.ndarray] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of them; -1 where they differ."""
        sides = zip(*(call.shape for call in self.calls), strict=True)
        return tuple(found[0] if len(set(found)) == 1 else -1 for found in sides)


@dataclass(frozen=True)
class ChosenRanges:
    """The ranges of one network, which of its layers stay in full precision, and how far its maps move: the root of
    the mean square, as a share of how far the maps spread."""

    ranges: Ranges
    kept: tuple[str, ...]
    error: float


@contextmanager
def noting_pictures(runtime: Runtime, videos: int) -> Iterator[dict[str, SeenPictures]]:
    """What glance and focus see meanwhile; of many videos, of some that are spread evenly."""
    networks = {"glance": runtime.model.glance_net, "focus": runtime.model.focus_net}
    seen = {name: SeenPictures() for name in networks}
    hooks = [networks[name].register_forward_pre_hook(_noting(seen[name], -(-videos // _CALLS))) for name in networks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _noting(seen: SeenPictures, stride: int) -> Any:
    calls = 0

    def note(network: CompiledNetwork, given: tuple[Tensor]) -> None:
        nonlocal calls
        calls += 1
        if calls % stride == 0 or calls == 1:
            (frames,) = given
            if frames.dtype == torch.uint8:
                frames = normalised(frames, *network.normalisation)
            if network.network.pixels_at_once is not None:
                frames = frames[:: -(-len(frames) // _PICTURES)]
            seen.calls.append(frames.numpy().copy())

    return note


def choose_ranges(network: Backbone, seen: SeenPictures) -> ChosenRanges:
    """`network` writes itself down (`make_writing`)."""
    graph = graph_of(network, seen.shape)
    layers = {node.get_friendly_name(): node for node in convolutions(graph)}
    given = _compiled(openvino.Model([node.input_value(0) for node in layers.values()], graph.get_parameters()))
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    for call in seen.calls:
        for name, maps in zip(layers, given([call]).values(), strict=True):
            numbers[name].append(maps.ravel()[:: -(-maps.size // _NUMBERS)].copy())
    bounds = [least_error_range(np.concatenate(found)) for found in numbers.values()]
    moves = _moves(graph, list(layers.values()), bounds, seen.calls)
    ranges: Ranges = {name: torch.cat(each) for name, *each in zip(layers, bounds, moves, strict=True)}

    compared = seen.calls[:: -(-len(seen.calls) // _COMPARED)]
    exact = _maps(graph, compared)
    spread = float(np.concatenate([maps.ravel() for maps in exact]).var())

    def error(ranges: Ranges) -> float:
        moved = graph_of(network, seen.shape)
        quantise(moved, ranges, by_hand=True)
        pairs = zip(_maps(moved, compared), exact, strict=True)
        return float(np.mean([((ours - theirs) ** 2).mean() for ours, theirs in pairs])) / spread

    work = _work(graph_of(network, compared[0].shape))
    kept = dear_layers({name: error({name: chosen}) for name, chosen in ranges.items()}, work)
    ranges = {name: chosen for name, chosen in ranges.items() if name not in kept}
    return ChosenRanges(ranges, kept, float(np.sqrt(error(ranges))))


def _moves(
    graph: openvino.Model, layers: Sequence[Node], bounds: Sequence[Tensor], calls: Sequence[np.ndarray]
) -> list[Tensor]:
    """By how much each layer, rounded, makes less of the same maps: the mean of each channel."""
    outputs = []
    for layer, (low, high) in zip(layers, bounds, strict=True):
        maps = rounded_by_hand(layer.input_value(0), float(low), float(high))
        ours = _repeated(layer, maps, rounded_weights(layer, rounded_by_hand))
        over = op.constant(np.array([0, 2, 3], np.int64))
        outputs.append(op.reduce_mean(op.subtract(layer, ours), over))
    means = _compiled(openvino.Model(outputs, graph.get_parameters()))
    sums = [sum(found) for found in zip(*(list(means([call]).values()) for call in calls), strict=True)]
    return [torch.from_numpy(each / len(calls)) for each in sums]


def _repeated(convolution: Node, maps: Node, weights: Node) -> Node:
    """The same with something else."""
    how = convolution.get_attributes()
    make = op.convolution if convolution.get_type_name() == "Convolution" else op.group_convolution
    where = (how["strides"], how["pads_begin"], how["pads_end"], how["dilations"])
    return make(maps, weights, *where, how["auto_pad"])


def least_error_range(numbers: np.ndarray) -> Tensor:
    """The two bounds between which rounding moves these numbers least; 0 is a level of its own.

    >>> least_error_range(np.array([0.0, 0.1, 0.5, 1.0])).tolist()[0]
    0.0
    """
    bounds = min(float(numbers.min()), 0.0), max(float(numbers.max()), 1e-6)
    shares = np.linspace(1, _NARROWEST, _WIDTHS)
    for tried in ([(1.0, share) for share in shares], [(share, 1.0) for share in shares]):
        ranges = [_with_level_at_0(low * bounds[0], high * bounds[1]) for low, high in tried]
        bounds = min(ranges, key=lambda each: _squared_error(numbers, *each))
    return torch.tensor(bounds, dtype=torch.float32)


def _with_level_at_0(low: float, high: float) -> tuple[float, float]:
    step = (high - low) / (LEVELS - 1)
    least = round(low / step)
    return least * step, (least + LEVELS - 1) * step


def _squared_error(numbers: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    return float(((np.clip(np.round(numbers / step) * step, low, high) - numbers) ** 2).mean())


def dear_layers(errors: Mapping[str, float], work: Mapping[str, int]) -> tuple[str, ...]:
    """Those that stay in full precision, by what each costs and moves when it alone is rounded.

    >>> dear_layers({"first": 0.5, "second": 0.1, "third": 0.001}, {"first": 2, "second": 90, "third": 8})
    ('first',)
    """
    kept: list[str] = []
    for name in sorted(errors, key=lambda name: -errors[name]):
        done = sum(work[each] for each in (*kept, name)) / sum(work.values())
        if errors[name] >= _DEAR * sum(errors.values()) and done <= _MOST_WORK:
            kept.append(name)
    return tuple(kept)


def _work(graph: openvino.Model) -> dict[str, int]:
    """Multiply-adds of each convolution."""
    found = {}
    for node in convolutions(graph):
        of_one = prod(node.input_value(1).shape[1 if node.get_type_name() == "Convolution" else 2 :])
        found[node.get_friendly_name()] = prod(node.output(0).shape) * of_one
    return found


def _compiled(graph: openvino.Model) -> openvino.CompiledModel:
    return the_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})


def _maps(graph: openvino.Model, calls: Sequence[np.ndarray]) -> list[np.ndarray]:
    compiled = _compiled(graph)
    return [compiled([call])[0].copy() for call in calls]
