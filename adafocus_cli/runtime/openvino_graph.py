"""Backbones as graphs of OpenVINO.

OpenVINO's own converter takes ten seconds for a ResNet, as it has torch trace it. Here the network's own `forward` runs
once with layers that write themselves down instead of computing. Norms must be folded before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openvino
import torch
from openvino import Node, opset1
from openvino import opset13 as op
from torch import Tensor, nn

from adafocus_cli.nn.backbones import SamePaddedConv2d
from adafocus_cli.nn.shift import FOLD, TemporalShift


def make_writing(network: nn.Module) -> None:
    """Its layers write themselves down from now on; tensors are no longer for it."""
    for name, layer in network.named_modules():
        written = _LAYERS.get(type(layer))
        if written is not None:
            vars(layer)["forward"] = partial(written, layer)
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"do not know how to write {type(layer).__name__} ({name}) for OpenVINO; add it")


def graph_of(network: Callable[[Any], Any], shape: tuple[int, ...]) -> openvino.Model:
    """What a network that writes makes of pictures of this very shape."""
    pictures = op.parameter(shape, np.float32)
    return openvino.Model([network(pictures)], [pictures])


def _convolution(layer: Any, maps: Node) -> Node:
    weight = layer.weight
    pads = layer.padding
    how = {"auto_pad": "same_upper"} if isinstance(layer, SamePaddedConv2d) else {}
    if layer.groups > 1:
        grouped = weight.unflatten(0, (layer.groups, -1))
        out = op.group_convolution(maps, _constant(grouped), layer.stride, pads, pads, layer.dilation, **how)
    else:
        out = op.convolution(maps, _constant(weight), layer.stride, pads, pads, layer.dilation, **how)
    return out if layer.bias is None else op.add(out, _constant(layer.bias[:, None, None]))


def _pooling(layer: Any, maps: Node) -> Node:
    stride, pad, kernel = ([size] * 2 for size in (layer.stride, layer.padding, layer.kernel_size))
    return opset1.max_pool(maps, stride, pad, pad, kernel)  # later ones also tell where each maximum was


def _shift(layer: TemporalShift, maps: Node) -> Node:
    """As `TemporalShift` draws it: two eighths of the channels move by a frame, the rest stays."""
    _, channels, height, width = maps.shape
    fold, last = channels // FOLD, layer.frames - 1
    clips = op.reshape(maps, _whole(-1, layer.frames, channels, height, width), special_zero=False)
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


_LAYERS: dict[type[nn.Module], Callable[..., Node]] = {
    nn.Conv2d: _convolution,
    SamePaddedConv2d: _convolution,
    nn.Identity: lambda layer, maps: maps,
    nn.MaxPool2d: _pooling,
    nn.ReLU: lambda layer, maps: op.relu(maps),
    nn.ReLU6: lambda layer, maps: op.clamp(maps, 0.0, 6.0),
    TemporalShift: _shift,
}
