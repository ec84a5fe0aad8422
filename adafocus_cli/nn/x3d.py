"""X3D (Feichtenhofer, CVPR 2020): a ResNet over clips whose 3-D convolutions filter each channel by itself.

Tensor names are those of pytorchvideo's files, of any width. Maps keep the frame rate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.nn.backbones import divisible
from adafocus_cli.nn.clip_networks import ClipNet, MeanPool, Residual, ResidualStage, Sides, convolution
from adafocus_cli.spec import ClipArch, Network

_INNER = 2.25  # channels inside a block, as a multiple of those that leave it


@dataclass(frozen=True)
class Shape:
    """How many blocks each stage has, and the windows over whose means the classifier goes."""

    blocks: tuple[int, int, int, int]
    window: Sides


SHAPES: dict[ClipArch, Shape] = {
    "x3d_s": Shape((3, 5, 11, 7), (13, 5, 5)),
    "x3d_m": Shape((3, 5, 11, 7), (16, 7, 7)),
    "x3d_l": Shape((5, 10, 25, 15), (16, 10, 10)),
}


def shape_of(network: Network) -> Shape:
    (shape,) = (shape for arch, shape in SHAPES.items() if arch == network.arch)
    return shape


def filtering(channels: int, kernel: Sides, stride: int = 1) -> nn.Conv3d:
    """Each channel by itself; sides stay what they are but for the stride in space."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(channels, channels, kernel, (1, stride, stride), padding, groups=channels, bias=False)


class SqueezeExcitation(nn.Module):
    """Every channel times a weight that follows from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels / 16)
        self.mean = nn.AdaptiveAvgPool3d(1)
        self.block = nn.Sequential(
            nn.Conv3d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv3d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, maps: Tensor) -> Tensor:
        weighted: Tensor = maps * self.block(self.mean(maps))
        return weighted


class _Stem(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        # pytorchvideo has the names the wrong way round: `conv_t` is the one in space.
        in_space, in_time = convolution(3, outputs, (1, 3, 3), (1, 2, 2)), filtering(outputs, (5, 1, 1))
        self.conv = nn.Sequential(OrderedDict(conv_t=in_space, conv_xy=in_time))
        self.norm = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, clips: Tensor) -> Tensor:
        maps: Tensor = self.relu(self.norm(self.conv(clips)))
        return maps


class _Branch(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, squeezes: bool) -> None:
        super().__init__()
        inner = int(outputs * _INNER)
        self.conv_a = convolution(inputs, inner, (1, 1, 1))
        self.norm_a = nn.BatchNorm3d(inner)
        self.relu = nn.ReLU(inplace=True)
        self.conv_b = filtering(inner, (3, 3, 3), stride)
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner), SqueezeExcitation(inner) if squeezes else nn.Identity())
        self.swish = nn.SiLU(inplace=True)
        self.conv_c = convolution(inner, outputs, (1, 1, 1))
        self.norm_c = nn.BatchNorm3d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.relu(self.norm_a(self.conv_a(maps)))
        maps = self.swish(self.norm_b(self.conv_b(maps)))
        out: Tensor = self.norm_c(self.conv_c(maps))
        return out


def _block(inputs: int, outputs: int, number: int, *, norm: bool) -> Residual:
    """The first one of a stage halves the sides, and has a projection beside it."""
    stride, projection, its_norm = 1, None, None
    if not number:
        stride = 2
        projection = convolution(inputs, outputs, (1, 1, 1), (1, stride, stride))
        its_norm = nn.BatchNorm3d(outputs) if norm else nn.Identity()
    return Residual(_Branch(inputs, outputs, stride, squeezes=number % 2 == 0), projection, its_norm)


def _stage(inputs: int, outputs: int, blocks: int, *, norm: bool) -> ResidualStage:
    return ResidualStage(_block(outputs if number else inputs, outputs, number, norm=norm) for number in range(blocks))


class WindowMean(nn.Module):
    """The means of all windows of at most these sides: maps (b, c, t, h, w) → (b, c, t', h', w'). None: of it all."""

    def __init__(self, window: Sides | None) -> None:
        super().__init__()
        self.window = window

    def sides(self, maps: Tensor) -> list[int]:
        whole = list(maps.shape[2:])
        return whole if self.window is None else [min(pair) for pair in zip(self.window, whole, strict=True)]

    def forward(self, maps: Tensor) -> Tensor:
        return F.avg_pool3d(maps, self.sides(maps), stride=1)


class _Pool(nn.Module):
    """What begins with `pre_` belongs to the network's last part."""

    def __init__(self, inputs: int, inner: int, outputs: int, window: Sides | None) -> None:
        super().__init__()
        self.pre_conv = convolution(inputs, inner, (1, 1, 1))
        self.pre_norm = nn.BatchNorm3d(inner)
        self.pre_relu = nn.ReLU(inplace=True)
        self.windows = WindowMean(window)
        self.post_conv = convolution(inner, outputs, (1, 1, 1))
        self.relu = nn.ReLU(inplace=True)
        self.mean = MeanPool()

    def forward(self, maps: Tensor) -> Tensor:
        return self.mean(self.relu(self.post_conv(self.windows(maps))))


class _Answer(nn.Module):
    def __init__(self, pool: _Pool, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = pool
        self.proj = nn.Linear(channels, classes)


class X3D(ClipNet):
    """`norms_shortcuts`: whether the projection of the first stage has a norm although no channels are added, as in
    SlowFast's copies. `windows`: whether what answers sees the published windows by themselves, or all at once."""

    def __init__(self, network: Network, classes: int, *, norms_shortcuts: bool = False, windows: bool = True) -> None:
        super().__init__()
        shape, width = shape_of(network), network.width
        widths = [divisible(24 * width), *(divisible(channels * width) for channels in (24, 48, 96, 192))]
        stages = [
            _stage(inputs, outputs, count, norm=norms_shortcuts or inputs != outputs)
            for inputs, outputs, count in zip(widths, widths[1:], shape.blocks, strict=False)
        ]
        inner, self._vector = int(widths[-1] * _INNER), divisible(2048 * width)
        self.widths = dict(zip(("stem", "res2", "res3", "res4", "res5"), (*widths[:-1], inner), strict=True))
        pool = _Pool(widths[-1], inner, self._vector, shape.window if windows else None)
        self.blocks = nn.ModuleList((_Stem(widths[0]), *stages, _Answer(pool, self._vector, classes)))

    @property
    def channels(self) -> int:
        return self._vector

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        stem, second, third, fourth, fifth, _ = self.blocks
        pool = self._pool
        last = [fifth, pool.pre_conv, pool.pre_norm, pool.pre_relu]
        return {"stem": [stem], "res2": [second], "res3": [third], "res4": [fourth], "res5": last}

    def vectors(self, maps: Tensor) -> Tensor:
        out: Tensor = self._pool(maps)
        return out

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.blocks[-1].get_submodule("proj")(vectors)
        return logits

    @property
    def _pool(self) -> _Pool:
        pool = self.blocks[-1].get_submodule("pool")
        assert isinstance(pool, _Pool), "as it was made"
        return pool


def initialise(network: nn.Module) -> None:
    """Before it learns from random weights."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def align_channels(network: X3D, multiple: int) -> None:
    """Adds channels of zeros inside the blocks up to a multiple, so that those who compute as many at once have none
    left over. The network's maps stay the same. Norms must be part of the convolutions before."""
    for branch in network.modules():
        if isinstance(branch, _Branch):
            more = -branch.conv_a.out_channels % multiple
            _add_zeros(branch.conv_a, outputs=more)
            _add_zeros(branch.conv_b, outputs=more)
            branch.conv_b.groups += more
            for part in branch.norm_b:
                if isinstance(part, SqueezeExcitation):
                    into, _, out_of, _ = part.block
                    _add_zeros(into, inputs=more)
                    _add_zeros(out_of, outputs=more)
            _add_zeros(branch.conv_c, inputs=more)


def _add_zeros(layer: nn.Module, *, inputs: int = 0, outputs: int = 0) -> None:
    assert isinstance(layer, nn.Conv3d)
    layer.weight = nn.Parameter(F.pad(layer.weight, (0,) * 6 + (0, inputs, 0, outputs)), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(F.pad(layer.bias, (0, outputs)), requires_grad=False)
    layer.in_channels += inputs
    layer.out_channels += outputs
