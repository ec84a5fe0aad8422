"""A network to which motion is visible: every place is compared with its surroundings in later frames.

How alike two places are is the correlation of their brightness, each first freed of its local mean and contrast, so
that it tells of motion and little of what moves. A small ResNet reads these likenesses, and what the frame looks like.
They are calculated, not learned: a network that must find them by itself needs many times the clips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.nn.backbones import Backbone, BasicBlock, divisible

_REACH = 3  # how far a place is looked for, in pixels of a level
CELL = 8  # one cell of the comparison covers so many pixels each way
# How much smaller a picture is compared, and with the frame how far ahead: what moves fast is found in a smaller one,
# what moves slowly in a later one.
_LEVELS = ((2, 1), (4, 1), (2, 3))
_LOOKS = 32
_CHANGES = (1, 3)  # looks are also compared with those so many frames ahead
_HEADS = 8  # groups of channels, each with an attention of its own
_FAINT = 1e-3  # a place that varies less has nothing to be found by


class MatchingNet(Backbone):
    """Of clips of `over` frames; the sides of pictures are multiples of its stride."""

    stride = 16
    least = 4  # frames
    smooth = True

    def __init__(self, width: float, over: int) -> None:
        super().__init__()
        self.over = over
        inner = divisible(64 * width)
        self.channels = 2 * inner
        self.likeness = nn.ModuleList(Likeness(level, ahead) for level, ahead in _LEVELS)
        self.looks = nn.Sequential(
            _conv_bn_relu(3, _LOOKS // 2), _conv_bn_relu(_LOOKS // 2, _LOOKS), _conv_bn_relu(_LOOKS, _LOOKS)
        )
        seen = len(_LEVELS) * Likeness.channels + (1 + len(_CHANGES)) * _LOOKS
        self.entry = nn.Sequential(nn.Conv2d(seen, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            BasicBlock(inner, inner, 1, over),
            BasicBlock(inner, self.channels, 2, over),
            BasicBlock(self.channels, self.channels, 1, over),
        )
        self.attention = nn.Conv2d(self.channels, _HEADS, 1)
        nn.init.zeros_(self.attention.weight)  # at first, to everything alike

    def forward(self, frames: Tensor) -> Tensor:
        clips = frames.view(-1, self.over, *frames.shape[1:])
        looks = self.looks(frames)
        by_clip = looks.view(*clips.shape[:2], *looks.shape[1:])
        pairs = [by_clip[:, ahead:] - by_clip[:, :-ahead] for ahead in _CHANGES]
        pairs += [part(clips) for part in self.likeness]
        seen = (looks, *(_for_all(pair, self.over).flatten(0, 1) for pair in pairs))
        maps = self.blocks(self.entry(torch.cat(seen, dim=1)))
        return self._attended(maps)

    def _attended(self, maps: Tensor) -> Tensor:
        """Maps of which the plain mean is one that is weighted by where something happens: things are small."""
        count, channels, height, width = maps.shape
        weights = self.attention(maps).float().flatten(2).softmax(dim=-1) * (height * width)
        heads = maps.view(count, _HEADS, channels // _HEADS, height, width)
        attended: Tensor = heads * weights.view(count, _HEADS, 1, height, width)
        return attended.view(maps.shape)


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _for_all(pairs: Tensor, frames: int) -> Tensor:
    """What is known of each frame and a later one (b, pairs, …), for all frames (b, t, …); the last have the last."""
    return torch.cat((pairs, pairs[:, -1:].expand(-1, frames - pairs.shape[1], *pairs.shape[2:])), dim=1)


class Likeness(nn.Module):
    """Clips (b, t, 3, s, s) → how alike each cell of a frame is to its surroundings some frames ahead, about -1…1:
    (b, t - ahead, offsets, s / 8, s / 8)."""

    channels = (2 * _REACH + 1) ** 2

    def __init__(self, level: int, ahead: int = 1) -> None:
        super().__init__()
        self.level, self.ahead = level, ahead
        self.cell = CELL // level

    def forward(self, clips: Tensor) -> Tensor:
        # Differences of brightness are small beside it: half precision would lose them.
        with torch.autocast(clips.device.type, enabled=False):
            light = _local(F.avg_pool2d(clips.float().mean(dim=2), self.level))
            before, after = light[:, : -self.ahead], F.pad(light[:, self.ahead :], (_REACH,) * 4)
            height, width = before.shape[-2:]
            offsets = [(y, x) for y in range(2 * _REACH + 1) for x in range(2 * _REACH + 1)]
            rows, columns = (_cells(side // self.cell, self.cell, light.device) for side in (height, width))
            products = (before * after[..., y : y + height, x : x + width] for y, x in offsets)
            # As products of matrices, these means are a third cheaper than as poolings.
            return torch.stack([rows @ (product @ columns.T) for product in products], dim=2)


def _cells(count: int, cell: int, device: torch.device) -> Tensor:
    """Along one side, what each pixel weighs in the mean of each cell and those beside it: (cells, pixels)."""
    near = torch.ones(count, count, device=device).tril(1).triu(-1)
    return (near / near.sum(dim=1, keepdim=True)).repeat_interleave(cell, dim=1) / cell


def _local(light: Tensor) -> Tensor:
    """Brightness relative to its surroundings, in units of how much it varies there."""
    light = light - _smooth(light, 5)
    return light / (_smooth(light * light, 5) + _FAINT).sqrt()


def _smooth(maps: Tensor, side: int) -> Tensor:
    """The mean of what surrounds each place, within the picture."""
    return F.avg_pool2d(maps, side, 1, side // 2, count_include_pad=False)
