"""SFC: around a network that stays as it is, only what is between its head and its tail learns."""

from __future__ import annotations

from torch import Tensor, nn

from adafocus_cli.models.base import Family
from adafocus_cli.training.forward_pass import answers
from adafocus_cli.training.learner import Group, Learner, Progress, cross_entropy, parameters_of


class Compress(Learner):
    """Cross-entropy of the answers of the whole."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but([self._module])

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        logits = answers(self.model, frames)[:, -1].float()
        return Progress(cross_entropy(logits, targets), logits, {})

    def groups(self) -> list[Group]:
        return [Group(parameters_of(self._module))]

    @property
    def _module(self) -> nn.Module:
        return self.model.get_submodule("compress")
