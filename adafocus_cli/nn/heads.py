"""The networks that answer: from the features of glances and looks to class logits.

They know nothing of where the features came from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adafocus_cli.nn.policies import recur


def pooled(maps: Tensor) -> Tensor:
    """Feature maps (…, c, h, w) → vectors (…, c)."""
    return maps.mean(dim=(-2, -1))


class RecurrentClassifier(nn.Module):
    """A memory over the steps, and an answer after each of them."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, width, batch_first=True)
        self.fc = nn.Linear(width, classes)

    def states(self, features: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (b, t, c) and the memory (b, width) → what `fc` answers from (b, t, width), and the memory."""
        return recur(self.gru, features, hidden)


class Vector(nn.Module):
    """What features say of a step: one wide layer, to be compared over steps by their maximum."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))

    def forward(self, features: Tensor) -> Tensor:
        """Features (b, t, c) → (b, t, width)."""
        vectors: Tensor = self.layers(features.flatten(0, 1))
        return vectors.view(*features.shape[:2], -1)


class StepClassifiers(nn.ModuleList):
    """One linear layer for each step."""

    def __init__(self, steps: int, width: int, classes: int) -> None:
        super().__init__(nn.Linear(width, classes) for _ in range(steps))

    def forward(self, vectors: Tensor, steps: range) -> Tensor:
        """The vectors of these steps (b, t, width) → logits (b, t, classes)."""
        return torch.stack([self[step](vectors[:, i]) for i, step in enumerate(steps)], dim=1)


def running_maximum(vectors: Tensor, before: Tensor | None) -> Tensor:
    """The maximum of all steps so far: (b, t, width) and that of earlier turns (b, width) → (b, t, width)."""
    if before is not None:
        vectors = torch.cat((before[:, None], vectors), dim=1)
    best = vectors.cummax(dim=1).values
    return best if before is None else best[:, 1:]
