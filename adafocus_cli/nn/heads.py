"""The networks that answer: from the features of glances and looks to class logits.

They know nothing of where the features came from.
"""

from __future__ import annotations

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

    def forward(self, features: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (b, t, c) and the memory (b, width) → logits (b, t, classes) and the memory after them."""
        state, hidden = recur(self.gru, features, hidden)
        return self.fc(state), hidden
