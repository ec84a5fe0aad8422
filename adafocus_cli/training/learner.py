"""What a stage of a training minimises, as a module: a model, and what only training needs.

A learner knows nothing of epochs, devices or files; the loop knows nothing of losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.models.base import Family


@dataclass(frozen=True)
class StepResult:
    """What a step gives: the `loss` to be minimised, the final `logits` (b, classes), and more measures to log."""

    loss: Tensor
    logits: Tensor
    measures: Mapping[str, Tensor]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at `factor` times the rate of the stage."""

    parameters: tuple[nn.Parameter, ...]
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Learning rates of the parts, as multiples of the stage's rate."""

    policy: float
    glance: float
    answers: float


class Learner(nn.Module, ABC):
    def __init__(self, model: Family) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        """A step on uint8 frames (b, n, s, s, 3) in the order of the model's plan; random numbers are torch's."""

    @abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """The parameters that learn; the rest is frozen."""

    def train(self, mode: bool = True) -> Learner:
        """Frozen parts stay in evaluation mode: no dropout, and batch norms with their running averages."""
        super().train(mode)
        if mode:
            for part in self.model.children():
                part.train(any(parameter.requires_grad for parameter in part.parameters()))
        return self

    def freeze_all_but(self, parts: Iterable[nn.Module]) -> None:
        self.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)


def answering_parts(model: Family) -> list[nn.Module]:
    """What turns features into answers: all but the two networks and the policy."""
    others = (model.glance_net, model.focus_net, model.get_submodule("policy"))
    return [part for part in model.children() if not any(part is other for other in others)]


def parameters_of(*parts: nn.Module) -> tuple[nn.Parameter, ...]:
    return tuple(parameter for part in parts for parameter in part.parameters() if parameter.requires_grad)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over all answers: logits (b, classes) or (b, answers, classes), targets (b)."""
    answers = logits if logits.ndim == 3 else logits[:, None]
    return F.cross_entropy(answers.flatten(0, 1), targets.repeat_interleave(answers.shape[1]))
