"""Thresholds for a compute budget: fitted on one half of labelled videos, checked on the other.

How many videos leave at which exit follows a geometric law, as the authors have it; its ratio is what is chosen, by the
measure that the papers print for the data set. What a law lets leave within a turn leaves at the turn's end: all of the
turn is paid for either way, and its last answer knows most. Shares in results are from 0 to 1, and steps count
from 0.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from adafocus_cli.errors import AdaFocusError, ModelError, UsageError
from adafocus_cli.evaluation import scoring
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.evaluation.report import Metric
from adafocus_cli.exits import Criterion, ExitRule, certainty, schedule
from adafocus_cli.flops import CostMeter, as_cost
from adafocus_cli.labels import scores_of
from adafocus_cli.models.base import Family
from adafocus_cli.schema import Failure, Result


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of many videos: the mean cost in 10⁹ multiply-adds, the accuracy, and how many leave after which step."""

    gmacs: float
    top1: float
    mean_average_precision: float
    accuracy: float
    """By the metric of the calibration."""
    left: tuple[tuple[int, int], ...]
    """(step, videos)"""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gmacs": round(self.gmacs, 6),
            "top1": round(self.top1, 6),
            "map_published": round(self.mean_average_precision, 6),
            "accuracy": round(self.accuracy, 6),
            "left": [{"step": step, "videos": videos} for step, videos in self.left],
        }


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """Accuracy at a mean cost; `accuracy` is by the metric of the calibration."""

    gmacs: float
    top1: float
    accuracy: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class BudgetChoice:
    """The thresholds for a budget, their outcome on both halves, and that of the best fixed step within it.

    `ratio` is None where the budget is enough for everything, and 0 where it is below all laws: then everything is left
    at the first exit.
    """

    budget: float
    ratio: float | None
    thresholds: tuple[float, ...]
    fitted: Outcome
    checked: Outcome
    same_step: Outcome


@dataclass(frozen=True, kw_only=True)
class SkipCurves:
    """What skipping frames does without exits, from the fewest looks to all, and what exits do without skipping."""

    skipping: tuple[CostPoint, ...]
    exits: tuple[CostPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The points are of the half that was checked on, but for `fitted_laws`.

    `metric` is what laws are chosen by; mAP is over those of the `classes` that a video of the half shows.
    """

    steps: int
    group: int
    metric: Metric
    criterion: Criterion
    fitted_on: int
    checked_on: int
    classes: int
    classes_checked: int
    full: Outcome
    choices: tuple[BudgetChoice, ...]
    fitted_laws: tuple[CostPoint, ...]
    laws: tuple[CostPoint, ...]
    same_steps: tuple[CostPoint, ...]
    apart: SkipCurves | None = None
    """Of a model that skips frames, for which all else is of both together."""

    @property
    def margin(self) -> float:
        """By how much chance moves top-1 on so many videos: half of a 95 % interval."""
        return 1.96 * math.sqrt(self.full.top1 * (1 - self.full.top1) / self.checked_on)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; thresholds, which may be infinite, are for files."""
        return {
            "steps": self.steps,
            "group": self.group,
            "metric": self.metric,
            "criterion": self.criterion,
            "classes_without_videos": self.classes - self.classes_checked,
            "margin": round(self.margin, 6),
            "full": self.full.to_dict(),
            "budgets": [
                {
                    "gmacs": choice.budget,
                    "ratio": choice.ratio and round(choice.ratio, 6),
                    "fitted": choice.fitted.to_dict(),
                    "checked": choice.checked.to_dict(),
                    "same_step": choice.same_step.to_dict(),
                }
                for choice in self.choices
            ],
            "laws": [point.to_dict() for point in self.laws],
            "same_steps": [point.to_dict() for point in self.same_steps],
            **({} if self.apart is None else {"apart": self._apart(self.apart)}),
        }

    @staticmethod
    def _apart(curves: SkipCurves) -> dict[str, Any]:
        return {
            "skipping": [point.to_dict() for point in curves.skipping],
            "exits": [point.to_dict() for point in curves.exits],
        }


NEVER, AT_ONCE = math.inf, -math.inf


@dataclass(frozen=True)
class ExitLaw:
    """At each of K exits r ** k / Σ r ** j of the videos leave; `ratios` are the r that are tried."""

    ratios: tuple[float, ...]
    first_power: int = 0
    """Where k begins in the authors' code, which does not change the shares but how they are rounded."""

    def leaving(self, ratio: float, exits: int, videos: int) -> tuple[int, ...]:
        """How many of `videos` leave at each exit before the last, which takes the others.

        In the authors' arithmetic, float32 of torch: one digit decides where a share is a whole number of videos.
        """
        powers = torch.arange(self.first_power, self.first_power + exits, dtype=torch.float32)
        shares = torch.exp(torch.log(torch.tensor([ratio], dtype=torch.float32)) * powers)
        for _ in range(2):  # they normalise twice
            shares /= shares.sum()
        return tuple((videos * shares[:-1]).floor().int().tolist())


_V2_LAW = ExitLaw(tuple(p / 10 for p in range(5, 40)), first_power=1)
AUTHORS_LAWS: Mapping[str, ExitLaw] = {
    "adafocus-v1": _V2_LAW,  # has none of its own; the paper of V2 lets it leave as V2 does
    "adafocus-v2": _V2_LAW,
    "uni-adafocus": ExitLaw(tuple(p / 20 for p in range(1, 20))),
    "uni-adafocus-tsm": ExitLaw(tuple(p / 100 for p in (*range(1, 400), 4e3, 4e4, 4e5, 4e6))),
}

LawName = Literal["auto", "wide"]
_FINE = 16  # ratios between one and its double
_WIDEST = 2.0**7  # so that the powers of 17 exits stay within float32


def law_of(family: str, name: LawName) -> ExitLaw:
    """The authors', with finer steps between their ratios, for budgets that lie there; `wide` goes beyond them, too."""
    law = AUTHORS_LAWS.get(family, _V2_LAW)
    ends = (1 / _WIDEST, _WIDEST) if name == "wide" else ()
    return replace(law, ratios=_filled(sorted({*law.ratios, *ends})))


def _filled(ratios: Sequence[float]) -> tuple[float, ...]:
    """
    >>> [round(ratio, 2) for ratio in _filled([1.0, 1.01, 1.25])]
    [1.0, 1.01, 1.05, 1.1, 1.15, 1.2, 1.25]
    """
    filled = list(ratios[:1])
    for low, high in pairwise(ratios):
        steps = max(1, round(_FINE * math.log2(high / low)))
        filled += [low * (high / low) ** (step / steps) for step in range(1, steps)] + [high]
    return tuple(filled)


@dataclass(frozen=True, eq=False)
class Answers:
    """What n videos were answered after each of s steps, as logits (n, s, c), and what they show (n, c)."""

    logits: np.ndarray
    truth: np.ndarray
    criterion: Criterion = "logit"
    metric: Metric = "top-1"
    one_label: np.ndarray | None = None
    """`truth` with only the first label of each video, for the metric that counts one."""
    family: str = ""
    spared: np.ndarray | None = None
    """10⁹ multiply-adds of the looks that were skipped up to each step (n, s); None: nothing is skipped."""

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def certainty(self) -> np.ndarray:
        """What thresholds are compared with (n, s)."""
        return certainty(self.logits, self.criterion)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether the first class is one that the video shows (n, s)."""
        found: np.ndarray = np.take_along_axis(self.truth, self.logits.argmax(axis=2), axis=1)
        return found

    def at(self, indices: Sequence[int]) -> Answers:
        one_label = None if self.one_label is None else self.one_label[indices]
        spared = None if self.spared is None else self.spared[indices]
        return replace(self, logits=self.logits[indices], truth=self.truth[indices], one_label=one_label, spared=spared)

    def top1(self, left: np.ndarray) -> float:
        """Of the answers after these steps (n,)."""
        return float(self.right[np.arange(len(self)), left].mean())

    def mean_average_precision(self, left: np.ndarray, truth: np.ndarray | None = None) -> float:
        """Of the answers after these steps (n,); classes that no video shows are left out of the mean."""
        scores = scores_of(self.logits[np.arange(len(self)), left], self.family)
        shown = self.truth if truth is None else truth
        return float(np.nanmean(scoring.by_class(scoring.ranked_precision, scores, shown)))

    def accuracy(self, left: np.ndarray) -> float:
        """The answers after these steps (n,), by `metric`."""
        if self.metric == "top-1":
            return self.top1(left)
        return self.mean_average_precision(left, self.one_label if self.metric == "mAP, one label" else None)


class AnswerCollector:
    """Collects the answers of a pass over a data set, and parts them into halves."""

    def __init__(
        self,
        dataset: Dataset,
        names: Sequence[str],
        *,
        look_gmacs: float,
        criterion: Criterion = "logit",
        metric: Metric = "top-1",
    ) -> None:
        self._dataset = dataset
        self._classes = len(names)
        self._criterion = criterion
        self._metric = metric
        self._shown = dataset.indices(names)
        self._look_gmacs = look_gmacs
        self._logits: dict[int, np.ndarray] = {}
        self._spared: dict[int, np.ndarray] = {}
        self._family = ""

    def add(self, index: int, result: Result) -> None:
        if not isinstance(result, Failure):
            self._logits[index] = result.step_logits
            if result.skipped is not None:
                skipped = np.ones(len(result.step_logits))
                skipped[[look.step for look in result.trajectory]] = 0
                self._spared[index] = self._look_gmacs * skipped.cumsum()
            self._family = result.model.family

    def halves(self, seed: int) -> tuple[Answers, Answers]:
        """The videos that could be tagged: to fit on, and to check on."""
        tagged = sorted(self._logits)
        if len(tagged) < 2:
            raise AdaFocusError("only one video could be tagged, and halves need two; give more videos")
        shown = [self._shown[index] for index in tagged]
        answers = Answers(
            np.stack([self._logits[index] for index in tagged]),
            scoring.truth_table(shown, self._classes),
            self._criterion,
            self._metric,
            scoring.truth_table([indices[:1] for indices in shown], self._classes),
            self._family,
            np.stack([self._spared[index] for index in tagged]) if self._spared else None,
        )
        parts = halves([self._dataset.samples[index].label for index in tagged], seed)
        return answers.at(parts[0]), answers.at(parts[1])


def halves(labels: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Two lists of indices, each with its share of every class."""
    numbered = Dataset(tuple(Sample(str(index), label) for index, label in enumerate(labels)), "")
    first = {int(sample.path) for sample in numbered.limited(len(labels) // 2, seed).samples}
    return sorted(first), [index for index in range(len(labels)) if index not in first]


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

    def price(self, answers: Answers, left: np.ndarray) -> np.ndarray:
        """What videos cost that are left after these steps."""
        stops = np.searchsorted(self.steps, left)
        price = np.asarray(self.gmacs)[stops]
        if answers.spared is None:
            return price
        return np.asarray(price - answers.spared[np.arange(len(answers)), np.asarray(self.steps)[stops]])


class Calibrator:
    """Fits thresholds for one model; complains before anything is run."""

    def __init__(
        self, family: Family, meter: CostMeter, *, group: int, budgets: Sequence[float], law: LawName = "auto"
    ) -> None:
        self.steps = family.turns()[-1].answers.stop
        if self.steps == 1:
            raise ModelError(
                f"{family.name} gives one answer a video, so there is no exit to calibrate; choose a model of a family "
                "with several, such as adafocus-v2"
            )
        self.group = group
        self._law = law_of(family.name, law)
        self._budgets = budgets
        self.look_gmacs = meter.whole_clip().stages["focus"] / max(1, family.spec.focus_frames)
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
        laws = self._laws(fitting)
        on_fitting = self._points(fitting, laws)
        return Calibration(
            steps=self.steps,
            group=self.group,
            metric=fitting.metric,
            criterion=fitting.criterion,
            fitted_on=len(fitting),
            checked_on=len(checking),
            classes=fitting.truth.shape[1],
            classes_checked=int(checking.truth.any(axis=0).sum()),
            full=self._outcome(checking, leave(checking, self.never), self._stops),
            choices=tuple(
                self._choice(index, *self._best(on_fitting, laws, budget), fitting, checking)
                for index, budget in enumerate(self._budgets)
            ),
            fitted_laws=tuple(on_fitting),
            laws=tuple(dict.fromkeys(self._points(checking, laws))),
            same_steps=tuple(
                self._point(checking, np.full(len(checking), step), self._singles) for step in self._singles.steps
            ),
        )

    def apart(self, skipping: Sequence[Answers], fitting: Answers, checking: Answers) -> SkipCurves:
        """`skipping` are the answers with fewer and fewer frames skipped, the other two those with none skipped."""
        points = [
            self._point(answers, np.full(len(answers), self.steps - 1), self._stops)
            for answers in (*skipping, checking)
        ]
        exits = tuple(dict.fromkeys(self._points(checking, self._laws(fitting))))
        return SkipCurves(skipping=tuple(points), exits=exits)

    def _laws(self, fitting: Answers) -> list[tuple[float, ...]]:
        return [self._thresholds(ratio, fitting) for ratio in self._law.ratios]

    @staticmethod
    def _point(answers: Answers, left: np.ndarray, stops: Stops) -> CostPoint:
        gmacs = float(stops.price(answers, left).mean())
        return CostPoint(gmacs=gmacs, top1=answers.top1(left), accuracy=answers.accuracy(left))

    def _thresholds(self, ratio: float, fitting: Answers) -> tuple[float, ...]:
        """One number a step; what the law lets leave between two stops leaves at the later one."""
        leaving = self._law.leaving(ratio, len(self._singles.steps), len(fitting))
        at_stops = [0] * len(self._stops.steps)
        for step, videos in zip(self._singles.steps[:-1], leaving, strict=True):
            at_stops[bisect_left(self._stops.steps, step)] += videos
        stops = list(self._stops.steps)
        return self._by_step(thresholds_of(at_stops[:-1], fitting.certainty[:, stops]))

    def _by_step(self, at_stops: Sequence[float]) -> tuple[float, ...]:
        """Thresholds of the stops as one number a step: nothing is left between them."""
        thresholds = list(self.never)
        for step, threshold in zip(self._stops.steps, at_stops, strict=True):
            thresholds[step] = threshold
        return tuple(thresholds)

    def _best(
        self, points: Sequence[CostPoint], laws: Sequence[tuple[float, ...]], budget: float
    ) -> tuple[float | None, tuple[float, ...]]:
        """The ratio and thresholds of the most accurate law that keeps to the budget; of equal ones the cheapest.

        A budget below all of them has the limit of the law, ratio 0: every video is left at the first stop.
        """
        if budget >= self.full_gmacs:
            return None, self.never
        fit = [index for index, point in enumerate(points) if point.gmacs <= budget + 1e-9]  # a mean is rounded
        if not fit:
            return 0.0, self._by_step([AT_ONCE] * len(self._stops.steps))
        best = max(fit, key=lambda index: (points[index].accuracy, -points[index].gmacs))
        return self._law.ratios[best], laws[best]

    def _choice(
        self, index: int, ratio: float | None, thresholds: tuple[float, ...], fitting: Answers, checking: Answers
    ) -> BudgetChoice:
        stops = self._same_steps[index]
        return BudgetChoice(
            budget=self._budgets[index],
            ratio=ratio,
            thresholds=thresholds,
            fitted=self._outcome(fitting, leave(fitting, thresholds), self._stops),
            checked=self._outcome(checking, leave(checking, thresholds), self._stops),
            same_step=self._outcome(checking, np.full(len(checking), stops.steps[-1]), stops),
        )

    def _points(self, answers: Answers, laws: Sequence[tuple[float, ...]]) -> list[CostPoint]:
        """What the laws do to these videos; those that leave the same videos at the same steps are measured once."""
        known: dict[bytes, CostPoint] = {}
        points = []
        for thresholds in laws:
            left = leave(answers, thresholds)
            if left.tobytes() not in known:
                known[left.tobytes()] = self._point(answers, left, self._stops)
            points.append(known[left.tobytes()])
        return points

    @staticmethod
    def _outcome(answers: Answers, left: np.ndarray, stops: Stops) -> Outcome:
        return Outcome(
            gmacs=float(stops.price(answers, left).mean()),
            top1=answers.top1(left),
            mean_average_precision=answers.mean_average_precision(left),
            accuracy=answers.accuracy(left),
            left=tuple(sorted(Counter(left.tolist()).items())),
        )


def thresholds_of(leaving: Sequence[int], sure: np.ndarray) -> tuple[float, ...]:
    """One number an exit, for videos that are this sure (n, exits) of which so many are to leave at each but the last.

    The number is that of the last video that leaves. Of equally sure videos the others stay in the count of the later
    exits, though they reach the number too: the authors count so.
    """
    thresholds = []
    there = np.arange(len(sure))
    for exit_, videos in enumerate(leaving):
        surest_first = there[np.argsort(-sure[there, exit_], kind="stable")]
        thresholds.append(float(sure[surest_first[videos - 1], exit_]) if videos else NEVER)
        there = np.sort(surest_first[videos:])
    return (*thresholds, AT_ONCE)


def leave(answers: Answers, thresholds: Sequence[float]) -> np.ndarray:
    """The step after which each video is left (n,)."""
    reached = answers.certainty >= np.asarray(thresholds, answers.certainty.dtype)
    first: np.ndarray = reached.argmax(axis=1)
    return first
