"""Networks that see a clip as one picture of three dimensions, in named parts between which it may be divided.

Tensor names are those of the published files: pytorchvideo's for `slow_r50` and `i3d_r50`, which are written out here
and of any width, torchvision's for the others, which it builds itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.nn.backbones import divisible
from adafocus_cli.spec import ClipArch, Network

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


class Residual(nn.Module):
    """A branch, and what goes past it: a projection with its norm, or the very maps."""

    def __init__(self, branch: nn.Module, projection: nn.Module | None, norm: nn.Module | None) -> None:
        super().__init__()
        self.branch1_conv, self.branch1_norm = projection, norm
        self.branch2 = branch
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.branch2(maps)
        if self.branch1_conv is not None and self.branch1_norm is not None:
            maps = self.branch1_norm(self.branch1_conv(maps))
        out += maps
        result: Tensor = self.relu(out)
        return result


def _bottleneck(inputs: int, inner: int, outputs: int, frames: int, stride: int) -> Residual:
    """The first one of a stage has a projection beside it."""
    projection = norm = None
    if inputs != outputs:
        projection = convolution(inputs, outputs, (1, 1, 1), (1, stride, stride))
        norm = nn.BatchNorm3d(outputs)
    return Residual(_Branch(inputs, inner, outputs, frames, stride), projection, norm)


class ResidualStage(nn.Module):
    def __init__(self, blocks: Iterable[Residual]) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*blocks)

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
            inner, outputs, first_stride = base << i, base << (i + 2), 2 if i else 1
            blocks.append(
                ResidualStage(
                    _bottleneck(outputs if k else inputs, inner, outputs, count, 1 if k else first_stride)
                    for k, count in enumerate(counts)
                )
            )
            inputs = outputs
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


# torchvision's networks, built by it and divided here.


def torchvision_models() -> Any:
    """The module with torchvision's models, which only those who need it import: that takes as long as torch itself."""
    try:
        with warnings.catch_warnings():  # what it says of parts of its own concerns nobody here
            warnings.simplefilter("ignore")
            from torchvision import models
    except Exception as error:  # one that was made for another torch may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"torchvision cannot be loaded beside torch {torch.__version__} ({reason}); "
            "pip install --upgrade torch torchvision"
        ) from error
    return models


class TorchvisionNet(ClipNet):
    """`layers` are torchvision's, under its names; what it does after the last of them is done here, for any length."""

    layers: tuple[str, ...]

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__()
        if network.width != 1:
            raise ModelError(f"torchvision has no {network.arch} of width {network.width:g}; give 1")
        built = torchvision_models().get_model(network.arch, weights=None, num_classes=classes)
        for name in self.layers:
            self.add_module(name, built.get_submodule(name))


class ResNet18(TorchvisionNet):
    layers = ("stem", "layer1", "layer2", "layer3", "layer4", "fc")

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__(network, classes)
        self.widths = {"stem": 64, "res2": 64, "res3": 128, "res4": 256, "res5": 512}
        if network.arch != "mc3_18":  # all of whose strides are in space
            self.halvings = frozenset(("res3", "res4", "res5"))
        self.pool = MeanPool()

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        return {part: [self.get_submodule(layer)] for part, layer in zip(self.widths, self.layers, strict=False)}

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.get_submodule("fc")(vectors)
        return logits


class S3DNetwork(TorchvisionNet):
    layers = ("features", "classifier")

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__(network, classes)
        self.widths = {"stem": 64, "res2": 192, "res3": 480, "res4": 832, "res5": 1024}
        self.halvings = frozenset(("stem", "res3", "res4"))
        self.pool = MeanPool((2, 7, 7))

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        layers = list(self.get_submodule("features").children())
        return {"stem": layers[:2], "res2": layers[2:5], "res3": layers[5:8], "res4": layers[8:14], "res5": layers[14:]}

    def answer(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.get_submodule("classifier.1")(vectors[..., None, None, None])
        return logits.flatten(1)


def build_clip_net(network: Network, classes: int) -> ClipNet:
    """The network of that kind."""
    arch, width = network.arch, network.width
    if arch in ("r3d_18", "mc3_18", "r2plus1d_18"):
        return ResNet18(network, classes)
    if arch == "slow_r50":
        return ResNet50(1, SLOW, halved=False, width=width, classes=classes)
    if arch == "i3d_r50":
        return ResNet50(5, I3D, halved=True, width=width, classes=classes)
    if arch == "s3d":
        return S3DNetwork(network, classes)
    raise ModelError(f"{arch!r} is not a network over clips; give one of {', '.join(get_args(ClipArch))}")
