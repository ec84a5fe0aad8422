"""Networks that see a clip as one picture of three dimensions, in named parts between which it may be divided.

Tensor names are those of the published files: pytorchvideo's for `slow_r50` and `i3d_r50`, torchvision's for the
others, of any width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.nn.backbones import divisible
from adafocus_cli.spec import Network

Sides = tuple[int, int, int]
"""Of time, height and width."""


class MeanPool(nn.Module):
    """The mean of the means of all windows of at most these sides: maps (b, c, t, h, w) → (b, c)."""

    def __init__(self, window: Sides | None = None) -> None:
        super().__init__()
        self.window = window

    def __call__(self, maps: Tensor) -> Tensor:
        vectors: Tensor = super().__call__(maps)
        return vectors

    def forward(self, maps: Tensor) -> Tensor:
        if self.window is not None:
            sides = [min(side, room) for side, room in zip(self.window, maps.shape[2:], strict=True)]
            maps = F.avg_pool3d(maps, sides, stride=1)
        return maps.mean(dim=(2, 3, 4))


class Joined(nn.Module):
    """The channels of several maps as those of one."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(maps), dim=1)


class ClipNet(nn.Module):
    """(b, 3, t, h, w) → maps (b, channels, t', h', w') → vectors (b, channels) → logits (b, classes)."""

    widths: Mapping[str, int]
    """The channels that leave each of its parts, in the order of the parts."""
    halvings: frozenset[str] = frozenset()
    """The parts that make the clip half as long."""
    pool: MeanPool

    @property
    def channels(self) -> int:
        return list(self.widths.values())[-1]

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        """What a clip passes, by the names of `widths`."""
        raise NotImplementedError

    def vectors(self, maps: Tensor) -> Tensor:
        """(b, channels)."""
        return self.pool(maps)

    def answer(self, vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, clips: Tensor) -> Tensor:
        maps: Tensor = super().__call__(clips)
        return maps

    def forward(self, clips: Tensor) -> Tensor:
        return self._through(clips, list(self.widths))

    def head(self, clips: Tensor, last: str) -> Tensor:
        """As far as the part of that name."""
        return self._through(clips, self._names(last)[0])

    def tail(self, maps: Tensor, last: str) -> Tensor:
        """What comes after the part of that name."""
        return self._through(maps, self._names(last)[1])

    def length_after(self, last: str, frames: int) -> int:
        """How long the maps of so many frames are after the part of that name."""
        stride = 1 << len(self.halvings.intersection(self._names(last)[0]))
        if frames % stride:
            raise ModelError(
                f"{frames} frames do not fit: the network sees {stride} as one after {last}; "
                f"give a multiple of {stride}"
            )
        return frames // stride

    def _names(self, last: str) -> tuple[list[str], list[str]]:
        names = list(self.widths)
        if last not in names[:-1]:
            raise ModelError(f"{last!r} is not a part of the network; give one of {', '.join(names[:-1])}")
        place = names.index(last) + 1
        return names[:place], names[place:]

    def _through(self, maps: Tensor, names: Sequence[str]) -> Tensor:
        parts = self.parts()
        for name in names:
            for module in parts[name]:
                maps = module(maps)
        return maps


def convolution(inputs: int, outputs: int, kernel: Sides, stride: Sides = (1, 1, 1)) -> nn.Conv3d:
    """Sides stay what they are but for the stride."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)


# pytorchvideo's ResNet-50.


class _Stem(nn.Module):
    def __init__(self, outputs: int, frames: int) -> None:
        super().__init__()
        self.conv = convolution(3, outputs, (frames, 7, 7), (1, 2, 2))
        self.norm = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        maps: Tensor = self.pool(self.relu(self.norm(self.conv(clips))))
        return maps


class _Branch(nn.Module):
    def __init__(self, inputs: int, inner: int, outputs: int, frames: int, stride: int) -> None:
        super().__init__()
        self.conv_a = convolution(inputs, inner, (frames, 1, 1))
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = convolution(inner, inner, (1, 3, 3), (1, stride, stride))
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = convolution(inner, outputs, (1, 1, 1))
        self.norm_c = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.relu(self.norm_a(self.conv_a(maps)))
        maps = self.relu(self.norm_b(self.conv_b(maps)))
        out: Tensor = self.norm_c(self.conv_c(maps))
        return out


class _Bottleneck(nn.Module):
    """The first one of a stage has a projection beside it."""

    def __init__(self, inputs: int, inner: int, outputs: int, frames: int, stride: int) -> None:
        super().__init__()
        self.branch1_conv = self.branch1_norm = None
        if inputs != outputs:
            self.branch1_conv = convolution(inputs, outputs, (1, 1, 1), (1, stride, stride))
            self.branch1_norm = nn.BatchNorm3d(outputs)
        self.branch2 = _Branch(inputs, inner, outputs, frames, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.branch2(maps)
        if self.branch1_conv is not None and self.branch1_norm is not None:
            maps = self.branch1_norm(self.branch1_conv(maps))
        out += maps
        result: Tensor = self.relu(out)
        return result


class _Stage(nn.Module):
    def __init__(self, inputs: int, inner: int, outputs: int, frames: Sequence[int], stride: int) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(
            *(
                _Bottleneck(outputs if i else inputs, inner, outputs, count, 1 if i else stride)
                for i, count in enumerate(frames)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.res_blocks(maps)
        return out


class _Answer(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, classes)


SLOW = ((1,) * 3, (1,) * 4, (3,) * 6, (3,) * 3)
I3D = ((3,) * 3, (3, 1) * 2, (3, 1) * 3, (1, 3, 1))


class ResNet50(ClipNet):
    """With convolutions in time where `frames` says so; after its first stage, `halved`, it keeps every second frame.

    Blocks are numbered as in the files, where pooling in time is one of them.
    """

    def __init__(self, stem: int, frames: Sequence[Sequence[int]], *, halved: bool, width: float, classes: int) -> None:
        super().__init__()
        base = divisible(64 * width)
        blocks: list[nn.Module] = [_Stem(base, stem)]
        inputs = base
        for i, counts in enumerate(frames):
            blocks.append(_Stage(inputs, base << i, base << (i + 2), counts, stride=2 if i else 1))
            inputs = base << (i + 2)
            if halved and i == 0:
                blocks.append(nn.MaxPool3d((2, 1, 1), (2, 1, 1)))
        blocks.append(_Answer(inputs, classes))
        self.widths = {"stem": base, "res2": base * 4, "res3": base * 8, "res4": base * 16, "res5": base * 32}
        self.halvings = frozenset({"res2"} if halved else ())
        self.blocks = nn.ModuleList(blocks)
        self.pool = MeanPool((4 if halved else 8, 7, 7))

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        stem, *first, third, fourth, fifth, _ = self.blocks
        return {"stem": [stem], "res2": first, "res3": [third], "res4": [fourth], "res5": [fifth]}

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.blocks[-1].get_submodule("proj")(vectors)
        return logits


# torchvision's ResNet-18.


def _whole(inputs: int, outputs: int, stride: int) -> nn.Module:
    return convolution(inputs, outputs, (3, 3, 3), (stride, stride, stride))


def _flat(inputs: int, outputs: int, stride: int) -> nn.Module:
    return convolution(inputs, outputs, (1, 3, 3), (1, stride, stride))


class _Apart(nn.Sequential):
    """In space, then in time, with about as many weights as both at once."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int) -> None:
        super().__init__(
            convolution(inputs, inner, (1, 3, 3), (1, stride, stride)),
            nn.BatchNorm3d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, outputs, (3, 1, 1), (stride, 1, 1)),
        )


class _BasicBlock(nn.Module):
    def __init__(self, kind: str, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)  # of both convolutions, as published

        def in_kind(channels: int, step: int) -> nn.Module:
            if kind == "apart":
                return _Apart(channels, outputs, inner, step)
            return (_flat if kind == "flat" else _whole)(channels, outputs, step)

        self.conv1 = nn.Sequential(in_kind(inputs, stride), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(in_kind(outputs, 1), nn.BatchNorm3d(outputs))
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            steps = (1 if kind == "flat" else stride, stride, stride)
            self.downsample = nn.Sequential(convolution(inputs, outputs, (1, 1, 1), steps), nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(maps))
        out += self.downsample(maps)
        result: Tensor = self.relu(out)
        return result


class ResNet18(ClipNet):
    """`kinds` are those of the four stages: whole convolutions, flat ones (without time), or both apart."""

    def __init__(self, kinds: Sequence[str], *, width: float, classes: int) -> None:
        super().__init__()
        base = divisible(64 * width)
        self.widths = {"stem": base, "res2": base, "res3": base * 2, "res4": base * 4, "res5": base * 8}
        if kinds[-1] != "flat":
            self.halvings = frozenset(("res3", "res4", "res5"))
        self.stem = _apart_stem(base, round(45 * width)) if kinds[0] == "apart" else _stem(base)
        self.layer1 = _layer(kinds[0], base, base, 1)
        self.layer2 = _layer(kinds[1], base, base * 2, 2)
        self.layer3 = _layer(kinds[2], base * 2, base * 4, 2)
        self.layer4 = _layer(kinds[3], base * 4, base * 8, 2)
        self.pool = MeanPool()
        self.fc = nn.Linear(self.channels, classes)

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        stages = (self.stem, self.layer1, self.layer2, self.layer3, self.layer4)
        return {name: [stage] for name, stage in zip(self.widths, stages, strict=True)}

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.fc(vectors)
        return logits


def _layer(kind: str, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_BasicBlock(kind, inputs, outputs, stride), _BasicBlock(kind, outputs, outputs, 1))


def _stem(outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution(3, outputs, (3, 7, 7), (1, 2, 2)), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


def _apart_stem(outputs: int, inner: int) -> nn.Sequential:
    return nn.Sequential(
        *(convolution(3, inner, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(inner), nn.ReLU(inplace=True)),
        *(convolution(inner, outputs, (3, 1, 1)), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)),
    )


# S3D (Xie et al., ECCV 2018): Inception over clips, its convolutions in space and in time apart.


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


class S3DNetwork(ClipNet):
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


_KINDS = {"r3d_18": ("whole",) * 4, "mc3_18": ("whole", "flat", "flat", "flat"), "r2plus1d_18": ("apart",) * 4}


def build_clip_net(network: Network, classes: int) -> ClipNet:
    """The network of that kind."""
    arch, width = network.arch, network.width
    if arch in _KINDS:
        return ResNet18(_KINDS[arch], width=width, classes=classes)
    if arch == "slow_r50":
        return ResNet50(1, SLOW, halved=False, width=width, classes=classes)
    if arch == "i3d_r50":
        return ResNet50(5, I3D, halved=True, width=width, classes=classes)
    if arch == "s3d":
        return S3DNetwork(width=width, classes=classes)
    raise ModelError(f"{arch!r} is not a network over clips; give one of slow_r50, i3d_r50, {', '.join(_KINDS)}, s3d")
