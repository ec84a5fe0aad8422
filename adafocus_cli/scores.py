"""From raw answers to scores, and from scores to the labels that are told.

Arithmetic on numbers; knows nothing of models, files or formats.
"""

from __future__ import annotations

import numpy as np

from adafocus_cli.labels import LabelSet
from adafocus_cli.schema import Tag
from adafocus_cli.spec import scores_are_independent


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last dimension, in double precision, so that sure answers do not become equal."""
    spread = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(spread / spread.sum(axis=-1, keepdims=True))


def scores_of(logits: np.ndarray, family: str) -> np.ndarray:
    """The scores of a family's answers: a chance for each label, or one that all share."""
    if not scores_are_independent(family):
        return softmax(logits)
    return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50))))


def best_tags(scores: np.ndarray, labels: LabelSet, *, top_k: int, min_score: float) -> tuple[Tag, ...]:
    """The best labels; of equal scores the lower index first."""
    best = np.argsort(-scores, kind="stable")[:top_k]
    return tuple(Tag(labels[i], int(i), float(scores[i]), labels.parent(i)) for i in best if scores[i] >= min_score)
