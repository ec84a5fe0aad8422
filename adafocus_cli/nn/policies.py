"""The networks that choose where to look, from the glance's feature maps to places in the frame.

A place is (row, col) in 0…1 of where a patch may lie. Knows nothing of pixels or patch sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GridPolicy(nn.Module):
    """Frame by frame with a memory: chooses one point of a grid for each."""

    def __init__(self, channels: int, map_side: int, squeezed: int, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.encode = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(squeezed * map_side**2, width),
            nn.ReLU(),
        )
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, grid**2)

    def forward(self, maps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps (b, t, c, h, w) and the memory (b, width) → places (b, t, 2) and the memory after them."""
        state = self.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1)
        state, hidden = recur(self.gru, state, hidden)
        action = self.actor(state).argmax(dim=-1)
        row = torch.div(action, self.grid, rounding_mode="floor")
        return torch.stack((row, action % self.grid), dim=-1).to(maps.dtype) / (self.grid - 1), hidden


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
        state, _ = recur(self.gru, self.encode(maps.flatten(1, 2)).unsqueeze(1), None)
        place: Tensor = self.actor(state[:, 0]).sigmoid()
        return place


def recur(gru: nn.GRU, steps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """A GRU whose memory has the clip as its first dimension: (b, t, in), (b, width) → (b, t, width), (b, width)."""
    out, last = gru(steps, None if hidden is None else hidden.unsqueeze(0))
    return out, last[0]
