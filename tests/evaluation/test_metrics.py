"""Each measure by hand, and average precision against scikit-learn, with ties."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus_cli.evaluation import scoring
from adafocus_cli.labels import LabelSet, packaged
from adafocus_cli.schema import ModelInfo

YES, NO = True, False


@pytest.mark.parametrize(
    ("scores", "truth", "published", "tied"),
    [
        ([0.9, 0.8, 0.7], [YES, NO, YES], (1 + 2 / 3) / 2, (1 + 2 / 3) / 2),
        ([0.1, 0.2, 0.3], [YES, YES, YES], 1, 1),
        ([0.1, 0.9, 0.8], [YES, NO, NO], 1 / 3, 1 / 3),
        # Equal scores: in the order of the videos; or as one rank, which finds one of two.
        ([0.5, 0.5], [YES, NO], 1, 1 / 2),
        ([0.5, 0.5], [NO, YES], 1 / 2, 1 / 2),
        # One alone at the top, then two of three at once: 1/3 of the true ones at 1/1, 2/3 of them at 3/4.
        ([0.9, 0.5, 0.5, 0.5], [YES, NO, YES, YES], (1 + 2 / 3 + 3 / 4) / 3, 1 / 3 + 2 / 3 * 3 / 4),
    ],
)
def test_average_precision_by_hand(scores, truth, published, tied):
    arrays = np.array(scores), np.array(truth)
    assert scoring.ranked_precision(*arrays) == pytest.approx(published)
    assert scoring.tied_precision(*arrays) == pytest.approx(tied)


@pytest.mark.parametrize("levels", [2, 10, 10**9])
@pytest.mark.parametrize("labels", [1, 3])
def test_average_precision_is_that_of_scikit_learn(levels, labels):
    reference = pytest.importorskip("sklearn.metrics").average_precision_score
    chance = np.random.default_rng(levels + labels)
    scores = chance.integers(levels, size=(200, 12)) / levels
    shown = [chance.choice(10, labels, replace=False) for _ in range(200)]  # nothing shows the last two classes
    truth = scoring.truth_table(shown, 12)
    ours = scoring.by_class(scoring.tied_precision, scores, truth)
    assert np.isnan(ours[10:]).all()
    theirs = [reference(truth[:, index], scores[:, index]) for index in range(10)]
    np.testing.assert_allclose(ours[:10], theirs, rtol=1e-12)
    assert np.nanmean(ours) == pytest.approx(reference(truth[:, :10], scores[:, :10], average="macro"))


def test_both_ways_agree_where_no_scores_are_equal():
    chance = np.random.default_rng(0)
    scores, truth = chance.permutation(100) / 100, chance.random(100) < 0.3
    assert scoring.ranked_precision(scores, truth) == pytest.approx(scoring.tied_precision(scores, truth))


def test_ranks_are_of_the_best_right_class_and_equal_scores_go_by_index():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.1, 0.7, 0.2]])
    truth = scoring.truth_table([[1], [0], [1], [0, 2]], 3)
    assert scoring.ranks(scores, truth).tolist() == [0, 0, 1, 1]


def test_confusion_by_hand():
    shown = [(0,), (0,), (1,), (2, 1), (2, 1)]
    counts = scoring.confusion_matrix(np.array([0, 1, 1, 1, 0]), shown, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def model_of(family, dataset):
    return ModelInfo(name="m", family=family, dataset=dataset, sha256="0" * 64, patch_size=128)


@pytest.mark.parametrize(
    ("family", "dataset", "metric"),
    [
        ("adafocus-v1", "activitynet", "mAP, one label"),
        ("adafocus-v2", "activitynet", "mAP, all labels"),
        ("adafocus-v2", "fcvid", "mAP, all labels"),
        ("uni-adafocus", "activitynet", "mAP, all labels"),
        ("uni-adafocus", "minikinetics", "top-1"),
        ("uni-adafocus-tsm", "sthv1", "top-1"),
        ("adafocus-v1-tsm", "world:motion", None),
        ("adafocus-v2", None, None),
    ],
)
def test_the_metric_is_that_of_the_models_paper(family, dataset, metric):
    numbers = LabelSet(tuple("abc"), "numbers")
    assert scoring.paper_metric(model_of(family, dataset), numbers) == metric


def test_a_file_that_does_not_say_its_data_set_has_that_of_its_labels():
    assert scoring.paper_metric(model_of("adafocus-v1", None), packaged("activitynet")) == "mAP, one label"
