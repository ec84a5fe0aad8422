"""From the features of a long clip to those of a short one: what happens, without what stays the same.

A frame is a token: a few channels (the abstraction), each the highest in some cells of the frame, less what is usual
in the clip. Queries are the highest values over time, in the order of time; keys are all tokens; what is kept is a
weighted mean of whole frames' features, which nothing projects, so that a network that knows such features goes on
with them. Knows nothing of networks or frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 4  # along either side
_SHARPNESS = 16.0  # at first


def highest(values: Tensor, kept: int) -> Tensor:
    """The `kept` highest values over time, of every place by itself, in the order of time: (b, t, …) → (b, kept, …).

    >>> highest(torch.tensor([[3.0, 9.0, 1.0, 5.0]]), 2).tolist()
    [[9.0, 5.0]]
    """
    places = values.topk(kept, dim=1).indices.sort(dim=1).values
    return values.gather(1, places)


class FeatureCompression(nn.Module):
    """Maps (b, t, c, h, w) → maps (b, kept, c, h, w), and how much of each frame is in them (b, kept, t)."""

    def __init__(self, channels: int, width: int, kept: int) -> None:
        super().__init__()
        self.kept = kept
        self.abstraction = nn.Conv2d(channels, width, 1, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS)))
        if self.sharpness.is_meta:  # there torch would load its compiler for these
            return
        nn.init.orthogonal_(self.abstraction.weight)
        for layer in (self.query, self.key):  # at first, a query finds what it is
            nn.init.eye_(layer.weight)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._tokens(maps)
        usual = tokens.mean(dim=1, keepdim=True)
        queries = self.query(highest(tokens, self.kept) - usual).flatten(2)
        keys = self.key(tokens - usual).flatten(2)
        alike = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(1, 2)
        attention = (alike * self.sharpness.exp()).softmax(dim=-1)
        return (attention @ maps.flatten(2)).view(-1, self.kept, *maps.shape[2:]), attention

    def _tokens(self, maps: Tensor) -> Tensor:
        """(b, t, c, h, w) → (b, t, cells, width)."""
        abstract = self.abstraction(maps.flatten(0, 1))
        cells = F.adaptive_max_pool2d(abstract, (min(CELLS, maps.shape[-2]), min(CELLS, maps.shape[-1])))
        return cells.flatten(2).transpose(1, 2).reshape(*maps.shape[:2], -1, abstract.shape[1])
