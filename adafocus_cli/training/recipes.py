"""What is trained in which order, and how fast: the published recipes and two of our own, by name.

The rates suit networks that begin with ImageNet weights, as the papers' do; others can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.training.compress import Compress
from adafocus_cli.training.learner import Learner, Rates
from adafocus_cli.training.v1 import Answers, PolicyByReward, Together, WarmUp
from adafocus_cli.training.v2 import EndToEnd, ThroughFeatures

Optimizer = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A learner for so many epochs; its rate falls along half a cosine unless it is `constant`."""

    name: str
    learner: Callable[..., Learner]
    epochs: int
    lr: float
    rates: Rates | None = None
    """Those of its parts, where they are not all the same."""
    optimizer: Optimizer = "sgd"
    weight_decay: float = 1e-4
    constant: bool = False
    by_reward: bool = False
    """What it minimises is no error; its rate and optimizer are not the others'."""

    def learner_of(self, model: Family) -> Learner:
        return self.learner(model) if self.rates is None else self.learner(model, self.rates)

    def with_policy_lr(self, lr: float) -> Stage:
        if self.rates is not None and self.lr:
            return replace(self, rates=replace(self.rates, policy=lr / self.lr))
        return replace(self, lr=lr) if self.by_reward else self


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    family: str
    usual: tuple[Stage, ...]
    """As published, but for our own recipes."""
    dropout: float
    flips: bool
    """Whether a mirrored clip still shows the same."""

    def stages(
        self,
        *,
        epochs: Sequence[int] | None = None,
        lr: float | None = None,
        policy_lr: float | None = None,
        optimizer: Optimizer | None = None,
        weight_decay: float | None = None,
    ) -> tuple[Stage, ...]:
        """The usual stages, with other numbers where they are given; `epochs` has one for each stage."""
        if epochs is not None and len(epochs) != len(self.usual):
            counts = ",".join(str(stage.epochs) for stage in self.usual)
            raise UsageError(
                f"{len(epochs)} numbers of epochs were given, but recipe {self.name} has {len(self.usual)} stages "
                f"({', '.join(stage.name for stage in self.usual)}); usual is --epochs {counts}"
            )
        chosen = [stage.epochs for stage in self.usual] if epochs is None else epochs
        given = {"lr": lr, "optimizer": optimizer, "weight_decay": weight_decay}
        changes = {name: value for name, value in given.items() if value is not None}
        stages = [
            replace(stage, epochs=count, **({} if stage.by_reward else changes))  # type: ignore[arg-type]
            for stage, count in zip(self.usual, chosen, strict=True)
        ]
        return tuple(stages if policy_lr is None else [stage.with_policy_lr(policy_lr) for stage in stages])


def _three_stages(lr: float, weight_decay: float) -> tuple[Stage, ...]:
    return (
        Stage(name="warm-up", learner=WarmUp, epochs=50, lr=lr, weight_decay=weight_decay),
        Stage(
            name="policy",
            learner=PolicyByReward,
            epochs=50,
            lr=3e-4,
            optimizer="adam",
            weight_decay=0.0,
            constant=True,
            by_reward=True,
        ),
        Stage(name="answers", learner=Answers, epochs=10, lr=lr, weight_decay=weight_decay),
    )


def _together(lr: float, weight_decay: float) -> tuple[Stage, ...]:
    """Ours: as V1, but once the networks know anything, they learn on with the policy and at its places."""
    rates = Rates(policy=0.5, glance=1.0, answers=1.0)
    return (
        Stage(name="warm-up", learner=WarmUp, epochs=10, lr=lr, optimizer="adamw", weight_decay=weight_decay),
        Stage(
            name="together",
            learner=Together,
            rates=rates,
            epochs=40,
            lr=lr,
            optimizer="adamw",
            weight_decay=weight_decay,
        ),
    )


def _compress(lr: float) -> tuple[Stage, ...]:
    """Ours: the paper does not tell how it was taught."""
    return (Stage(name="compression", learner=Compress, epochs=10, lr=lr, optimizer="adamw"),)


def _one_stage(lr: float, weight_decay: float, rates: Rates, learner: type[EndToEnd] = EndToEnd) -> tuple[Stage, ...]:
    return (Stage(name="end to end", learner=learner, rates=rates, epochs=50, lr=lr, weight_decay=weight_decay),)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="v1",
            family="adafocus-v1",
            usual=_three_stages(lr=0.01, weight_decay=1e-4),
            dropout=0.8,
            flips=True,
        ),
        Recipe(
            name="v1-tsm",
            family="adafocus-v1-tsm",
            usual=_three_stages(lr=0.01, weight_decay=5e-4),
            dropout=0.5,
            flips=False,
        ),
        Recipe(
            name="v1-tsm-together",
            family="adafocus-v1-tsm",
            usual=_together(lr=0.002, weight_decay=0.02),
            dropout=0.0,
            flips=False,
        ),
        Recipe(
            name="v2",
            family="adafocus-v2",
            usual=_one_stage(0.002, 1e-4, Rates(policy=0.1, glance=0.5, answers=5.0)),
            dropout=0.2,
            flips=True,
        ),
        Recipe(
            name="v2-features",
            family="adafocus-v2",
            usual=_one_stage(0.002, 1e-4, Rates(policy=0.1, glance=0.5, answers=5.0), ThroughFeatures),
            dropout=0.2,
            flips=True,
        ),
        Recipe(
            name="v2-tsm",
            family="adafocus-v2-tsm",
            usual=_one_stage(0.01, 5e-4, Rates(policy=0.01, glance=1.0, answers=1.0)),
            dropout=0.5,
            flips=False,
        ),
        Recipe(name="sfc", family="sfc", usual=_compress(lr=0.002), dropout=0.0, flips=False),
    )
}
