"""Networks that see a clip as one picture of three dimensions, in named parts between which it may be divided.

Tensor names are those of the published files: pytorchvideo's for `slow_r50` and `i3d_r50`, torchvision's for the
others. Knows nothing of views or of what happens between the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

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

    def forward(self, maps: Tensor) -> Tensor:
        if self.window is not None:
            sides = [min(side, room) for side, room in zip(self.window, maps.shape[2:], strict=True)]
            maps = F.avg_pool3d(maps, sides, stride=1)
        return maps.mean(dim=(2, 3, 4))


class ClipNet(nn.Module):
    """(b, 3, t, h, w) → maps (b, channels, t', h', w') → vectors (b, channels) → logits (b, classes)."""

    channels: int
    pool: MeanPool

    def parts(self) -> dict[str, Sequence[nn.Module]]:
        """What a clip passes, in this order."""
        raise NotImplementedError

    def answer(self, vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, clips: Tensor) -> Tensor:
        return self._through(clips, list(self.parts()))

    def head(self, clips: Tensor, last: str) -> Tensor:
        """As far as the part of that name."""
        return self._through(clips, self._names(last)[0])

    def tail(self, maps: Tensor, last: str) -> Tensor:
        """What comes after the part of that name."""
        return self._through(maps, self._names(last)[1])

    def _names(self, last: str) -> tuple[list[str], list[str]]:
        names = list(self.parts())
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
    padding = tuple(side // 2 for side in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
