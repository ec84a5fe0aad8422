"""Large linear layers and GRUs in slices, so that all cores of a processor read their weights.

With the few rows that one video has, such a layer waits for memory, and a plain product of matrices reads on one core.
Each slice is calculated by one core: the same bits, however many there are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLICES = 8
# More than a core's cache holds; smaller ones are no faster for it.
_LARGE = 1 << 19


def slice_large_layers(model: nn.Module) -> None:
    """Replaces them. Those without a bias are left: where there are some, in SFC, they see many rows."""
    for name, layer in model.named_children():
        if isinstance(layer, nn.GRU) and _is_plain(layer) and _is_large(layer.get_parameter("weight_hh_l0")):
            setattr(model, name, SlicedGRU(layer))
        elif isinstance(layer, nn.Linear) and layer.bias is not None and _is_large(layer.weight):
            setattr(model, name, SlicedLinear(layer.weight, layer.bias))
        else:
            slice_large_layers(layer)


def _is_plain(gru: nn.GRU) -> bool:
    return gru.num_layers == 1 and gru.batch_first and gru.bias and not gru.bidirectional


def _is_large(weight: Tensor) -> bool:
    return weight.numel() >= _LARGE and len(weight) % SLICES == 0


class SlicedLinear(nn.Module):
    """As `nn.Linear`. The slices are views of its weights, which stay where they are."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weight.detach().view(SLICES, -1, weight.shape[1]), requires_grad=False)
        self.biases = nn.Parameter(bias.detach().view(SLICES, -1, 1), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(0, -2)
        outs = torch.baddbmm(self.biases, self.weights, flat.mT.expand(SLICES, -1, -1))
        return outs.flatten(0, 1).mT.reshape(*rows.shape[:-1], -1)


class SlicedGRU(nn.Module):
    """As an `nn.GRU` of one layer with `batch_first`."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.inputs = SlicedLinear(gru.get_parameter("weight_ih_l0"), gru.get_parameter("bias_ih_l0"))
        self.hidden = SlicedLinear(gru.get_parameter("weight_hh_l0"), gru.get_parameter("bias_hh_l0"))
        self.width = gru.hidden_size

    def forward(self, steps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        state = steps.new_zeros(len(steps), self.width) if hidden is None else hidden[0]
        states = []
        for given in self.inputs(steps).unbind(1):
            reset, update, new = given.chunk(3, dim=-1)
            by_reset, by_update, by_new = self.hidden(state).chunk(3, dim=-1)
            new = (new + (reset + by_reset).sigmoid() * by_new).tanh()
            state = new + (update + by_update).sigmoid() * (state - new)
            states.append(state)
        return torch.stack(states, dim=1), state[None]
