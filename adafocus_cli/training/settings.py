"""What a run was asked for: the settings that decide its curve, and the resources that do not.

Knows nothing of models or files; a run is continued with the settings that it was begun with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from adafocus_cli.errors import UsageError
from adafocus_cli.training.recipes import RECIPES, Optimizer, Recipe, Stage

SCRATCH, IMAGENET = "scratch", "imagenet"
"""What `init` may say in place of a model."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Named as the options are; None leaves a choice to the recipe."""

    # Labelled clips.
    data: str
    val: str | None = None
    val_share: float = 0.2
    root: str | None = None
    labels: str | None = None
    clips_per_epoch: int = 4096
    val_clips: int = 512
    flip: bool = True

    # The model.
    recipe: str = "v2-tsm"
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
    """They decide the order of sums on a processor, and so the last bits."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Those among the values."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def agreed(self, asked: Mapping[str, Any], folder: object) -> Settings:
        """Itself, unless it is asked for something else."""
        for name, value in asdict(self).items():
            if name in asked and asked[name] != value:
                option = name.upper() if name == "data" else f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"the run in {folder} was begun with {_said(option, value)}, not {asked[name]}; leave it out to "
                    "go on, or begin another run with -o"
                )
        return self

    @property
    def the_recipe(self) -> Recipe:
        if self.recipe not in RECIPES:
            raise UsageError(f"no recipe {self.recipe!r}; there are {', '.join(RECIPES)}")
        return RECIPES[self.recipe]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that take any time, one at least."""
        stages = self.the_recipe.stages(
            epochs=None if self.epochs is None else _counts(self.epochs),
            lr=self.lr,
            policy_lr=self.policy_lr,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
        )
        taken = tuple(stage for stage in stages if stage.epochs)
        if not taken:
            raise UsageError(f"--epochs {self.epochs} leaves nothing to do; give at least one stage an epoch")
        return taken

    def on(self, processes: int) -> Settings:
        if self.batch_size % processes:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be shared by {processes} processes; give a multiple of it"
            )
        return replace(self, processes=processes)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run may use; the clips of an epoch and their order do not depend on it."""

    device: str = "auto"
    workers: int | None = None
    cache_gb: float = 2.0
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    decode_timeout: float = 60.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Resources:
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


def mix(*parts: object) -> int:
    """A seed that differs wherever any part does.

    >>> mix("order", 0, 1) == mix("order", 0, 1), mix("order", 0, 1) == mix("order", 1, 0)
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise UsageError(f"--epochs {text} is no number of epochs; give one for each stage, such as 50 or 50,50,10")
    return counts


def _said(option: str, value: object) -> str:
    return f"no {option}" if value is None else f"{option} {value}"
