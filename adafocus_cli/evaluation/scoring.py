"""Scores the answers to labelled videos: top-1, average precision, confusion and cost, in numpy.

There are n videos and c classes: `scores` are (n, c); `truth` is (n, c), True where a video shows a class, of which it
has one or more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.evaluation.report import ClassReport, Confusion, CostReport, EvaluationReport, Metric, StepReport
from adafocus_cli.labels import LabelSet, scores_of
from adafocus_cli.library import catalogue
from adafocus_cli.schema import Failure, ModelInfo, Result, VideoResult

AveragePrecision = Callable[[np.ndarray, np.ndarray], float]


def paper_metric(model: ModelInfo, labels: LabelSet) -> Metric | None:
    """What the paper of a model prints for its data set; None for a data set of no paper."""
    dataset = model.dataset or labels.source
    printed = [e for e in catalogue.packaged().entries if e.dataset == dataset and e.labels and e.metric]
    entry = next((e for e in printed if e.family == model.family), next(iter(printed), None))
    if entry is None:
        return None
    if entry.metric == "top-1":
        return "top-1"
    return "mAP, one label" if model.family == "adafocus-v1" else "mAP, all labels"


def truth_table(classes_of: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """From the indices of each video's classes to (n, c)."""
    truth = np.zeros((len(classes_of), classes), bool)
    for row, indices in zip(truth, classes_of, strict=True):
        row[list(indices)] = True
    return truth


def ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many classes come before the first right one (n,); of equal scores the lower index comes first.

    >>> ranks(np.array([[0.1, 0.7, 0.2]]), np.array([[False, False, True]])).tolist()
    [1]
    """
    best_first = np.argsort(-scores, axis=-1, kind="stable")
    right: np.ndarray = np.take_along_axis(truth, best_first, axis=-1).argmax(axis=-1)
    return right


def ranked_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """One class (n,), as the papers' code does: the precision at each true video of the ranking, averaged.

    Equal scores keep the order of the videos.

    >>> ranked_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    in_order = truth[np.argsort(-scores, kind="stable")]
    precision = in_order.cumsum() / np.arange(1, len(in_order) + 1)
    return float(precision[in_order].mean())


def tied_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """One class (n,), as scikit-learn's `average_precision_score` does: videos of equal score count as one rank.

    >>> tied_precision(np.array([0.5, 0.5]), np.array([True, False]))
    0.5
    """
    order = np.argsort(-scores, kind="stable")
    in_order, values = truth[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    found = in_order.cumsum()[ends]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (ends + 1)).sum() / found[-1])


def by_class(average_precision: AveragePrecision, scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The average precision of every class (c,); NaN for one that no video shows."""
    return np.array(
        [
            average_precision(column, shown) if shown.any() else np.nan
            for column, shown in zip(scores.T, truth.T, strict=True)
        ]
    )


def confusion_matrix(answers: np.ndarray, classes_of: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """Counts (c, c) of videos by their class and the answer (n,); an answer that is one of several labels is right."""
    counts = np.zeros((classes, classes), int)
    for answer, indices in zip(answers.tolist(), classes_of, strict=True):
        counts[answer if answer in indices else indices[0], answer] += 1
    return counts


TOP = 5


class Scorer:
    """Collects the answers of a pass over a data set, one per video, and reports how right they are.

    `metric` is what the model's paper prints, if it has one. A video without a label of `min_score` or more counts as
    wrong.
    """

    def __init__(
        self, dataset: Dataset, labels: LabelSet, *, metric: Metric | None = None, min_score: float = 0.0
    ) -> None:
        self._labels = labels
        self._metric = metric
        self._min_score = min_score
        self._shown = dataset.indices(labels.names)
        self._failed: dict[int, Failure] = {}
        self._logits: dict[int, np.ndarray] = {}
        self._costs: list[CostReport] = []
        self._exits: Counter[int] = Counter()
        self._family = ""
        self._steps = 0
        self._right_after: np.ndarray | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(self._failed[index] for index in sorted(self._failed))

    def add(self, index: int, result: Result) -> None:
        """The result for the sample at `index` of the data set."""
        if isinstance(result, Failure):
            self._failed[index] = result
            return
        self._logits[index] = result.logits
        self._family = result.model.family
        self._steps = result.exit.of
        self._exits[result.exit.step] += 1
        self._costs.append(
            CostReport(
                gmacs=result.cost.gmacs,
                stages=result.cost.stages,
                full_frame_gmacs=result.cost.full_frame_gmacs,
                frames_decoded=result.frames_decoded,
                seconds=result.runtime.seconds,
            )
        )
        self._add_steps(index, result)

    def _add_steps(self, index: int, result: VideoResult) -> None:
        """Counts after which steps the right class is first, and among the first few."""
        truth = truth_table([self._shown[index]] * len(result.step_logits), len(self._labels))
        rank = self._ranks(result.step_logits, truth)
        right = np.zeros((2, self._steps), int)
        right[:, : len(rank)] = rank < 1, rank < TOP
        self._right_after = right if self._right_after is None else self._right_after + right

    def _ranks(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """The rank of the right class; behind all classes where no label is given."""
        return np.where(self._has_label(logits), ranks(logits, truth), len(self._labels))

    def _has_label(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(scores_of(logits, self._family).max(axis=1) >= self._min_score)

    def report(self) -> EvaluationReport | None:
        """What was found; None if no video could be tagged."""
        tagged = sorted(self._logits)
        if not tagged:
            return None
        shown = [self._shown[index] for index in tagged]
        logits = np.stack([self._logits[index] for index in tagged])
        truth = truth_table(shown, len(self._labels))
        scores = scores_of(logits, self._family)
        rank = self._ranks(logits, truth)
        published = by_class(ranked_precision, scores, truth)
        one_label = truth_table([indices[:1] for indices in shown], len(self._labels))
        tied = by_class(tied_precision, scores, truth)
        labelled = np.flatnonzero(self._has_label(logits)).tolist()
        matrix = confusion_matrix(logits[labelled].argmax(axis=1), [shown[i] for i in labelled], len(self._labels))
        return EvaluationReport(
            videos=len(tagged),
            failures=self.failures,
            top1=float((rank < 1).mean()),
            top5=float((rank < TOP).mean()),
            metric=self._metric,
            map_published=float(np.nanmean(published)),
            map_one_label=float(np.nanmean(by_class(ranked_precision, scores, one_label))),
            map_scikit_learn=float(np.nanmean(tied)),
            several_labels=sum(len(indices) > 1 for indices in shown),
            classes_without_videos=len(self._labels) - int(truth.any(axis=0).sum()),
            classes=self._classes(truth, rank, published, tied, matrix),
            confusion=self._confusion(matrix),
            cost=_mean_cost(self._costs),
            steps=self._steps,
            exits=dict(sorted(self._exits.items())),
            by_step=self._by_step(len(tagged)),
        )

    def _classes(
        self, truth: np.ndarray, rank: np.ndarray, published: np.ndarray, tied: np.ndarray, matrix: np.ndarray
    ) -> tuple[ClassReport, ...]:
        """Every class that a video shows."""
        reports = []
        for index in np.flatnonzero(truth.any(axis=0)).tolist():
            wrong = matrix[index].copy()
            wrong[index] = 0
            most = int(wrong.argmax())
            reports.append(
                ClassReport(
                    label=self._labels[index],
                    index=index,
                    videos=int(truth[:, index].sum()),
                    top1=float((rank[truth[:, index]] < 1).mean()),
                    ap_published=float(published[index]),
                    ap_scikit_learn=float(tied[index]),
                    taken_for=self._labels[most] if wrong[most] else None,
                    taken_for_videos=int(wrong[most]),
                )
            )
        return tuple(reports)

    def _confusion(self, matrix: np.ndarray) -> Confusion:
        """Without the classes that are neither shown nor answered."""
        present = np.flatnonzero(matrix.any(axis=0) | matrix.any(axis=1)).tolist()
        counts = tuple(tuple(row) for row in matrix[np.ix_(present, present)].tolist())
        return Confusion(indices=tuple(present), labels=tuple(self._labels[i] for i in present), counts=counts)

    def _by_step(self, videos: int) -> tuple[StepReport, ...]:
        """Nothing for a model of one step, or where videos were left before the last."""
        if self._steps < 2 or self._right_after is None or set(self._exits) != {self._steps - 1}:
            return ()
        return tuple(
            StepReport(step=step, top1=first / videos, top5=among / videos)
            for step, (first, among) in enumerate(self._right_after.T.tolist())
        )


def _mean_cost(costs: Sequence[CostReport]) -> CostReport:
    return CostReport(
        gmacs=fmean(cost.gmacs for cost in costs),
        stages={name: fmean(cost.stages[name] for cost in costs) for name in costs[0].stages},
        full_frame_gmacs=costs[0].full_frame_gmacs,
        frames_decoded=fmean(cost.frames_decoded for cost in costs),
        seconds={name: fmean(cost.seconds[name] for cost in costs) for name in costs[0].seconds},
    )
