"""ResNets over clips: pytorchvideo's ResNet-50s and torchvision's ResNet-18s, of any width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from adafocus_cli.nn.backbones import divisible
from adafocus_cli.nn.clip_nets import ClipNet, MeanPool, convolution

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
