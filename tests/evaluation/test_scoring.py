"""From results to a report, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.evaluation.report import EvaluationSetting
from adafocus_cli.evaluation.scoring import Scorer
from adafocus_cli.labels import LabelSet
from adafocus_cli.output.writers import dumps
from adafocus_cli.schema import Cost, Exit, Failure, ModelInfo, RunInfo, VideoInfo, VideoResult

NAMES = LabelSet(("a", "b", "c", "d", "e", "f", "g"), "names")
MODEL = ModelInfo(name="m", family="adafocus-v2", dataset=None, sha256="0" * 64, patch_size=32)
VIDEO = VideoInfo(
    path="v", width=8, height=8, fps=None, frames=9, duration=None, codec="", rotation=0, decoder=""
)  # fmt: skip


def result(*answers, gmacs=1.0, steps=None, frames=4):
    """The answer of each step, as the classes from the surest to the least sure."""
    logits = np.zeros((len(answers), len(NAMES)), np.float32)
    for row, order in zip(logits, answers, strict=True):
        row[list(order)] = np.arange(len(order), 0, -1)
    return VideoResult(
        video=VIDEO,
        model=MODEL,
        labels=(),
        cost=Cost({"glance": gmacs / 4, "focus": 3 * gmacs / 4}, 10.0),
        trajectory=(),
        exit=Exit(len(answers) - 1, steps or len(answers)),
        frames_decoded=frames,
        runtime=RunInfo(device="cpu", precision="fp32", runtime="", seconds={"decode": 0.5, "infer": 1.0}),
        logits=logits[-1],
        step_logits=logits,
    )


def scored(labels, results, *, metric=None, min_score=0.0):
    samples = tuple(Sample(f"{place}.mp4", label[0], tuple(label[1:])) for place, label in enumerate(labels))
    scorer = Scorer(Dataset(samples, "data"), NAMES, metric=metric, min_score=min_score)
    for place, entry in results:
        scorer.add(place, entry)
    return scorer


def test_no_label_is_wrong_everywhere():
    """Its surest class has e² of e² + e + 5 after the first step and the second, and no label after them."""
    unsure, sure = result([1, 0], [1, 0]), result([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    kept = scored(["b", "a"], [(0, unsure), (1, sure)]).report()
    found = scored(["b", "a"], [(0, unsure), (1, sure)], min_score=0.6).report()
    assert (kept.top1, kept.top5) == (1.0, 1.0)
    assert (found.top1, found.top5) == (0.5, 0.5)
    assert [step.top1 for step in found.by_step] == [0.5, 0.5]
    assert {each.label: each.top1 for each in found.classes} == {"a": 1.0, "b": 0.0}
    assert found.confusion.labels == ("a",), "who says nothing takes it for nothing"


def test_accuracy_and_classes():
    """In any order; the classes that no video shows count for nothing."""
    results = [(2, result([1, 0])), (0, result([0])), (3, result([2, 3, 4, 5, 6, 0, 1])), (1, result([1, 0]))]
    report = scored(["a", "a", "b", "b"], results).report()
    assert (report.videos, report.top1, report.top5) == (4, 0.5, 0.75)
    first, second = report.classes
    assert (first.label, first.videos, first.top1, first.taken_for, first.taken_for_videos) == ("a", 2, 0.5, "b", 1)
    assert (second.label, second.videos, second.top1, second.taken_for) == ("b", 2, 0.5, "c")
    # The scores of a rank its videos 0 first and then 1 and 2, which are equal; those of b rank 1 and 2 first.
    assert (first.ap_published, second.ap_published) == (1, pytest.approx((1 / 2 + 2 / 4) / 2))
    assert first.ap_scikit_learn == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert report.map_published == pytest.approx((1 + 1 / 2) / 2)
    assert report.confusion.labels == ("a", "b", "c")
    assert report.confusion.counts == ((1, 1, 0), (0, 1, 1), (0, 0, 0))


def test_any_class_that_a_video_shows_is_right():
    report = scored(["ab", "ab"], [(0, result([1])), (1, result([2]))]).report()
    assert report.top1 == 0.5
    assert [(entry.label, entry.videos) for entry in report.classes] == [("a", 2), ("b", 2)]
    assert report.confusion.counts == ((0, 0, 1), (0, 1, 0), (0, 0, 0))


def test_steps_where_nothing_is_skipped():
    results = [(0, result([1], [0], [0])), (1, result([1, 0], [1, 0], [0]))]
    report = scored(["a", "a"], results).report()
    assert [(step.step, step.top1, step.top5) for step in report.by_step] == [(0, 0, 1), (1, 0.5, 1), (2, 1, 1)]
    assert report.exits == {2: 2}


def test_exits_where_clips_are_left_early():
    results = [(0, result([0], steps=3, gmacs=1, frames=2)), (1, result([1], [0], [0], gmacs=3))]
    report = scored(["a", "a"], results).report()
    assert report.by_step == ()
    assert (report.exits, report.steps) == ({0: 1, 2: 1}, 3)
    assert (report.cost.gmacs, report.cost.stages, report.cost.frames_decoded) == (2, {"glance": 0.5, "focus": 1.5}, 3)


def test_failures_are_left_out_and_listed_in_order():
    broken = [Failure(path=name, stage="open", type="VideoError", message=f"{name}: no") for name in "xy"]
    scorer = scored(["a", "a", "b"], [(2, broken[1]), (1, result([0])), (0, broken[0])])
    report = scorer.report()
    assert report.failures == tuple(broken)
    assert (report.videos, report.top1, len(report.classes)) == (1, 1, 1)
    assert scored(["a"], [(0, broken[0])]).report() is None


def test_the_record_is_json_and_says_what_its_numbers_are_over():
    report = scored(["a"], [(0, result([0], [0]))]).report()
    setting = EvaluationSetting(model=MODEL, data="data", policy="learned", seed=0, available=1)
    record = json.loads(dumps(report.to_dict(setting, seconds=1.23456)))
    assert record["schema"] == "adafocus-evaluation/1"
    assert record["model"]["name"] == "m"
    assert record["videos"] == {"tagged": 1, "failed": 0}
    assert record["accuracy"]["over"] == "the videos that were tagged"
    assert record["accuracy"]["mean_average_precision"] == {"as_published": 1, "scikit_learn": 1}
    assert record["confusion"] == {"indices": [0], "labels": ["a"], "counts": [[1]]}
    assert record["exits"] == {"of": 2, "videos": [{"step": 1, "videos": 1}]}


@pytest.mark.parametrize(
    ("metric", "value"),
    [("top-1", 2 / 3), ("mAP, all labels", (1 + 5 / 6 + 1 / 2) / 3), ("mAP, one label", (1 + 1 + 1 / 2) / 3)],
)
def test_the_papers_metric_is_named_with_its_value(metric, value):
    """The first video shows b, too, where the others are surer of it: all labels have (1/1 + 2/3) / 2 there."""
    results = [(0, result([0, 2, 1])), (1, result([1, 0])), (2, result([1, 2]))]
    report = scored(["ab", "b", "c"], results, metric=metric).report()
    setting = EvaluationSetting(model=MODEL, data="data", policy="learned", seed=0, available=3)
    accuracy = report.to_dict(setting, seconds=1)["accuracy"]
    assert accuracy["paper"] == {"metric": metric, "value": pytest.approx(value, abs=1e-6)}
    assert accuracy["videos_with_several_labels"] == 1


def test_classes_that_no_video_shows_are_counted():
    report = scored(["a", "b"], [(0, result([0])), (1, result([1]))]).report()
    setting = EvaluationSetting(model=MODEL, data="data", policy="learned", seed=0, available=2)
    accuracy = report.to_dict(setting, seconds=1)["accuracy"]
    assert accuracy["classes"] == {"averaged": 2, "without_videos": 5}
    assert accuracy["paper"] is None


def test_a_class_that_is_not_known_is_said_before_the_work():
    with pytest.raises(UsageError, match="class 'x'"):
        scored(["x"], [])
