"""The networks on OpenVINO, compiled for each shape and number of streams when it first comes; the rest is torch's.

Nothing is kept on disk: to write a ResNet down and compile it takes a third of a second, and what OpenVINO would keep
saves little of that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from math import ceil, prod
from typing import Any

import numpy as np
import openvino
import torch
from openvino import CompiledModel, Core, InferRequest, Node, opset1
from openvino import opset13 as op
from torch import Tensor, nn

from adafocus_cli.errors import DeviceError, ModelError
from adafocus_cli.models.base import Family, frame_by_frame
from adafocus_cli.nn.backbones import FOLD, Backbone, SamePaddedConv2d, TemporalShift
from adafocus_cli.nn.clip_networks import ClipNet
from adafocus_cli.runtime.pytorch import TorchRuntime, fold, names_of_networks, resolve_precision
from adafocus_cli.spec import Colour, Normalisation

# Of a piece of a batch of frames: three of 224 pixels, whose maps stay in the caches of one core, or eight patches of
# 128, for which weights are read once.
_PIXELS = 3 * 224**2

# What is calculated in; with int8, that is what is not rounded: bf16 would move maps further than eight bits do.
_FORMATS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16, "int8": openvino.Type.f32}

Ranges = Mapping[str, Tensor]
"""How each layer is rounded to eight bits, by its name: the lowest and the highest number that it is given, and then
what is added to each channel of what it makes."""


@cache
def the_core() -> Core:
    """One for the life of the process. A core gives the thread that it compiles on a stack for signals and frees it
    when it goes: beside another core, or from another thread, that leaves a freed one, and the next signal kills."""
    return Core()


class OpenVinoRuntime(TorchRuntime):
    name = "openvino"
    computes_networks = False

    def __init__(self, model: Family, *, precision: str = "auto") -> None:
        super().__init__(model, device="cpu", precision="fp32")
        self.precision = precision if precision == "int8" else resolve_precision(precision, self._device)
        if self.precision == "bf16" and "BF16" not in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("this CPU does not compute in bf16; use --precision fp32")
        if self.precision == "int8" and not adds_in_32_bits():
            raise DeviceError("this CPU has no instructions for int8 (VNNI); use --precision fp32")
        ranges = ranges_by_network(model.int8) if self.precision == "int8" else {}
        self.networks = [
            _replaced(model, name, self.precision, ranges.get(name, {})) for name in names_of_networks(model)
        ]

    def glance(self, pixels: Tensor) -> Tensor:
        """Where a family glances at nothing but its frames, as large as they are, the network is given the pixels."""
        as_usual = type(self.model).glance is Family.glance and pixels.shape[2] == self.model.spec.glance.size
        if as_usual and isinstance(self.model.glance_net, CompiledNetwork):
            return frame_by_frame(self.model.glance_net, pixels)
        return super().glance(pixels)

    @contextmanager
    def spread(self) -> Iterator[int]:
        with super().spread() as cores:
            try:
                for network in self.networks:
                    network.serve(cores)
                yield cores
            finally:
                for network in self.networks:
                    network.serve(1)

    @contextmanager
    def one_by_one(self, macs: int) -> Iterator[None]:
        with super().one_by_one(macs):
            try:
                if self.small(macs):
                    for network in self.networks:
                        network.serve(1, cores=1)
                yield
            finally:
                for network in self.networks:
                    network.serve(1)


def compiled_for_streams(graph: openvino.Model, precision: str, streams: int, threads: int) -> CompiledModel:
    """For so many requests at a time, which share the threads."""
    settings = {
        "INFERENCE_PRECISION_HINT": _FORMATS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # other processes decode on the same cores
    }
    return the_core().compile_model(graph, "CPU", settings)


GraphOf = Callable[[tuple[int, ...]], openvino.Model]
"""What is to be done with pictures of a shape."""


@dataclass
class Ready:
    """A graph that is compiled, and the requests to it that nobody waits for: to make one waits for those that run."""

    compiled: CompiledModel
    idle: list[InferRequest] = field(default_factory=list)

    def request(self) -> InferRequest:
        try:
            return self.idle.pop()
        except IndexError:
            return self.compiled.create_infer_request()


class _Compiled(nn.Module):
    """What OpenVINO runs: the pieces of a batch beside one another.

    How it is cut follows from the frames and the cores alone: a clip has the same answer alone and beside others.
    """

    def __init__(self, precision: str) -> None:
        super().__init__()
        self._precision = precision
        self._cores = self._threads = torch.get_num_threads()
        self._least_streams = 1
        self._ready: dict[tuple[Hashable, tuple[int, ...], int], Ready] = {}
        self._graphs: dict[tuple[Hashable, tuple[int, ...]], GraphOf] = {}
        self._compiling = threading.Lock()

    def serve(self, threads: int, *, cores: int | None = None) -> None:
        """Makes ready for so many threads that ask at the same time, and calculates on so many cores, or on all."""
        self._least_streams, self._threads = threads, cores or self._cores
        self._ready.clear()

    def graphs(self) -> list[openvino.Model]:
        """Of all that it has run so far."""
        return [graph(shape) for (_, shape), graph in self._graphs.items()]

    def _run(self, part: Hashable, graph: GraphOf, pieces: Sequence[Tensor]) -> Tensor:
        """What a part of the network makes of pieces of the same size."""
        streams = max(self._least_streams, min(self._threads, len(pieces)))
        ready = self._compiled(part, graph, tuple(pieces[0].shape), streams)
        requests = [ready.request() for _ in pieces]
        for request, piece in zip(requests, pieces, strict=True):
            request.start_async([piece.numpy()], share_inputs=True)
        for request in requests:
            request.wait()
        maps = torch.cat([torch.from_numpy(request.get_output_tensor().data) for request in requests])
        ready.idle += requests
        return maps

    def _compiled(self, part: Hashable, graph: GraphOf, shape: tuple[int, ...], streams: int) -> Ready:
        with self._compiling:
            if (part, shape, streams) not in self._ready:
                threads = max(streams, self._threads)
                compiled = compiled_for_streams(graph(shape), self._precision, streams, threads)
                self._ready[part, shape, streams] = Ready(compiled)
                self._graphs[part, shape] = graph
            return self._ready[part, shape, streams]


class CompiledNetwork(_Compiled, Backbone):
    """A backbone: many small pieces of a batch on a core each, if it sees each frame by itself.

    It takes normalised frames (n, 3, h, w), or pixels, uint8 (n, h, w, 3), which its graph normalises: what is not
    written down need not be read again.
    """

    def __init__(self, network: Backbone, precision: str, ranges: Ranges, normalisation: Normalisation) -> None:
        super().__init__(precision)
        make_writing(network)
        self.normalisation = normalisation
        self.channels, self.stride, self.smooth = network.channels, network.stride, network.smooth
        self.network, self._ranges, self._by_hand = network, ranges, False

    def round_by_hand(self, ranges: Ranges) -> None:
        """From now on it calculates in fp32 what eight bits would give, on any processor."""
        self._ranges, self._by_hand = ranges, True
        self._ready.clear()

    def forward(self, frames: Tensor) -> Tensor:
        pieces = torch.split(frames.contiguous(), self._frames_at_once(frames))
        return self._run(frames.dtype, partial(self._graph, dtype=frames.dtype), pieces)

    def _graph(self, shape: tuple[int, ...], *, dtype: torch.dtype) -> openvino.Model:
        """For frames or pixels of this shape, rounded where it calculates in eight bits."""
        graph = graph_of(self.network, shape, self.normalisation if dtype == torch.uint8 else None)
        if self._ranges:
            quantise(graph, self._ranges, by_hand=self._by_hand)
        return graph

    def _frames_at_once(self, frames: Tensor) -> int:
        """Pieces of the same size, for each size has to be compiled, which keep all cores busy to the end."""
        count = len(frames)
        if self.network.pixels_at_once is None:
            return count
        of_each = prod(frames.shape[1:]) // 3
        most = max(1, min(_PIXELS // of_each, count // self._cores))
        sizes = [size for size in range(1, most + 1) if count % size == 0]
        return min(sizes, key=lambda size: (size * ceil(count / size / self._cores), -size))


class CompiledClipNet(_Compiled, ClipNet):
    """The parts of a network over clips, clip by clip; what is made of the last part's maps is little, and torch's."""

    def __init__(self, network: ClipNet, precision: str) -> None:
        super().__init__(precision)
        for part in network.parts().values():
            for module in part:
                make_writing(module)
        self.widths, self.halvings = network.widths, network.halvings
        self._network = network

    @property
    def channels(self) -> int:
        return self._network.channels

    def vectors(self, maps: Tensor) -> Tensor:
        return self._network.vectors(maps)

    def answer(self, vectors: Tensor) -> Tensor:
        return self._network.answer(vectors)

    def _through(self, maps: Tensor, names: Sequence[str]) -> Tensor:
        through = partial(self._network._through, names=names)
        return self._run(tuple(names), partial(graph_of, through), torch.split(maps.contiguous(), 1))


def _replaced(model: Family, name: str, precision: str, ranges: Ranges) -> CompiledNetwork | CompiledClipNet:
    """The network of that name, which OpenVINO runs from now on."""
    network = model.get_submodule(name)
    compiled: CompiledNetwork | CompiledClipNet
    if isinstance(network, ClipNet):
        fold(network)
        compiled = CompiledClipNet(network, precision)
    else:
        assert isinstance(network, Backbone), "the other kind"
        compiled = CompiledNetwork(network, precision, ranges, model.spec.normalisation)
    setattr(model, name, compiled)
    return compiled


# Networks as graphs of OpenVINO.
#
# OpenVINO's own converter takes ten seconds for a ResNet, as it has torch trace it. Here the network's own `forward`
# runs once with layers that write themselves down instead of computing. Norms must be folded before.


def make_writing(network: nn.Module) -> None:
    """Its layers write themselves down from now on; tensors are no longer for it."""
    for name, layer in network.named_modules():
        written = _LAYERS.get(type(layer))
        if written is not None:
            vars(layer)["forward"] = partial(written, layer, name)
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"do not know how to write {type(layer).__name__} ({name}) for OpenVINO; add it")


def graph_of(
    network: Callable[[Any], Any], shape: tuple[int, ...], normalisation: Normalisation | None = None
) -> openvino.Model:
    """What a network that writes makes of pictures of this very shape; -1: of any. With a normalisation, of pixels."""
    pictures = op.parameter(openvino.PartialShape(list(shape)), np.float32 if normalisation is None else np.uint8)
    given = pictures if normalisation is None else _normalised(pictures, *normalisation)
    graph = openvino.Model([network(given)], [pictures])
    for node in graph.get_ordered_ops():  # no layer writes the sum of two branches
        first = node.input_value(0).get_node() if node.get_type_name() == "Add" else None
        if first is not None and not node.get_friendly_name().endswith(_BIAS):
            node.set_friendly_name(first.get_friendly_name().removesuffix(_BIAS) + _SUM)
    return graph


def _normalised(pixels: Node, mean: Colour, std: Colour) -> Node:
    """As `nn.pixels.normalised`."""
    middle, spread = (op.constant(np.array(values, np.float32)) for values in (mean, std))
    shares = op.divide(op.convert(pixels, np.float32), op.constant(np.float32(255)))
    return op.transpose(op.divide(op.subtract(shares, middle), spread), _whole(0, 3, 1, 2))


# Of a node beside the name of the layer that writes it. With them nodes keep their names, whatever the pictures' shape.
_BIAS, _SUM = ".bias", ".sum"


def _convolution(layer: Any, name: str, maps: Node) -> Node:
    weight = layer.weight
    pads = layer.padding
    how = {"auto_pad": "same_upper"} if isinstance(layer, SamePaddedConv2d) else {}
    if layer.groups > 1:
        grouped = weight.unflatten(0, (layer.groups, -1))
        out = op.group_convolution(maps, _constant(grouped), layer.stride, pads, pads, layer.dilation, **how)
    else:
        out = op.convolution(maps, _constant(weight), layer.stride, pads, pads, layer.dilation, **how)
    out.set_friendly_name(name)
    if layer.bias is None:
        return out
    return op.add(out, _constant(layer.bias.view(-1, *(1 for _ in layer.stride))), name=name + _BIAS)


def _pooling(layer: Any, name: str, maps: Node) -> Node:
    sides = len(maps.shape) - 2
    given = (layer.stride, layer.padding, layer.kernel_size)
    stride, pad, kernel = ([size] * sides if isinstance(size, int) else list(size) for size in given)
    return opset1.max_pool(maps, stride, pad, pad, kernel, name=name)  # later ones also tell where each maximum was


def _shift(layer: TemporalShift, name: str, maps: Node) -> Node:
    """As `TemporalShift` draws it: two eighths of the channels move by a frame, the rest stays."""
    _, channels, height, width = maps.shape
    fold, last = channels // FOLD, layer.frames - 1
    clips = op.reshape(maps, _whole(-1, layer.frames, channels, height, width), special_zero=False, name=name)
    nothing = _constant(torch.zeros(maps.shape[0] // layer.frames, 1, fold, height, width))

    def part(channel: slice, frame: slice) -> Node:
        bounds = [_whole(*values) for values in ((frame.start, channel.start), (frame.stop, channel.stop), (1, 1))]
        return op.slice(clips, *bounds, axes=_whole(1, 2))

    after = op.concat([part(slice(0, fold), slice(1, last + 1)), nothing], axis=1)
    before = op.concat([nothing, part(slice(fold, 2 * fold), slice(0, last))], axis=1)
    same = part(slice(2 * fold, channels), slice(0, last + 1))
    return op.reshape(op.concat([after, before, same], axis=2), _whole(*maps.shape), special_zero=False)


def _constant(values: Tensor) -> Node:
    return op.constant(values.detach().contiguous().numpy())


def _whole(*numbers: int) -> Node:
    return op.constant(np.array(numbers, np.int64))


def _mean(layer: nn.AdaptiveAvgPool3d, name: str, maps: Node) -> Node:
    return op.reduce_mean(maps, _whole(2, 3, 4), keep_dims=True)


_LAYERS: dict[type[nn.Module], Callable[..., Node]] = {
    nn.AdaptiveAvgPool3d: _mean,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    SamePaddedConv2d: _convolution,
    nn.Identity: lambda layer, name, maps: maps,
    nn.MaxPool2d: _pooling,
    nn.MaxPool3d: _pooling,
    nn.ReLU: lambda layer, name, maps: op.relu(maps),
    nn.ReLU6: lambda layer, name, maps: op.clamp(maps, 0.0, 6.0),
    nn.Sigmoid: lambda layer, name, maps: op.sigmoid(maps),
    nn.SiLU: lambda layer, name, maps: op.swish(maps),
    TemporalShift: _shift,
}


# Eight bits.
#
# A graph says by nodes called FakeQuantize where numbers are rounded and between which bounds; OpenVINO then calculates
# what lies between them in whole numbers. The bounds of what layers are given are chosen once, from videos; those of
# weights follow from the weights.

LEVELS = 256


def adds_in_32_bits() -> bool:
    """Whether this processor adds up products of eight bits without overflow: without the instructions for it (VNNI),
    the sum of two products is cut to 16 bits, and answers are wrong."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)())


def ranges_by_network(ranges: Ranges) -> dict[str, dict[str, Tensor]]:
    """
    >>> ranges_by_network({"focus_net.conv1": torch.zeros(3)})
    {'focus_net': {'conv1': tensor([0., 0., 0.])}}
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, chosen in ranges.items():
        network, _, layer = name.partition(".")
        found.setdefault(network, {})[layer] = chosen
    return found


def quantise(graph: openvino.Model, ranges: Ranges, *, by_hand: bool = False) -> None:
    """Has what the named convolutions are given rounded, and their weights, and what they make moved.

    `by_hand` does it in fp32: to the same levels on every processor, and without haste.
    """
    round_ = rounded_by_hand if by_hand else rounded
    layers = {node.get_friendly_name(): node for node in convolutions(graph)}
    unknown = [name for name in ranges if name not in layers or len(ranges[name]) != 2 + _channels(layers[name])]
    if unknown:
        raise ModelError(
            f"the model has int8 ranges of {min(unknown)!r}, which this version does not know; quantize it again with "
            "`adafocus models quantize`"
        )
    shared: dict[tuple[object, ...], Node] = {}
    for name, chosen in ranges.items():
        node, (low, high, *_) = layers[name], chosen.tolist()
        source = node.input_value(0)
        key = (source.get_node().get_friendly_name(), source.get_index(), low, high)
        if key not in shared:  # two layers that are given the same share it
            shared[key] = round_(source, low, high)
        node.input(0).replace_source_output(shared[key].output(0))
        node.input(1).replace_source_output(rounded_weights(node, round_).output(0))
        (user,) = node.output(0).get_target_inputs()
        bias = user.get_node().input_value(1).get_node().data
        moved = op.constant(bias + chosen[2:].numpy().reshape(bias.shape))
        user.get_node().input(1).replace_source_output(moved.output(0))


def convolutions(graph: openvino.Model) -> list[Node]:
    return [node for node in graph.get_ordered_ops() if node.get_type_name() in ("Convolution", "GroupConvolution")]


def _channels(convolution: Node) -> int:
    """Of what it makes."""
    channels: int = convolution.get_output_partial_shape(0)[1].get_length()
    return channels


def rounded_weights(convolution: Node, round_: Callable[..., Node]) -> Node:
    """Each output channel by itself, evenly around 0."""
    values = convolution.input_value(1).get_node().data
    outputs = 1 if convolution.get_type_name() == "Convolution" else 2  # groups come first
    largest = np.abs(values).max(axis=tuple(range(outputs, values.ndim)), keepdims=True)
    largest[largest == 0] = 1
    return round_(convolution.input_value(1), -largest, largest, levels=LEVELS - 1)  # 0 is one of them


def rounded(source: Any, low: Any, high: Any, *, levels: int = LEVELS) -> Node:
    """With so many levels between two numbers, or two for each channel."""
    bounds = [op.constant(np.asarray(bound, np.float32)) for bound in (low, high)]
    return op.fake_quantize(source, *bounds, *bounds, levels)


def rounded_by_hand(source: Any, low: Any, high: Any, *, levels: int = LEVELS) -> Node:
    """What OpenVINO does not recognise as rounding, and so calculates as it is written."""
    least, most = (op.constant(np.asarray(bound, np.float32)) for bound in (low, high))
    step = op.constant((np.asarray(high, np.float32) - np.asarray(low, np.float32)) / (levels - 1))
    within = op.maximum(op.minimum(source, most), least)
    level = op.round(op.divide(op.subtract(within, least), step), "half_to_even")
    return op.add(op.multiply(level, step), least)
