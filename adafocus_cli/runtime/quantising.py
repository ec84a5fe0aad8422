"""Chooses the ranges in which a network rounds to eight bits, with NNCF, from what it was given to see.

NNCF says where to round and between which numbers. Only that is kept, not the graph that it makes: the runtime rounds
any graph of the network by it, without NNCF (`quantise` in openvino.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor

from adafocus_cli.errors import DeviceError
from adafocus_cli.nn.backbones import Backbone
from adafocus_cli.runtime.openvino import (
    CONVOLUTIONS,
    CompiledNetwork,
    OpenVinoRuntime,
    Ranges,
    graph_of,
    input_name,
    quantise,
    the_core,
)

# Calls whose pictures are kept, and pictures of each where a network sees them one by one.
_CALLS, _PICTURES = 64, 4
_COMPARED = 8
# A group of layers stays in full precision if that takes away so much of the squared error of the network's maps.
_DEAR = 0.25


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
    """The ranges of one network, which of its groups of layers stay in full precision, and how far its maps move.

    `error` is the root of the mean square, as a share of how far the maps spread; `rounded` of `layers` convolutions
    calculate in eight bits.
    """

    ranges: Ranges
    kept: tuple[str, ...]
    error: float
    rounded: int
    layers: int


def check_installed() -> None:
    if find_spec("nncf") is None:
        raise DeviceError('NNCF, which chooses the ranges, is not there: pip install "adafocus-cli[int8]"')


@contextmanager
def noting_pictures(runtime: OpenVinoRuntime, videos: int) -> Iterator[dict[str, SeenPictures]]:
    """What the two networks see meanwhile, by their names; of many videos, of some that are spread evenly."""
    networks = {"glance_net": runtime.model.glance_net, "focus_net": runtime.model.focus_net}
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
            if network.network.pixels_at_once is not None:
                frames = frames[:: -(-len(frames) // _PICTURES)]
            seen.calls.append(frames.numpy().copy())

    return note


def choose_ranges(network: Backbone, seen: SeenPictures) -> ChosenRanges:
    """`network` writes itself down (`make_writing`)."""
    graph = graph_of(network, seen.shape)
    named = {input_name(node, place) for node in graph.get_ops() for place in range(node.get_input_size())}
    found = _of_nncf(graph_of(network, seen.shape), seen.calls)
    ranges: Ranges = {name: bounds for name, bounds in found.items() if name in named}  # others change with each graph
    groups = _groups(graph)
    compared = seen.calls[:: -(-len(seen.calls) // _COMPARED)]
    exact = _maps(graph, compared)

    def error(ranges: Ranges) -> float:
        rounded = graph_of(network, seen.shape)
        quantise(rounded, ranges)
        moved = [((ours - theirs) ** 2).mean() for ours, theirs in zip(_maps(rounded, compared), exact, strict=True)]
        return float(np.sqrt(np.mean(moved)) / np.concatenate([maps.ravel() for maps in exact]).std())

    of_all = error(ranges)
    kept = tuple(name for name, inputs in groups.items() if _is_dear(error(_without(ranges, inputs)), of_all))
    for name in kept:
        ranges = _without(ranges, groups[name])
    convolutions = [input_name(node, 0) for node in graph.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS]
    return ChosenRanges(
        ranges=ranges,
        kept=kept,
        error=error(ranges) if kept else of_all,
        rounded=sum(name in ranges for name in convolutions),
        layers=len(convolutions),
    )


def _is_dear(without: float, with_it: float) -> bool:
    return without**2 < (1 - _DEAR) * with_it**2


def _without(ranges: Ranges, inputs: Sequence[str]) -> dict[str, Tensor]:
    return {name: bounds for name, bounds in ranges.items() if name not in inputs}


@contextmanager
def _silent() -> Iterator[None]:
    """NNCF draws bars and writes remarks, some of them to standard output, which is for results."""
    usual = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(usual)


def _of_nncf(graph: openvino.Model, calls: Sequence[np.ndarray]) -> dict[str, Tensor]:
    with _silent():
        import nncf

        rounded = nncf.quantize(
            graph,
            nncf.Dataset(calls),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calls),
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )
    found = {}
    for node in rounded.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize" or _is_constant(node.input_value(0).get_node()):
            continue
        low, high = (node.input_value(place).get_node().data for place in (1, 2))
        for given in node.output(0).get_target_inputs():
            found[input_name(given.get_node(), given.get_index())] = torch.tensor([low.min(), high.max()])
    return found


def _is_constant(node: openvino.Node) -> bool:
    """Or made of constants alone, as the weights that NNCF keeps in fewer bits."""
    if node.get_type_name() == "Parameter":
        return False
    return all(_is_constant(value.get_node()) for value in node.input_values())


def _groups(graph: openvino.Model) -> Mapping[str, list[str]]:
    """What may stay in full precision, by what it is called: the inputs of its layers."""
    layers = [node for node in graph.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS]
    depthwise = [node for node in layers if node.get_type_name() == "GroupConvolution"]
    groups = {"the first convolution": layers[:1], "the last convolution": layers[-1:], "depthwise layers": depthwise}
    return {name: [input_name(node, 0) for node in nodes] for name, nodes in groups.items() if nodes}


def _maps(graph: openvino.Model, calls: Sequence[np.ndarray]) -> list[np.ndarray]:
    compiled = the_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    return [compiled([call])[0].copy() for call in calls]
