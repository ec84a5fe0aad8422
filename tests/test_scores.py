"""From raw answers to scores and labels."""

from __future__ import annotations

import numpy as np

from adafocus_cli.labels import LabelSet, best_tags, softmax


def test_softmax_keeps_sure_answers_apart():
    shares = softmax(np.array([[20.0, 0.0], [21.0, 0.0], [1000.0, 0.0]], np.float32))
    assert shares[0, 0] < shares[1, 0] < shares[2, 0] == 1
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_of_equal_scores_the_lower_index_is_told_first():
    labels = LabelSet(("a", "b", "c", "d"), "a test")
    told = best_tags(np.array([0.2, 0.3, 0.3, 0.2]), labels, top_k=3, min_score=0.25)
    assert [(tag.label, tag.index, tag.score) for tag in told] == [("b", 1, 0.3), ("c", 2, 0.3)]
