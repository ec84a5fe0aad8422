"""What a video costs: the multiply-adds of the layers that run, by turn and stage.

Convolutions, linear and recurrent layers count, which is what papers print as FLOPs; biases, norms, activations,
pooling, cropping and decoding do not, as there. The model's own stages run once with layers that count instead of
computing: no weights, no table, and the same numbers on any runtime.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn

from adafocus_cli.models import build
from adafocus_cli.models.base import Memory, Turn
from adafocus_cli.nn.backbones import SamePaddedConv2d, TemporalShift
from adafocus_cli.nn.clip_networks import Joined, MeanPool
from adafocus_cli.nn.compression import CELLS, FeatureCompression
from adafocus_cli.nn.matching import CELL, Likeness
from adafocus_cli.schema import Cost
from adafocus_cli.spec import ModelSpec

STAGES = ("glance", "policy", "focus", "classify")


class CostMeter:
    """The cost of one clip for each turn of a model."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        with torch.device("meta"):
            self._model = build(spec)
        self._count = 0
        self._access = threading.Lock()
        for name, layer in self._model.named_modules():
            self._make_counting(name, layer)
        self._turns: dict[tuple[tuple[Turn, ...], tuple[int, ...]], list[Counter[str]]] = {}

    def of_turns(self, turns: tuple[Turn, ...], frame: tuple[int, ...] | None = None) -> list[Counter[str]]:
        """Multiply-adds by stage for each of these turns, taken one after the other by the same clip.

        `frame` is the shape of its frames, where they have that of their video; None is 16:9.
        """
        key = turns, (frame or self.spec.framing.shape)[:2]
        with self._access:  # loops in several threads ask, and its layers count into one number
            if key not in self._turns:
                self._turns[key] = self._run(*key)
            return self._turns[key]

    def full_frame(self) -> int:
        """What the focus network would cost on whole frames instead of patches."""
        height, width, _ = self.spec.framing.shape
        with self._access:
            self._zeros(self._model.on_whole_frames, self._model.whole_frames, height, width)
            return self._take()

    def whole_clip(self) -> Cost:
        """The cost when nothing is skipped."""
        return as_cost(self.of_turns(self._model.turns()), self.full_frame())

    @torch.inference_mode()
    def _run(self, turns: tuple[Turn, ...], frame: tuple[int, ...]) -> list[Counter[str]]:
        model, spec = self._model, self.spec
        memory: Memory = {}
        seen = torch.empty(0)
        costs = []
        for turn in turns:
            cost: Counter[str] = Counter()
            focused = None
            if turn.glance:
                seen = self._zeros(model.glance, len(turn.glance), *frame)
                cost["glance"] = self._take()
            if turn.looks:
                gaze = model.locate(turn, seen, memory)
                cost["policy"] = self._take()
                if gaze.features is None:
                    focused = self._zeros(model.focus, len(turn.looks), spec.patch_size, spec.patch_size)
                else:
                    focused = torch.zeros(model.focus(gaze.features.byte()).shape)
                cost["focus"] = self._take()
            model.classify(turn, seen, focused, memory)
            cost["classify"] = self._take()
            costs.append(cost)
        return costs

    @staticmethod
    def _zeros(stage: Callable[[Tensor], Tensor], pictures: int, height: int, width: int) -> Tensor:
        """What a stage answers, as zeros: of pictures only the shape counts, so they have a byte a number.

        On torch's device without any memory they would take seconds: most of its operators load a compiler.
        """
        return torch.zeros(stage(torch.empty(1, pictures, 3, height, width, dtype=torch.uint8)).shape)

    def _take(self) -> int:
        count, self._count = self._count, 0
        return count

    def _make_counting(self, name: str, layer: nn.Module) -> None:
        counted = _COUNTED.get(type(layer))
        if counted is not None:

            def forward(*inputs: Tensor) -> Any:
                output, macs = counted(layer, inputs[0])
                self._count += macs
                return output

            vars(layer)["forward"] = forward
        elif isinstance(layer, _FREE):
            vars(layer)["forward"] = _unchanged
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"do not know what {type(layer).__name__} ({name}) costs; add it to the meter")


@lru_cache(maxsize=64)
def meter_of(spec: ModelSpec) -> CostMeter:
    """One for all models of a size, for making it takes as long as loading their weights."""
    return CostMeter(spec)


def cost_of(spec: ModelSpec) -> Cost:
    """The cost of one video when nothing is skipped; needs no weights."""
    return meter_of(spec).whole_clip()


def as_cost(turns: list[Counter[str]], full_frame: int) -> Cost:
    total = sum(turns, Counter())
    return Cost({stage: total[stage] / 1e9 for stage in STAGES}, full_frame / 1e9)


def _convolution(layer: Any, maps: Tensor) -> tuple[Tensor, int]:
    sides = [
        (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for side, pad, dilation, kernel, stride in zip(
            maps.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    return _convolved(layer, maps, sides)


def _same_padded(layer: SamePaddedConv2d, maps: Tensor) -> tuple[Tensor, int]:
    sides = [ceil(side / stride) for side, stride in zip(maps.shape[2:], layer.stride, strict=True)]
    return _convolved(layer, maps, sides)


def _convolved(layer: Any, maps: Tensor, sides: Sequence[int]) -> tuple[Tensor, int]:
    output = maps.new_empty(maps.shape[0], layer.out_channels, *sides)
    return output, output.numel() * layer.in_channels // layer.groups * prod(layer.kernel_size)


def _pooling(layer: Any, maps: Tensor) -> tuple[Tensor, int]:
    given = (
        [value] * (maps.ndim - 2) if isinstance(value, int) else value
        for value in (layer.padding, layer.kernel_size, layer.stride)
    )
    sides = [
        (side + 2 * pad - kernel) // stride + 1
        for side, pad, kernel, stride in zip(maps.shape[2:], *given, strict=True)
    ]
    return maps.new_empty(*maps.shape[:2], *sides), 0


def _mean(layer: MeanPool, maps: Tensor) -> tuple[Tensor, int]:
    return maps.new_zeros(maps.shape[:2]), 0


def _joined(layer: Joined, maps: Sequence[Tensor]) -> tuple[Tensor, int]:
    first = maps[0]
    return first.new_zeros(first.shape[0], sum(part.shape[1] for part in maps), *first.shape[2:]), 0


def _linear(layer: Any, vectors: Tensor) -> tuple[Tensor, int]:
    output = vectors.new_zeros(*vectors.shape[:-1], layer.out_features)
    return output, output.numel() * layer.in_features


def _gru(layer: Any, steps: Tensor) -> tuple[tuple[Tensor, Tensor], int]:
    """Three gates, each from the input and from the memory, at every step."""
    output = steps.new_zeros(*steps.shape[:-1], layer.hidden_size)
    memory = steps.new_zeros(1, len(steps), layer.hidden_size)
    return (output, memory), output.numel() * 3 * (layer.input_size + layer.hidden_size)


def _likeness(layer: Likeness, clips: Tensor) -> tuple[Tensor, int]:
    """A product at every pixel of the level for each offset."""
    batch, frames, _, height, width = clips.shape
    pairs = frames - layer.ahead
    output = clips.new_zeros(batch, pairs, layer.channels, height // CELL, width // CELL)
    return output, batch * pairs * layer.channels * (height // layer.level) * (width // layer.level)


def _compression(layer: FeatureCompression, maps: Tensor) -> tuple[tuple[Tensor, Tensor], int]:
    """The abstraction, a query or key for every cell, all queries with all keys, and the mixture."""
    batch, frames, channels, height, width = maps.shape
    kept, inner = layer.kept, layer.query.in_features
    cells = min(CELLS, height) * min(CELLS, width)
    features, attention = maps.new_zeros(batch, kept, channels, height, width), maps.new_zeros(batch, kept, frames)
    tokens = batch * cells * inner
    macs = maps.numel() * inner + tokens * inner * (frames + kept) + tokens * frames * kept + frames * features.numel()
    return (features, attention), macs


def _unchanged(maps: Tensor) -> Tensor:
    return maps


_COUNTED: dict[type[nn.Module], Callable[[Any, Any], tuple[Any, int]]] = {
    nn.Conv2d: _convolution,
    SamePaddedConv2d: _same_padded,
    nn.Conv3d: _convolution,
    nn.Linear: _linear,
    nn.GRU: _gru,
    nn.MaxPool2d: _pooling,
    nn.MaxPool3d: _pooling,
    MeanPool: _mean,
    Joined: _joined,
    FeatureCompression: _compression,
    Likeness: _likeness,
}
# They cost nothing here and keep the shape.
_FREE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.ReLU, nn.ReLU6, TemporalShift)
