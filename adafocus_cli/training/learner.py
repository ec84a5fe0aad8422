"""What a stage of a training minimises, as a module: a model, and what only training needs.

A learner knows nothing of epochs, devices or files; the loop knows nothing of losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from adafocus_cli.models.base import Family
from adafocus_cli.training.forward_pass import Draws, answers

Part = Literal["policy", "glance", "focus", "answers"]
"""A part of a model that may have a learning rate of its own."""


@dataclass(frozen=True)
class StepResult:
    """What a step gives: the `loss` to be minimised, the final `logits` (b, classes), and its terms and more to log."""

    loss: Tensor
    logits: Tensor
    measures: Mapping[str, Tensor]


class Learner(nn.Module, ABC):
    def __init__(self, model: Family) -> None:
        super().__init__()
        self.model = model
        self.draws = Draws()

    @abstractmethod
    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        """A step on uint8 frames (b, n, s, s, 3) in the order of the model's plan."""

    @abstractmethod
    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        """What learns; the rest is frozen."""

    def answers(self, frames: Tensor) -> Tensor:
        """What is validated: logits (b, answers, classes), in evaluation mode and always the same."""
        return answers(self.model, frames)

    def groups(self) -> dict[Part, tuple[nn.Parameter, ...]]:
        """The parameters that learn, by the part whose rate they have."""
        groups = {
            name: tuple(parameter for part in parts for parameter in part.parameters() if parameter.requires_grad)
            for name, parts in self.parts().items()
        }
        return {name: parameters for name, parameters in groups.items() if parameters}

    def train(self, mode: bool = True) -> Learner:
        """Frozen parts stay in evaluation mode: no dropout, and batch norms with their running averages."""
        super().train(mode)
        if mode:
            for part in self.model.children():
                parameters = list(part.parameters())
                part.train(not parameters or any(parameter.requires_grad for parameter in parameters))
        return self

    def freeze_the_rest(self) -> None:
        """All but the parts that learn."""
        self.requires_grad_(False)
        for parts in self.parts().values():
            for part in parts:
                part.requires_grad_(True)


def policies_of(model: Family) -> list[nn.Module]:
    return [part for name, part in model.named_children() if name.endswith("policy")]


def answering_parts(model: Family) -> list[nn.Module]:
    """What turns features into answers: all but the two networks and the policies."""
    others = (model.glance_net, model.focus_net, *policies_of(model))
    return [part for part in model.children() if not any(part is other for other in others)]


def new_head(channels: int, classes: int, *, std: float | None = None) -> nn.Linear:
    """A linear layer that begins as torch's do or, as published for networks on TSM, near zero."""
    head = nn.Linear(channels, classes)
    if std is not None:
        nn.init.normal_(head.weight, std=std)
        nn.init.zeros_(head.bias)
    return head


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over all answers: logits (b, classes) or (b, answers, classes), targets (b)."""
    answers = logits if logits.ndim == 3 else logits[:, None]
    return F.cross_entropy(answers.flatten(0, 1), targets.repeat_interleave(answers.shape[1]))


def of_all_processes(values: Tensor) -> Tensor:
    """Those of every process, in one row; each has as many."""
    if not distributed.is_initialized():
        return values.flatten()
    shares = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shares, values.contiguous())
    return torch.stack(shares).flatten()
