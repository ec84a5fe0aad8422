"""S3D (Xie et al., ECCV 2018): Inception over clips, its convolutions in space and in time apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from adafocus_cli.nn.backbones import divisible
from adafocus_cli.nn.clip_nets import ClipNet, Joined, MeanPool, Sides, convolution


def _unit(inputs: int, outputs: int, kernel: Sides, stride: Sides = (1, 1, 1)) -> nn.Sequential:
    norm = nn.BatchNorm3d(outputs, eps=1e-3, momentum=1e-3)
    return nn.Sequential(convolution(inputs, outputs, kernel, stride), norm, nn.ReLU(inplace=True))


def _separable(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _unit(inputs, outputs, (1, side, side), (1, stride, stride)),
        _unit(outputs, outputs, (side, 1, 1), (stride, 1, 1)),
    )


class _Inception(nn.Module):
    """`widths` are those of the four branches, of those that have two layers both."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        plain, narrow, wide, slim, thin, pooled = widths
        self.branch0 = _unit(inputs, plain, (1, 1, 1))
        self.branch1 = nn.Sequential(_unit(inputs, narrow, (1, 1, 1)), _separable(narrow, wide, 3))
        self.branch2 = nn.Sequential(_unit(inputs, slim, (1, 1, 1)), _separable(slim, thin, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _unit(inputs, pooled, (1, 1, 1)))
        self.joined = Joined()

    def forward(self, maps: Tensor) -> Tensor:
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        joined: Tensor = self.joined([branch(maps) for branch in branches])
        return joined


_MIXED = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


class S3D(ClipNet):
    def __init__(self, *, width: float, classes: int) -> None:
        super().__init__()
        first, second = divisible(64 * width), divisible(192 * width)
        mixed, joined, inputs = [], list[int](), second
        for usual in _MIXED:
            widths: Any = tuple(divisible(count * width) for count in usual)
            mixed.append(_Inception(inputs, widths))
            inputs = sum(widths[place] for place in (0, 2, 4, 5))
            joined.append(inputs)
        self.widths = {"stem": first, "res2": second, "res3": joined[1], "res4": joined[6], "res5": joined[8]}
        self.halvings = frozenset(("stem", "res3", "res4"))
        self.features = nn.Sequential(
            _separable(3, first, 7, 2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            _unit(first, first, (1, 1, 1)),
            _separable(first, second, 3),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *mixed[:2],
            nn.MaxPool3d(3, 2, 1),
            *mixed[2:7],
            nn.MaxPool3d(2, 2),
            *mixed[7:],
        )
        self.pool = MeanPool((2, 7, 7))
        self.classifier = nn.Sequential(nn.Identity(), nn.Conv3d(self.channels, classes, 1))

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        layers = list(self.features)
        return {"stem": layers[:2], "res2": layers[2:5], "res3": layers[5:8], "res4": layers[8:14], "res5": layers[14:]}

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.classifier(vectors[..., None, None, None])
        return logits.flatten(1)
