"""When a clip may be left: thresholds on the answers, a hard cap on the cost, and the turns that both allow.

Knows no clip; the loop asks it after every turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.flops import CostMeter
from adafocus_cli.labels import softmax
from adafocus_cli.models.base import Family, Turn
from adafocus_cli.schema import ModelInfo

FORMAT = "adafocus-exits/1"

# Looks between two exits. Fewer save more of the cost, more keep the hardware busier.
GROUP = 4

Criterion = Literal["logit", "entropy"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
"""What thresholds are compared with: the largest logit, or how little the softmax is spread (−entropy)."""


def certainty(logits: np.ndarray, criterion: Criterion = "logit") -> np.ndarray:
    """How sure answers (…, classes) are, the higher the surer; −inf where an answer is NaN.

    >>> certainty(np.array([[0.0, 2.0], [5.0, 5.0]])).tolist()
    [2.0, 5.0]
    >>> certainty(np.array([[0.0, 2.0], [5.0, 5.0]]), "entropy").round(2).tolist()
    [-0.37, -0.69]
    """
    if criterion == "entropy":
        with np.errstate(invalid="ignore"):
            shares = softmax(logits)
        values = (shares * np.log(np.where(shares == 0, 1, shares))).sum(axis=-1)
    else:
        values = logits.max(axis=-1)
    return np.where(np.isnan(values), -np.inf, values)


@dataclass(frozen=True, kw_only=True)
class ExitRule:
    """Without thresholds or cap nothing is skipped, and the published numbers hold.

    `thresholds` has one number a step: the clip is left after the first step whose `certainty` reaches its number.
    """

    thresholds: tuple[float, ...] | None = None
    criterion: Criterion = "logit"
    max_gmacs: float | None = None
    group: int = GROUP

    @property
    def skips(self) -> bool:
        return self.thresholds is not None or self.max_gmacs is not None

    def first_exit(self, steps: range, logits: np.ndarray) -> int | None:
        """The first of these steps that is good enough, by its logits (steps, classes)."""
        if self.thresholds is None:
            return None
        values = certainty(logits, self.criterion)
        return next((step for step, value in zip(steps, values, strict=True) if value >= self.thresholds[step]), None)


@dataclass(frozen=True)
class Schedule:
    """The turns that a clip takes unless it is left early, what they cost, and how many steps the model has."""

    turns: tuple[Turn, ...]
    meter: CostMeter
    steps: int

    @property
    def costs(self) -> tuple[Counter[str], ...]:
        """Of each turn, by stage, for a usual clip."""
        return tuple(self.meter.of_turns(self.turns))

    def cost(self, turn: int, frame: tuple[int, ...], looks: int | None = None) -> Counter[str]:
        """Of one of the turns, by stage, for a clip whose frames have this shape; of `looks` looks, if not of all."""
        cost = self.meter.of_turns(self.turns, frame)[turn]
        if looks is None:
            return cost
        return Counter({**cost, "focus": cost["focus"] * looks // len(self.turns[turn].looks)})


def schedule(family: Family, meter: CostMeter, rule: ExitRule) -> Schedule:
    """All turns at once where nothing is skipped; else in groups, and only those that fit under the cap."""
    whole = family.turns()
    steps = whole[-1].answers.stop
    if rule.thresholds is not None and len(rule.thresholds) != steps:
        raise ModelError(f"{len(rule.thresholds)} thresholds were given, but {family.name} has {steps} steps: one each")
    if not rule.skips:
        return Schedule(whole, meter, steps)
    turns = family.turns(rule.group)
    priced = list(zip(turns, meter.of_turns(turns), strict=True))
    if rule.max_gmacs is not None:
        priced = _that_fit(family, meter, priced, rule.max_gmacs * 1e9)
    return Schedule(tuple(turn for turn, _ in priced), meter, steps)


def _that_fit(
    family: Family, meter: CostMeter, groups: Sequence[tuple[Turn, Counter[str]]], cap: float
) -> list[tuple[Turn, Counter[str]]]:
    """Whole groups while they fit, then single steps while those do: the last answer under the cap."""
    singles = family.turns(1)
    taken: list[tuple[Turn, Counter[str]]] = []
    spent = 0.0
    for priced in (groups, list(zip(singles, meter.of_turns(singles), strict=True))):
        for turn, cost in priced:
            reached = taken[-1][0].answers.stop if taken else 0
            if turn.answers.start < reached:
                continue
            if turn.answers.start > reached or spent + cost.total() > cap:
                break
            taken.append((turn, cost))
            spent += cost.total()
    if not taken:
        least = meter.of_turns(singles)[0].total() / 1e9
        raise UsageError(
            f"no answer fits under {cap / 1e9:g} GMACs: the first one of this model costs {least:.4g}; "
            f"give --max-gmacs {math.ceil(least * 100) / 100:g} or more"
        )
    return taken


def read_rule(path: Path, model: ModelInfo) -> ExitRule:
    """The rule of an exit file; one that was fitted for another model is refused."""
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read exit file {path}: {error.strerror}; check the path (--exit FILE)") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a day like 2026-99-99
        raise ModelError(f"exit file {path} is not YAML; `adafocus` files begin with 'format: {FORMAT}'") from error
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise ModelError(f"{path} is no exit file; it must begin with 'format: {FORMAT}'")
    _check_model(path, values.get("model"), model)
    thresholds, group = values.get("thresholds"), values.get("group", GROUP)
    if not isinstance(thresholds, list) or not all(map(_is_threshold, thresholds)):
        raise ModelError(f"exit file {path}: `thresholds` must be a list of numbers, one a step (.inf: never leave)")
    if type(group) is not int or group < 1:
        raise ModelError(f"exit file {path}: `group` is {group!r}; it is the number of looks between exits, 1 or more")
    criterion = values.get("criterion", "logit")
    if criterion not in CRITERIA:
        raise ModelError(f"exit file {path}: `criterion` is {criterion!r}; it is one of {', '.join(CRITERIA)}")
    return ExitRule(thresholds=(*map(float, thresholds[:-1]), -math.inf), criterion=criterion, group=group)


def write_thresholds(
    path: Path,
    model: ModelInfo,
    thresholds: Sequence[float],
    *,
    criterion: Criterion = "logit",
    group: int = GROUP,
) -> None:
    """The file that `read_rule` reads."""
    values = {
        "format": FORMAT,
        "model": {
            "name": model.name,
            "family": model.family,
            "sha256": model.identity,
            "patch_size": model.patch_size,
        },
        "group": group,
        "criterion": criterion,
        "thresholds": [float(t) for t in thresholds],
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")


def _is_threshold(value: Any) -> bool:
    """A float, infinite or not, or an integer that fits into one."""
    return (type(value) is float and not math.isnan(value)) or (type(value) is int and abs(value) < 1 << 64)


def _check_model(path: Path, theirs: Any, model: ModelInfo) -> None:
    theirs = theirs if isinstance(theirs, Mapping) else {"name": "no model"}
    if theirs.get("sha256") == model.identity and theirs.get("patch_size") != model.patch_size:
        raise ModelError(
            f"exit file {path} was calibrated with patches of {theirs.get('patch_size')} px, not {model.patch_size}; "
            "use it with that --patch-size, or calibrate anew"
        )
    if theirs.get("sha256") != model.identity:
        whose, sha256 = theirs.get("name", "another model"), theirs.get("sha256")
        raise ModelError(
            f"exit file {path} belongs to {whose} (sha256 {str(sha256)[:12]}…), not to {model.name} "
            f"(sha256 {model.identity[:12]}…); thresholds only fit the weights that they were calibrated on"
        )
