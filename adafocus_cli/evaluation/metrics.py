"""How right answers are, in numpy: n videos, c classes; and which of these measures a paper prints.

`scores` are (n, c), the higher the surer; `truth` is (n, c), True where a video shows a class: one or more a video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from adafocus_cli.labels import LabelSet
from adafocus_cli.library import catalogue
from adafocus_cli.schema import ModelInfo

Metric = Literal["top-1", "mAP, all labels", "mAP, one label"]
"""What papers print. Of a video with several labels, either mAP counts all of them, or only the first: the class of the
lowest number, where the authors of V1 draw one anew each time."""

AveragePrecision = Callable[[np.ndarray, np.ndarray], float]


def paper_metric(model: ModelInfo, labels: LabelSet) -> Metric | None:
    """What the paper of a model prints for the data set that it knows; None for a data set of no paper."""
    dataset = model.dataset or labels.source
    printed = [e for e in catalogue.packaged().entries if e.dataset == dataset and e.labels and e.metric]
    entry = next((e for e in printed if e.family == model.family), next(iter(printed), None))
    if entry is None:
        return None
    if entry.metric == "top-1":
        return "top-1"
    return "mAP, one label" if model.family == "adafocus-v1" else "mAP, all labels"


def truth_table(classes_of: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """The places of each video's classes → (n, c)."""
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


def confusion(answers: np.ndarray, classes_of: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """Counts (c, c): what a video shows, by what it was taken for (n,). Any right answer is right."""
    counts = np.zeros((classes, classes), int)
    for answer, indices in zip(answers.tolist(), classes_of, strict=True):
        counts[answer if answer in indices else indices[0], answer] += 1
    return counts
