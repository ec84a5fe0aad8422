"""Thresholds for a compute budget: fitted on one half of labelled videos, checked on the other.

How many videos are left after which step follows a geometric law, as the papers do it; its ratio is what is fitted.
What a law leaves within a turn is left at the turn's end: all of the turn is paid for either way, and its last answer
knows most. Knows nothing of files, formats or terminals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adafocus_cli.errors import AdaFocusError, ModelError, UsageError
from adafocus_cli.evaluation import metrics
from adafocus_cli.evaluation.calibration_report import Calibration, Choice, Outcome, Point
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.exits import ExitRule, schedule
from adafocus_cli.flops import CostMeter, as_cost
from adafocus_cli.models.base import Family
from adafocus_cli.schema import Failure, Result
from adafocus_cli.scores import softmax

# Of a step's share of the videos to the share of the step before it. The papers' are 0.5 … 3.9; at 0 every video is
# left after the first turn, so that any budget which allows one answer has a law.
RATIOS = np.linspace(0, 3.9, 781)
NEVER, AT_ONCE = math.inf, -math.inf


@dataclass(frozen=True, eq=False)
class Answers:
    """What n videos were answered after each of s steps, as logits (n, s, c), and what they show (n, c)."""

    logits: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def surest(self) -> np.ndarray:
        """What thresholds are compared with (n, s); an answer that is no number reaches none."""
        largest = self.logits.max(axis=2)
        return np.where(np.isnan(largest), -np.inf, largest)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether the first class is one that the video shows (n, s)."""
        found: np.ndarray = np.take_along_axis(self.truth, self.logits.argmax(axis=2), axis=1)
        return found

    def at(self, places: Sequence[int]) -> Answers:
        return Answers(self.logits[places], self.truth[places])


class Gathering:
    """Collects the answers of a pass over a data set, and parts them into halves."""

    def __init__(self, dataset: Dataset, names: Sequence[str]) -> None:
        self._dataset = dataset
        self._classes = len(names)
        self._shown = dataset.indices(names)
        self._logits: dict[int, np.ndarray] = {}

    def add(self, place: int, result: Result) -> None:
        if not isinstance(result, Failure):
            self._logits[place] = result.step_logits

    def halves(self, seed: int) -> tuple[Answers, Answers]:
        """The videos that could be tagged: to fit on, and to check on."""
        places = sorted(self._logits)
        if len(places) < 2:
            raise AdaFocusError("only one video could be tagged, and halves need two; give more videos")
        answers = Answers(
            np.stack([self._logits[place] for place in places]),
            metrics.truth_table([self._shown[place] for place in places], self._classes),
        )
        parts = halves([self._dataset.samples[place].label for place in places], seed)
        return answers.at(parts[0]), answers.at(parts[1])


def halves(labels: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Two lists of places, each with its share of every class."""
    numbered = Dataset(tuple(Sample(str(place), label) for place, label in enumerate(labels)), "")
    first = {int(sample.path) for sample in numbered.limited(len(labels) // 2, seed).samples}
    return sorted(first), [place for place in range(len(labels)) if place not in first]


@dataclass(frozen=True)
class Stops:
    """The last step of each turn, and the 10⁹ multiply-adds of a video that is left there."""

    steps: tuple[int, ...]
    gmacs: tuple[float, ...]

    @classmethod
    def of(cls, family: Family, meter: CostMeter, rule: ExitRule) -> Stops:
        turns = schedule(family, meter, rule)
        steps = tuple(turn.answers.stop - 1 for turn in turns.turns)
        return cls(steps, tuple(as_cost(list(turns.costs[: i + 1]), 0).gmacs for i in range(len(steps))))

    def price(self, left: np.ndarray) -> np.ndarray:
        """What videos cost that are left after these steps."""
        return np.asarray(self.gmacs)[np.searchsorted(self.steps, left)]


class Calibrator:
    """Fits thresholds for one model; complains before anything is run."""

    def __init__(self, family: Family, meter: CostMeter, *, group: int, budgets: Sequence[float]) -> None:
        self.steps = family.turns()[-1].answers.stop
        if self.steps == 1:
            raise ModelError(
                f"{family.name} gives one answer a video, so there is no exit to calibrate; choose a model of a family "
                "with several, such as one without TSM"
            )
        self.group = group
        self._budgets = budgets
        self._stops = Stops.of(family, meter, ExitRule(thresholds=self.never, group=group))
        self._singles = Stops.of(family, meter, ExitRule(thresholds=self.never, group=1))
        least = self._stops.gmacs[0]
        if min(budgets) < least:
            raise UsageError(
                f"no thresholds fit a budget of {min(budgets):g} GMACs: the first answers of this model, with --group "
                f"{group}, cost {least:.4g}; give --budgets {math.ceil(least * 100) / 100:g} or more"
            )
        self._same_steps = [Stops.of(family, meter, ExitRule(max_gmacs=budget, group=group)) for budget in budgets]

    @property
    def never(self) -> tuple[float, ...]:
        """Thresholds that nothing reaches before the last step."""
        return (*[NEVER] * (self.steps - 1), AT_ONCE)

    @property
    def full_gmacs(self) -> float:
        return self._stops.gmacs[-1]

    def calibrate(self, fitting: Answers, checking: Answers) -> Calibration:
        laws = [(float(ratio), thresholds_of(ratio, fitting.surest, self._stops.steps)) for ratio in RATIOS]
        on_fitting = [self._point(fitting, leave(fitting, thresholds)) for _, thresholds in laws]
        return Calibration(
            steps=self.steps,
            group=self.group,
            fitted_on=len(fitting),
            checked_on=len(checking),
            full=self._outcome(checking, leave(checking, self.never), self._stops),
            choices=tuple(
                self._choice(place, laws[_best(on_fitting, budget)], fitting, checking)
                for place, budget in enumerate(self._budgets)
            ),
            laws=tuple(dict.fromkeys(self._point(checking, leave(checking, thresholds)) for _, thresholds in laws)),
            same_steps=tuple(
                Point(gmacs=gmacs, top1=float(checking.right[:, step].mean()))
                for step, gmacs in zip(self._singles.steps, self._singles.gmacs, strict=True)
            ),
        )

    def _choice(self, place: int, best: tuple[float, tuple[float, ...]], fitting: Answers, checking: Answers) -> Choice:
        budget, stops = self._budgets[place], self._same_steps[place]
        ratio, thresholds = (None, self.never) if budget >= self.full_gmacs else best
        return Choice(
            budget=budget,
            ratio=ratio,
            thresholds=thresholds,
            fitted=self._outcome(fitting, leave(fitting, thresholds), self._stops),
            checked=self._outcome(checking, leave(checking, thresholds), self._stops),
            same_step=self._outcome(checking, np.full(len(checking), stops.steps[-1]), stops),
        )

    def _point(self, answers: Answers, left: np.ndarray) -> Point:
        gmacs, top1 = self._stops.price(left).mean(), answers.right[np.arange(len(answers)), left].mean()
        return Point(gmacs=float(gmacs), top1=float(top1))

    @staticmethod
    def _outcome(answers: Answers, left: np.ndarray, stops: Stops) -> Outcome:
        videos = np.arange(len(answers))
        scores = softmax(answers.logits[videos, left])
        precision = metrics.by_class(metrics.ranked_precision, scores, answers.truth)
        return Outcome(
            gmacs=float(stops.price(left).mean()),
            top1=float(answers.right[videos, left].mean()),
            mean_average_precision=float(np.nanmean(precision)),
            left=tuple(sorted(Counter(left.tolist()).items())),
        )


def thresholds_of(ratio: float, surest: np.ndarray, stops: Sequence[int]) -> tuple[float, ...]:
    """One number a step, for which the shares of these videos (n, s) that are left are those of the law.

    A threshold lies between the last video that leaves and the first that stays, so that neither is close to it.
    """
    videos, steps = surest.shape
    gone = np.cumsum(float(ratio) ** np.arange(steps))
    gone *= videos / gone[-1]
    thresholds = [NEVER] * (steps - 1) + [AT_ONCE]
    there = np.arange(videos)
    for stop in stops[:-1]:
        leaving = round(gone[stop]) - (videos - len(there))
        if leaving > 0:
            thresholds[stop] = _between(np.sort(surest[there, stop])[::-1], leaving)
        there = there[surest[there, stop] < thresholds[stop]]
    return tuple(thresholds)


def _between(falling: np.ndarray, leaving: int) -> float:
    """Reached by the first `leaving` of these logits, and in their number format, in which it will be compared."""
    if leaving == len(falling):
        return AT_ONCE
    last, first = falling[leaving - 1], falling[leaving]
    middle = first + (last - first) / 2
    return float(middle if middle > first else last)


def leave(answers: Answers, thresholds: Sequence[float]) -> np.ndarray:
    """The step after which each video is left (n,)."""
    reached = answers.surest >= np.asarray(thresholds, answers.surest.dtype)
    first: np.ndarray = reached.argmax(axis=1)
    return first


def _best(laws: Sequence[Point], budget: float) -> int:
    """The most accurate that keeps to the budget; of equal ones the cheapest."""
    fit = [place for place, law in enumerate(laws) if law.gmacs <= budget + 1e-9]  # a mean is rounded
    return max(fit, key=lambda place: (laws[place].top1, -laws[place].gmacs))
