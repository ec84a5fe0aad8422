"""Networks that see a clip as one picture of three dimensions, in named parts between which it may be divided.

Tensor names are those of the published files: pytorchvideo's for `slow_r50` and `i3d_r50`, torchvision's for the
others. Knows nothing of views or of what happens between the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError

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
            raise ModelError(f"the network sees {stride} frames as one after {last}, and {frames} is no multiple of it")
        return frames // stride

    def _names(self, last: str) -> tuple[list[str], list[str]]:
        names = list(self.widths)
        if last not in names[:-1]:
            raise ModelError(f"the network has no place after {last!r}; {', '.join(names[:-1])} are its parts")
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
