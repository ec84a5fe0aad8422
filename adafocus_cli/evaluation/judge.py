"""From results to a report: collects what tagged videos answered and cost, and compares it with what they show.

Keeps one answer a video, not its steps. Knows nothing of files, formats or terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from adafocus_cli.evaluation import metrics
from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.evaluation.metrics import Metric
from adafocus_cli.evaluation.report import ClassReport, Confusion, CostReport, Report, StepReport
from adafocus_cli.labels import LabelSet
from adafocus_cli.schema import Failure, Result, VideoResult
from adafocus_cli.scores import scores_of

TOP = 5


class Judge:
    """`metric` is what the model's paper prints, if it has one.

    Where no label has a score of `min_score` or more, none is told, which counts as wrong.
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
        return tuple(self._failed[place] for place in sorted(self._failed))

    def add(self, place: int, result: Result) -> None:
        """The result for the sample at `place` of the data set."""
        if isinstance(result, Failure):
            self._failed[place] = result
            return
        self._logits[place] = result.logits
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
        self._add_steps(place, result)

    def _add_steps(self, place: int, result: VideoResult) -> None:
        """Counts after which steps the right class is first, and among the first few."""
        truth = metrics.truth_table([self._shown[place]] * len(result.step_logits), len(self._labels))
        rank = self._ranks(result.step_logits, truth)
        right = np.zeros((2, self._steps), int)
        right[:, : len(rank)] = rank < 1, rank < TOP
        self._right_after = right if self._right_after is None else self._right_after + right

    def _ranks(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Where the right class is among the labels; behind all of them where none is told."""
        return np.where(self._has_label(logits), metrics.ranks(logits, truth), len(self._labels))

    def _has_label(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(scores_of(logits, self._family).max(axis=1) >= self._min_score)

    def report(self) -> Report | None:
        """What was found; None if no video could be tagged."""
        places = sorted(self._logits)
        if not places:
            return None
        shown = [self._shown[place] for place in places]
        logits = np.stack([self._logits[place] for place in places])
        truth = metrics.truth_table(shown, len(self._labels))
        scores = scores_of(logits, self._family)
        rank = self._ranks(logits, truth)
        published = metrics.by_class(metrics.ranked_precision, scores, truth)
        one_label = metrics.truth_table([indices[:1] for indices in shown], len(self._labels))
        tied = metrics.by_class(metrics.tied_precision, scores, truth)
        told = np.flatnonzero(self._has_label(logits)).tolist()
        matrix = metrics.confusion(logits[told].argmax(axis=1), [shown[i] for i in told], len(self._labels))
        return Report(
            videos=len(places),
            failures=self.failures,
            top1=float((rank < 1).mean()),
            top5=float((rank < TOP).mean()),
            metric=self._metric,
            map_published=float(np.nanmean(published)),
            map_one_label=float(np.nanmean(metrics.by_class(metrics.ranked_precision, scores, one_label))),
            map_scikit_learn=float(np.nanmean(tied)),
            several_labels=sum(len(indices) > 1 for indices in shown),
            classes_without_videos=len(self._labels) - int(truth.any(axis=0).sum()),
            classes=self._classes(truth, rank, published, tied, matrix),
            confusion=self._confusion(matrix),
            cost=_mean_cost(self._costs),
            steps=self._steps,
            exits=dict(sorted(self._exits.items())),
            by_step=self._by_step(len(places)),
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
