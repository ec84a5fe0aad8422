"""Recipes: what is trained in which order and how fast; and the settings of a run, which name one.

The rates suit networks that start from ImageNet weights, as the papers' do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.training.dense import FineTuning
from adafocus_cli.training.learner import Learner, Part
from adafocus_cli.training.sfc import CompressionLearner
from adafocus_cli.training.skip import AnswersWithSkips, SkipByReward
from adafocus_cli.training.uni import Uni, UniTSM, UniX3D
from adafocus_cli.training.v1 import AnswersOnly, NetworksAlone, PolicyByReward, RandomPatches, Together, WarmUp
from adafocus_cli.training.v2 import EndToEnd, EndToEndTSM, ThroughFeatures

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "constant", "steps"]
"""How the rate falls from epoch to epoch: along half a cosine; not at all; to a tenth at 2/5, and again at 4/5."""


Own = float | str | None
_OWN_OPTIONS = {"size_penalty": "recipes uni, uni-tsm and uni-x3d", "looks": "recipe skip", "freeze": "recipe dense"}
"""What only some learners are told, and in which recipes they are."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Learning rates of the parts, as multiples of the stage's rate."""

    policy: float = 1.0
    glance: float = 1.0
    focus: float = 1.0
    answers: float = 1.0

    def of(self, part: Part) -> float:
        return float(getattr(self, part))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A learner, its number of epochs, and how it learns."""

    name: str
    learner: Callable[..., Learner]
    epochs: int
    lr: float
    rates: Rates = Rates()
    optimizer: Optimizer = "sgd"
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    clip: float | None = None
    """The largest norm of all gradients together; None: any."""
    dropout: float = 0.0
    own: Mapping[str, Own] = field(default_factory=dict)
    """What only this learner is told."""
    by_reward: bool = False
    """It maximises a reward; --lr, --optimizer, --weight-decay and --dropout leave it alone."""
    judged_every: int = 1
    """Every so many epochs the validation clips are judged, and the best of these epochs is kept."""
    judged_last: int = 1
    """So many epochs at its end are judged in any case."""

    def judges(self, epoch: int) -> bool:
        """Epochs count from 1."""
        return epoch % self.judged_every == 0 or epoch > self.epochs - self.judged_last

    def learner_of(self, model: Family) -> Learner:
        model.dropout.p = self.dropout
        return self.learner(model, **self.own)

    def rate(self, epoch: int) -> float:
        """In this epoch, from 0."""
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.lr * 0.1 ** (5 * epoch // (2 * self.epochs)) if self.schedule == "steps" else self.lr

    def with_policy_lr(self, lr: float) -> Stage:
        if self.by_reward:
            return replace(self, lr=lr)
        return replace(self, rates=replace(self.rates, policy=lr / self.lr)) if self.lr else self


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    family: str
    usual: tuple[Stage, ...]
    """As published, except in our own recipes."""
    flips: bool
    """Whether a mirrored clip has the same class."""
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What was published for which data set, and what of the stages was different there."""

    def stages(
        self,
        *,
        like: str | None = None,
        epochs: Sequence[int] | None = None,
        policy_lr: float | None = None,
        rates: Mapping[str, float] | None = None,
        own: Mapping[str, Own] = MappingProxyType({}),
        **given: Any,
    ) -> tuple[Stage, ...]:
        """The usual stages, or those of a data set, changed by the given values; `epochs` has one number for each."""
        usual = self._of_dataset(like)
        if epochs is not None and len(epochs) != len(usual):
            counts = ",".join(str(stage.epochs) for stage in usual)
            raise UsageError(
                f"--epochs has {len(epochs)} numbers, but recipe {self.name} has {len(usual)} stages "
                f"({', '.join(stage.name for stage in usual)}); the default is --epochs {counts}"
            )
        chosen = [stage.epochs for stage in usual] if epochs is None else epochs
        changes = {name: value for name, value in given.items() if value is not None}
        stages = [
            replace(stage, epochs=count, **({} if stage.by_reward else changes))
            for stage, count in zip(usual, chosen, strict=True)
        ]
        if rates:
            stages = [replace(stage, rates=replace(stage.rates, **rates)) for stage in stages]
        for name in (name for name, value in own.items() if value is not None):
            if not any(name in stage.own for stage in stages):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} is for {_OWN_OPTIONS[name]}, not {self.name}; leave it out")
            stages = [
                replace(stage, own={**stage.own, name: own[name]}) if name in stage.own else stage for stage in stages
            ]
        return tuple(stages if policy_lr is None else [stage.with_policy_lr(policy_lr) for stage in stages])

    def _of_dataset(self, name: str | None) -> tuple[Stage, ...]:
        if name is None:
            return self.usual
        if name not in self.datasets:
            known = f"give one of {', '.join(self.datasets)}" if self.datasets else "leave it out"
            raise UsageError(f"recipe {self.name} has no numbers of its own for --like {name}; {known}")
        changes = dict(self.datasets[name])
        own = changes.pop("own", {})
        return tuple(replace(stage, **changes, own={**stage.own, **own}) for stage in self.usual)


_REWARD = Stage(
    name="policy",
    learner=PolicyByReward,
    epochs=50,
    lr=3e-4,
    optimizer="adam",
    weight_decay=0.0,
    schedule="constant",
    by_reward=True,
)
_V1 = tuple(
    replace(stage, judged_every=5)
    for stage in (
        Stage(name="networks", learner=NetworksAlone, epochs=15, lr=0.01, dropout=0.2),
        Stage(name="warm-up", learner=RandomPatches, epochs=50, lr=0.05, rates=Rates(focus=0.01), dropout=0.8),
        _REWARD,
        Stage(name="answers", learner=AnswersOnly, epochs=10, lr=0.005, dropout=0.8),
    )
)
# The rates of the last stages are those that were meant: the released scripts give them to one convolution.
_V1_TSM = (
    Stage(
        name="networks",
        learner=NetworksAlone,
        epochs=50,
        lr=0.01,
        weight_decay=5e-4,
        schedule="steps",
        clip=20.0,
        dropout=0.5,
    ),
    Stage(name="warm-up", learner=RandomPatches, epochs=10, lr=0.01, rates=Rates(focus=0.001), dropout=0.5),
    _REWARD,
    Stage(name="answers", learner=AnswersOnly, epochs=10, lr=0.0005),
)
_V2 = Stage(
    name="end to end",
    learner=EndToEnd,
    epochs=50,
    lr=0.002,
    rates=Rates(policy=0.1, glance=0.5, answers=5.0),
    dropout=0.2,
    judged_every=5,
    judged_last=10,
)
_V2_TSM = Stage(
    name="end to end",
    learner=EndToEndTSM,
    epochs=50,
    lr=0.01,
    rates=Rates(policy=0.01, glance=0.5),
    weight_decay=5e-4,
    clip=20.0,
    dropout=0.5,
)
_UNI = Stage(
    name="end to end",
    learner=Uni,
    epochs=50,
    lr=0.002,
    rates=Rates(policy=0.2, glance=0.5, answers=20.0),
    weight_decay=2e-4,
    dropout=0.2,
    own={"size_penalty": 1.0, "head_dropout": 0.2},
    judged_every=5,
    judged_last=9,
)
_UNI_TSM = Stage(
    name="end to end",
    learner=UniTSM,
    epochs=50,
    lr=0.02,
    rates=Rates(policy=0.2, glance=0.5),
    weight_decay=1e-3,
    clip=20.0,
    dropout=0.5,
    own={"size_penalty": 0.5},
)
_UNI_X3D = replace(_UNI_TSM, learner=UniX3D, lr=0.005, rates=Rates(policy=0.4, glance=0.5), weight_decay=5e-5)
# Ours: as V1, but after the warm-up the networks go on learning together with the policy, at its points.
_TOGETHER = (
    Stage(name="warm-up", learner=WarmUp, epochs=10, lr=0.002, optimizer="adamw", weight_decay=0.02),
    Stage(
        name="together",
        learner=Together,
        rates=Rates(policy=0.5),
        epochs=40,
        lr=0.002,
        optimizer="adamw",
        weight_decay=0.02,
    ),
)
# Ours: AdaFocus+ was not released.
_SKIP = (
    replace(_REWARD, name="skip", learner=SkipByReward, epochs=10, own={"looks": None}),
    Stage(name="answers", learner=AnswersWithSkips, epochs=10, lr=0.005, dropout=0.5, own={"looks": None}),
)
# Ours: the paper does not say how it was trained.
_SFC = (Stage(name="compression", learner=CompressionLearner, epochs=10, lr=0.002, optimizer="adamw"),)


# Ours, for a few hundred clips; the papers train with hundreds of thousands.
_DENSE = Stage(
    name="fine-tuning",
    learner=FineTuning,
    epochs=20,
    lr=0.001,
    optimizer="adamw",
    weight_decay=0.01,
    dropout=0.5,
    own={"freeze": None},
)


SKIP = "skip"
"""The recipe that gives a model of --init a head that skips frames (`training/skip.py`)."""
DENSE = "dense"
"""The recipe for networks over whole clips."""
QUICK = "quick"
"""The recipe without epochs (`training/quick.py`)."""
AUTO = "auto"
"""As `recipe`: the quick one, unless what is asked for or there is suits a published one better."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="v1", family="adafocus-v1", usual=_V1, flips=True, datasets={"activitynet": {}}),
        Recipe(
            name="v1-tsm",
            family="adafocus-v1-tsm",
            usual=_V1_TSM,
            flips=False,
            datasets={"something-v1": {}, "something-v2": {}},
        ),
        Recipe(name="v1-tsm-together", family="adafocus-v1-tsm", usual=_TOGETHER, flips=False),
        Recipe(
            name="v2",
            family="adafocus-v2",
            usual=(_V2,),
            flips=True,
            datasets={"activitynet": {}, "fcvid": {}, "mini-kinetics": {"lr": 0.003}},
        ),
        Recipe(name="v2-features", family="adafocus-v2", usual=(replace(_V2, learner=ThroughFeatures),), flips=True),
        Recipe(
            name="v2-tsm",
            family="adafocus-v2-tsm",
            usual=(_V2_TSM,),
            flips=False,
            datasets={"something-v1": {}, "something-v2": {}, "jester": {}},
        ),
        Recipe(
            name="uni",
            family="uni-adafocus",
            usual=(_UNI,),
            flips=True,
            datasets={
                "activitynet": {},
                "fcvid": {"lr": 0.004, "weight_decay": 1e-4},
                "mini-kinetics": {
                    "lr": 0.003,
                    "weight_decay": 1e-4,
                    "own": {"size_penalty": 0.75, "head_dropout": 0.1},
                },
            },
        ),
        Recipe(
            name="uni-tsm",
            family="uni-adafocus-tsm",
            usual=(_UNI_TSM,),
            flips=False,
            datasets={
                "something-v1": {},
                "something-v2": {"weight_decay": 5e-4},
                "jester": {"own": {"size_penalty": 0.25}},
            },
        ),
        Recipe(name="uni-x3d", family="uni-adafocus-x3d", usual=(_UNI_X3D,), flips=True, datasets={"kinetics400": {}}),
        Recipe(name=SKIP, family="adafocus-v1", usual=_SKIP, flips=False),
        Recipe(name="sfc", family="sfc", usual=_SFC, flips=False),
        Recipe(name=DENSE, family="", usual=(_DENSE,), flips=True),  # of any family over whole clips
        Recipe(name=QUICK, family="taught", usual=(), flips=True),
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
    tune: bool = False
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
    like: str | None = None
    epochs: str | None = None
    lr: float | None = None
    policy_lr: float | None = None
    rates: str | None = None
    optimizer: Optimizer | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    size_penalty: float | None = None
    looks: float | None = None
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

    def check_options(self, others: Sequence[str] = ()) -> None:
        """Raises where an option does not belong to the recipe; `others` only to those with epochs."""
        if self.recipe != QUICK and self.folds is not None:
            raise UsageError(
                f"--folds is for recipe quick, not {self.recipe}; leave it out, or hold clips out with --val"
            )
        if self.recipe != QUICK and self.tune:
            raise UsageError(f"--tune is for recipe quick, not {self.recipe}, which tunes its networks; leave it out")
        for name in (*self.of_published_recipes, *others) if self.recipe == QUICK else ():
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not apply to recipe quick, which has no epochs; leave it out")

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
            like=self.like,
            epochs=None if self.epochs is None else _counts(self.epochs),
            lr=self.lr,
            policy_lr=self.policy_lr,
            rates=None if self.rates is None else _rates(self.rates),
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            own={name: getattr(self, name) for name in _OWN_OPTIONS},
        )
        taken = tuple(stage for stage in stages if stage.epochs)
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
    *("like", "epochs", "lr", "policy_lr", "rates", "optimizer", "weight_decay", "dropout"),
    *("size_penalty", "looks", "batch_size", "accumulate", "precision"),
)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Options that a resumed run may be given anew; in enough memory they do not change its curve."""

    device: str = "auto"
    memory: float | None = None
    """In GB."""
    workers: int | None = None
    frame_cache: str | None = None
    """A folder; None: one in that of the run, for as long as it lasts."""
    cache_gb: float | None = None
    """None: half of the disk that is free."""
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    decode_timeout: float = 60.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Resources:
        return cls().with_values(values)

    def with_values(self, values: Mapping[str, Any]) -> Resources:
        """With those among the values."""
        return replace(self, **{f.name: values[f.name] for f in fields(self) if f.name in values})


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise UsageError(f"--epochs {text} is not a list of numbers; give one for each stage, such as 50 or 50,50,10")
    return counts


def _rates(text: str) -> dict[str, float]:
    """
    >>> _rates("focus=1,policy=0.1")
    {'focus': 1.0, 'policy': 0.1}
    """
    try:
        rates = {name: float(factor) for name, factor in (part.split("=") for part in text.split(","))}
    except ValueError:
        rates = {"": -1.0}
    if not rates.keys() <= set(get_args(Part)) or not all(0 <= factor < math.inf for factor in rates.values()):
        raise UsageError(
            f"--rates {text} is not a list of PART=FACTOR, as in focus=1,policy=0.1; the parts are "
            f"{', '.join(get_args(Part))}"
        )
    return rates


def _option_text(option: str, value: object) -> str:
    return f"no {option}" if value is None else f"{option} {value}"
