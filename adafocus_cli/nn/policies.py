"""The networks that choose where to look, from the glance's feature maps to places in the frame.

A place is (row, col) in 0…1 of where a patch may lie. Knows nothing of pixels or patch sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrameByFrame(nn.Module):
    """With a memory: a state for each frame, from which something is chosen."""

    def __init__(self, channels: int, map_side: int, squeezed: int, width: int, *after: nn.Module) -> None:
        super().__init__()
        self.width = width
        self.encode = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeezed * map_side**2, width),
            *after,
        )
        self.gru = nn.GRU(width, width, batch_first=True)

    def states(self, maps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the choice is made from: (b, t, width), and the memory."""
        return recur(self.gru, self.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1), hidden)


class GridPolicy(FrameByFrame):
    """Chooses one point of a grid for each frame."""

    def __init__(self, channels: int, map_side: int, squeezed: int, width: int, grid: int) -> None:
        super().__init__(channels, map_side, squeezed, width, nn.ReLU())
        self.grid = grid
        self.actor = nn.Linear(width, grid**2)

    def forward(self, maps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps (b, t, c, h, w) and the memory (b, width) → places (b, t, 2) and the memory after them."""
        states, hidden = self.states(maps, hidden)
        return self.place_of(self.actor(states).argmax(dim=-1)), hidden

    def place_of(self, point: Tensor) -> Tensor:
        """Numbers of points (…) → places (…, 2)."""
        row = torch.div(point, self.grid, rounding_mode="floor")
        return torch.stack((row, point % self.grid), dim=-1).float() / (self.grid - 1)


class SkipHead(FrameByFrame):
    """Says of each frame whether a look is worth taking."""

    def __init__(self, channels: int, map_side: int, squeezed: int = 32, width: int = 256) -> None:
        super().__init__(channels, map_side, squeezed, width)
        self.gain = nn.Linear(width, 1)

    def forward(self, maps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps (b, t, c, h, w) and the memory (b, width) → logits (b, t), above 0 for a look, and the memory."""
        states, hidden = self.states(maps, hidden)
        return self.gain(states).squeeze(-1), hidden


class ClipPolicy(nn.Module):
    """One place for a whole clip, from the maps of all its frames laid over each other."""

    def __init__(self, channels: int, frames: int, map_side: int, squeezed: int, width: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(channels * frames, squeezed, 1, bias=False),
            nn.BatchNorm2d(squeezed),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeezed * map_side**2, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (b, t, c, h, w) → places (b, 2)."""
        place: Tensor = self.actor(self.state(maps)).sigmoid()
        return place

    def state(self, maps: Tensor) -> Tensor:
        """What the choice is made from: (b, width)."""
        states, _ = recur(self.gru, self.encode(maps.flatten(1, 2)).unsqueeze(1), None)
        return states[:, 0]


class StepPolicy(nn.Module):
    """Step by step with a memory: a place of its own, anywhere, for each frame."""

    def __init__(self, channels: int, map_side: int, squeezed: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.BatchNorm2d(squeezed),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(squeezed * map_side**2, width),
            nn.BatchNorm1d(width),
            nn.Tanh(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.fc = nn.Linear(width, 2)

    def forward(self, maps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps (b, t, c, h, w) and the memory (b, width) → places (b, t, 2) and the memory after them."""
        state = self.encoder(maps.flatten(0, 1)).view(*maps.shape[:2], -1)
        state, hidden = recur(self.gru, state, hidden)
        return self.fc(state).sigmoid(), hidden


class FeedForwardClipPolicy(nn.Sequential):
    """One place for a whole clip, without a memory: maps (b, t·c, h, w) → places (b, 2)."""

    def __init__(self, channels: int, frames: int, map_side: int, squeezed: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels * frames, squeezed, 1, bias=False),
            nn.BatchNorm2d(squeezed),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(squeezed * map_side**2, width),
            nn.BatchNorm1d(width),
            nn.Tanh(),
            nn.Linear(width, width // 2),
            nn.BatchNorm1d(width // 2),
            nn.Tanh(),
            nn.Linear(width // 2, 2),
            nn.Sigmoid(),
        )


class SpatialPolicy(nn.Module):
    """A place and a size (row, col, height, width in 0…1), for every frame or, over the whole clip, once."""

    def __init__(self, channels: int, map_side: int, squeezed: int, *, over_frames: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv3d(channels, squeezed, 1, bias=False),
            nn.BatchNorm3d(squeezed),
            nn.ReLU(inplace=True),
            nn.Conv3d(squeezed, squeezed, 3, padding=1, bias=False),
            nn.BatchNorm3d(squeezed),
            nn.ReLU(inplace=True),
            nn.Conv3d(squeezed, squeezed, 3, padding=1, bias=False),
            nn.BatchNorm3d(squeezed),
            nn.ReLU(inplace=True),
            nn.Conv3d(squeezed, 4, (over_frames, map_side, map_side), bias=False),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (b, t, c, h, w) → (b, t, 4), or (b, 1, 4) where it looks over all t frames at once."""
        actions: Tensor = self.encoder(maps.transpose(1, 2))
        return actions.flatten(2).transpose(1, 2)


class TemporalPolicy(nn.Module):
    """How much each glance frame's stretch of the video matters, as shares of one."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.Tconv = nn.Sequential(
            nn.Conv2d(channels, width, (3, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 1, bias=False),
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (b, t, c) → shares (b, t)."""
        weights: Tensor = self.Tconv(vectors.transpose(1, 2).unsqueeze(-1))
        return weights.flatten(1).softmax(dim=-1)


def frames_by_weight(shares: Tensor, wanted: int, candidates: int, within_step: Tensor | None = None) -> Tensor:
    """Chooses `wanted` of `candidates` frames, more where the shares (b, segments) are larger → (b, wanted).

    The shares, each spread evenly over its segment, add up to a curve from 0 to 1; the middles of equal steps up the
    curve give the frames or, in training, other points `within_step` (b, wanted) in 0…1. A frame that comes again moves
    to the next free one, and there must be room left for those that follow.

        1 |            ,--·          shares   .1  .6  .3
          |        ,·´               steps at 1/8, 3/8, 5/8, 7/8
          |     ,·´                  four of twelve frames: 4, 5, 7, 10
        0 |_.·´_____________
    """
    segments = shares.shape[1]
    edges = torch.cat((torch.zeros_like(shares[:, :1]), shares.cumsum(dim=1)), dim=1)
    steps = torch.arange(wanted, device=shares.device, dtype=shares.dtype)
    heights = (steps + (0.5 if within_step is None else within_step)) / wanted
    heights = heights.expand(len(shares), -1).contiguous()
    segment = (torch.searchsorted(edges, heights, right=True) - 1).clamp(0, segments - 1)
    within = (heights - edges.gather(1, segment)) / shares.gather(1, segment)
    chosen = ((segment + within) / segments * candidates).floor().long()
    frames: list[Tensor] = []
    for i in range(wanted):
        frame = chosen[:, i] if i == 0 else torch.maximum(chosen[:, i], frames[-1] + 1)
        frames.append(frame.clamp(0, candidates - wanted + i))
    return torch.stack(frames, dim=1)


def recur(gru: nn.GRU, steps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """A GRU whose memory has the clip as its first dimension: (b, t, in), (b, width) → (b, t, width), (b, width)."""
    out, last = gru(steps, None if hidden is None else hidden.unsqueeze(0))
    return out, last[0]
