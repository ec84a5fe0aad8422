"""Recipes: what is trained in which order and how fast; and the settings of a run, which name one.

The rates suit networks that start from ImageNet weights, as the papers' do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.training.dense import FineTuning
from adafocus_cli.training.learner import Learner, Rates
from adafocus_cli.training.sfc import CompressionLearner
from adafocus_cli.training.v1 import AnswersOnly, PolicyByReward, Together, WarmUp
from adafocus_cli.training.v2 import EndToEnd, ThroughFeatures

Optimizer = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A learner, its number of epochs, and its learning rate, which falls along half a cosine unless `constant`."""

    name: str
    learner: Callable[..., Learner]
    epochs: int
    lr: float
    rates: Rates | None = None
    """Those of its parts, if they differ."""
    optimizer: Optimizer = "sgd"
    weight_decay: float = 1e-4
    constant: bool = False
    by_reward: bool = False
    """It maximises a reward; --lr, --optimizer and --weight-decay leave it alone."""

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
    """As published, except in our own recipes."""
    dropout: float
    flips: bool
    """Whether a mirrored clip has the same class."""

    def stages(
        self,
        *,
        epochs: Sequence[int] | None = None,
        lr: float | None = None,
        policy_lr: float | None = None,
        optimizer: Optimizer | None = None,
        weight_decay: float | None = None,
    ) -> tuple[Stage, ...]:
        """The usual stages, changed by the given values; `epochs` has one number for each stage."""
        if epochs is not None and len(epochs) != len(self.usual):
            counts = ",".join(str(stage.epochs) for stage in self.usual)
            raise UsageError(
                f"--epochs has {len(epochs)} numbers, but recipe {self.name} has {len(self.usual)} stages "
                f"({', '.join(stage.name for stage in self.usual)}); the default is --epochs {counts}"
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
        Stage(name="answers", learner=AnswersOnly, epochs=10, lr=lr, weight_decay=weight_decay),
    )


def _together(lr: float, weight_decay: float) -> tuple[Stage, ...]:
    """Ours: as V1, but after the warm-up the networks go on learning together with the policy, at its points."""
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
    """Ours: the paper does not say how it was trained."""
    return (Stage(name="compression", learner=CompressionLearner, epochs=10, lr=lr, optimizer="adamw"),)


def _fine_tune(lr: float) -> tuple[Stage, ...]:
    """Ours, for a few hundred clips; the papers train with hundreds of thousands."""
    return (Stage(name="fine-tuning", learner=FineTuning, epochs=20, lr=lr, optimizer="adamw", weight_decay=0.01),)


def _one_stage(lr: float, weight_decay: float, rates: Rates, learner: type[EndToEnd] = EndToEnd) -> tuple[Stage, ...]:
    return (Stage(name="end to end", learner=learner, rates=rates, epochs=50, lr=lr, weight_decay=weight_decay),)


DENSE = "dense"
"""The recipe for networks over whole clips."""
QUICK = "quick"
"""The recipe without epochs (`training/quick.py`)."""
AUTO = "auto"
"""As `recipe`: the quick one, unless what is asked for or there is suits a published one better."""

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
        Recipe(name=DENSE, family="", usual=_fine_tune(lr=0.001), dropout=0.5, flips=True),  # of any family of them
        Recipe(name=QUICK, family="taught", usual=(), dropout=0.0, flips=True),
    )
}


SCRATCH, IMAGENET = "scratch", "imagenet"
"""Values of `init` that are not a model."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Options that decide the curve of a run, named as on the command line; None: the recipe decides."""

    # Labelled clips.
    data: str
    val: str | None = None
    val_share: float = 0.2
    root: str | None = None
    labels: str | None = None
    clips_per_epoch: int = 4096
    val_clips: int = 512
    flip: bool = True
    folds: int | None = None
    group: str | None = None

    # The model.
    recipe: str = AUTO
    init: str = "imagenet"
    glance_weights: str | None = None
    focus_weights: str | None = None
    glance: str | None = None
    focus: str | None = None
    frames: int | None = None
    focus_frames: int | None = None
    frame_size: int | None = None
    policy_channels: int | None = None
    policy_width: int | None = None
    classifier_width: int | None = None
    insertion: str | None = None
    compression: float | None = None
    freeze: str | None = None

    # How it learns.
    epochs: str | None = None
    lr: float | None = None
    policy_lr: float | None = None
    optimizer: Optimizer | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    batch_size: int = 32
    accumulate: int = 1
    precision: str = "auto"
    seed: int = 0
    processes: int = 1
    threads: int | None = None
    """They decide the order of summation on a processor, and so the last bits."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """The settings among the values."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def check_unchanged(self, asked: Mapping[str, Any], folder: object) -> None:
        """Raises if a resumed run is asked for other settings."""
        for name, value in asdict(self).items():
            if name in asked and asked[name] != value:
                option = name.upper() if name == "data" else f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"the run in {folder} was started with {_option_text(option, value)}, not {asked[name]}; leave it "
                    "out to resume the run, or start another one with -o"
                )

    def check_options(self) -> None:
        """Raises where an option does not belong to the recipe."""
        if self.recipe != QUICK and self.folds is not None:
            raise UsageError(
                f"--folds is for recipe quick, not {self.recipe}; leave it out, or hold clips out with --val"
            )
        for name in self.of_published_recipes if self.recipe == QUICK else ():
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not apply to recipe quick, whose networks do not change; leave it out")

    @property
    def of_published_recipes(self) -> tuple[str, ...]:
        """The options that were given and that only recipes with epochs have."""
        return tuple(f.name for f in fields(self) if f.name in _WITH_EPOCHS and getattr(self, f.name) != f.default)

    @property
    def the_recipe(self) -> Recipe:
        if self.recipe not in RECIPES:
            raise UsageError(f"there is no recipe {self.recipe!r}; choose one of {', '.join(RECIPES)}")
        return RECIPES[self.recipe]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those with at least one epoch; never empty."""
        stages = self.the_recipe.stages(
            epochs=None if self.epochs is None else _counts(self.epochs),
            lr=self.lr,
            policy_lr=self.policy_lr,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
        )
        taken = tuple(stage for stage in stages if stage.epochs)
        if self.freeze is not None:
            taken = tuple(replace(stage, learner=partial(stage.learner, freeze=self.freeze)) for stage in taken)
        if not taken:
            raise UsageError(f"--epochs {self.epochs} trains nothing; give at least one stage an epoch")
        return taken

    def on(self, processes: int) -> TrainingSettings:
        if self.batch_size % processes:
            raise UsageError(
                f"--batch-size {self.batch_size} is not a multiple of the {processes} processes; give one that is"
            )
        return replace(self, processes=processes)


_WITH_EPOCHS = (
    *(
        "val_share",
        "init",
        "glance_weights",
        "focus_weights",
        "glance",
        "focus",
        "frames",
        "focus_frames",
        "frame_size",
    ),
    *("policy_channels", "policy_width", "classifier_width", "insertion", "compression", "freeze"),
    *("epochs", "lr", "policy_lr", "optimizer", "weight_decay", "dropout", "batch_size", "accumulate", "precision"),
)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Options that do not change the curve of a run."""

    device: str = "auto"
    memory: float | None = None
    """In GB."""
    workers: int | None = None
    cache_gb: float = 2.0
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    decode_timeout: float = 60.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Resources:
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise UsageError(f"--epochs {text} is not a list of numbers; give one for each stage, such as 50 or 50,50,10")
    return counts


def _option_text(option: str, value: object) -> str:
    return f"no {option}" if value is None else f"{option} {value}"
