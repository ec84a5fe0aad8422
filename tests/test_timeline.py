"""What windows say together: segments that do not flicker, and one result of many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from adafocus_cli.labels import LabelSet, softmax
from adafocus_cli.timeline import Part, joined, segments, steady
from adafocus_cli.video.windows import Window
from tests.output.made_up import tagged

LABELS = LabelSet(("a", "b", "c"), "made up")


def windows(count, *, seconds=4.0, stride=2.0):
    return [Window(i, count, i * stride, i * stride + seconds, range(i, i + 1)) for i in range(count)]


def scores(labels, *, sureness=8.0):
    """Answers that are sure of one label each, by their letters."""
    return softmax(sureness * np.eye(3)[["abc".index(label) for label in labels]])


def found(labels, **options):
    each = windows(len(labels))
    return [(s.label, s.start, s.end) for s in segments(each, scores(labels, **options), LABELS)]


def test_neighbours_with_the_same_label_are_one_segment_that_ends_between_the_middles():
    assert found("aaabbb") == [("a", 0.0, 7.0), ("b", 7.0, 14.0)]


@pytest.mark.parametrize("sureness", [2.0, 8.0, 50.0])
@pytest.mark.parametrize("labels", ["aaabaaa", "aabacaa", "aaabbaaa"])
def test_windows_that_flicker_split_no_segment_however_sure_they_are(labels, sureness):
    assert found(labels, sureness=sureness) == [("a", 0.0, 2.0 * len(labels) + 2)]


def test_three_windows_that_agree_are_a_segment():
    assert [label for label, *_ in found("aaabbbaaa")] == ["a", "b", "a"]


def test_a_window_that_sees_both_sides_of_a_cut_belongs_to_one_of_them():
    assert [label for label, *_ in found("aaacbbb")] == ["a", "b"]


def test_segments_cover_the_video_without_a_gap_and_lack_what_is_below_the_threshold():
    unsure = scores("aaabbbccc")
    unsure[3:6] = [0.3, 0.4, 0.3]
    each = segments(windows(9), unsure, LABELS)
    assert all(one.end == other.start for one, other in pairwise(each))
    assert (each[0].start, each[-1].end) == (0.0, 20.0)
    assert [s.label for s in segments(windows(9), unsure, LABELS, min_score=0.5)] == ["a", "c"]


def test_the_path_is_the_best_of_all_paths():
    chance = np.random.default_rng(0)
    made = softmax(3 * chance.normal(size=(6, 3)))

    def worth(path):
        changes = sum(one != other for one, other in pairwise(path))
        return sum(np.log(max(made[i, label], 0.03)) for i, label in enumerate(path)) - 3.6 * changes

    every = np.stack(np.meshgrid(*[range(3)] * 6), -1).reshape(-1, 6)
    assert worth(steady(made)) == pytest.approx(max(map(worth, every.tolist())))


def film(labels, *, min_score, top_k=5):
    """The result of windows that are sure of one label each."""
    answers = 8.0 * np.eye(3, dtype=np.float32)[["abc".index(label) for label in labels]]
    each = zip(windows(len(labels)), answers, strict=True)
    parts = [Part(window, tagged(logits=answer), frozenset([window.index])) for window, answer in each]
    return joined(parts, LABELS, top_k=top_k, min_score=min_score)


def test_a_label_of_half_a_film_is_a_label_of_it_whatever_its_mean():
    result = film("aaabbb", min_score=0.6)
    assert [(tag.label, round(tag.score, 1)) for tag in result.labels] == [("a", 0.5), ("b", 0.5)]
    assert result.best_guess is None
    assert {segment.label for segment in result.segments} == {"a", "b"}


def test_the_labels_of_segments_come_before_others_that_are_below_the_threshold():
    assert [tag.label for tag in film("aaaabbbc", min_score=0.6, top_k=1).labels] == ["a"]
    assert [tag.label for tag in film("aaaabbbc", min_score=0.6).labels] == ["a", "b"]


def test_a_film_without_a_segment_above_the_threshold_has_no_label():
    result = film("abc", min_score=0.9)
    assert (result.labels, result.segments) == ((), ())
    assert result.best_guess is not None
