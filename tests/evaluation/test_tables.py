"""The report at a terminal: it fits, it says the weakest first, and many steps and classes stay readable."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from adafocus_cli.evaluation.report import EvaluationReport, EvaluationSetting, StepReport
from adafocus_cli.evaluation.tables import evaluation_layout
from tests.evaluation.test_scoring import MODEL, result, scored


@pytest.fixture
def report():
    return scored(["a", "b", "b"], [(0, result([0], [0])), (1, result([1], [1])), (2, result([0, 1], [0, 1]))]).report()


def test_the_papers_metric_comes_first_and_by_its_name():
    several = scored(["ab", "b"], [(0, result([0], [0])), (1, result([1], [1]))], metric="mAP, all labels").report()
    lines = shown(several, width=120)
    assert lines[1].startswith("mAP, all labels 100.0 % the paper's metric; as papers compute it, over 2 of 7 classes")
    assert lines[1].endswith("5 have no video")
    assert "mAP, one label 100.0 % the first of each video; 1 of 2 have several" in lines
    one = shown(replace(several, metric="mAP, one label"), width=120)
    assert one[1] == "mAP, one label 100.0 % the paper's metric; the first of each video; 1 of 2 have several"


def test_without_a_paper_no_metric_is_called_its(report):
    text = "\n".join(shown(report))
    assert "paper's" not in text
    assert "one label" not in text


def shown(report: EvaluationReport, width: int = 80) -> list[str]:
    setting = EvaluationSetting(model=MODEL, data="data", policy="centre", seed=0, available=3)
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(evaluation_layout(report, setting, seconds=1))
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_what_it_says(report):
    lines = shown(report)
    assert lines[0] == "m on data, with patches in the centre"
    assert "top-1 66.7 % 2 of 3 videos" in lines
    assert "cost 1.00 GMACs per video, 10 % of whole frames" in lines
    assert lines[-2:] == ["b 2 50.0 % 100.0 % 1 × a", "a 1 100.0 % 50.0 %"]


def test_a_cost_that_compares_with_nothing_is_told_alone(report):
    lines = shown(replace(report, cost=replace(report.cost, full_frame_gmacs=None)))
    assert "cost 1.00 GMACs per video" in lines


@pytest.mark.parametrize("steps", [2, 16, 17, 32])
def test_steps_fit(report, steps):
    by_step = tuple(StepReport(step=step, top1=step / steps, top5=1) for step in range(steps))
    lines = shown(replace(report, by_step=by_step))
    first = lines.index("Accuracy after each step") + 1
    assert lines[first:].index("") == (steps if steps <= 16 else (steps + 1) // 2)
    assert sum(line.count("%") for line in lines[first : lines.index("", first)]) == steps


def test_of_many_classes_the_weakest_are_shown(report):
    first = report.classes[0]
    classes = [replace(first, label=f"class {i}", index=i, top1=i / 100, taken_for="x " * 45) for i in range(100)]
    lines = shown(replace(report, classes=tuple(classes[::-1])))
    assert "The 25 weakest of 100 classes; -o FILE lists all" in lines
    shown_classes = [line.split()[1] for line in lines if line.strip().startswith("class ")]
    assert shown_classes[1:] == [str(index) for index in range(25)]


def test_names_that_differ_in_their_end_are_shown_whole(report):
    names = ("an object moves to the left", "an object moves to the right")
    classes = tuple(replace(report.classes[0], label=name, index=i) for i, name in enumerate(names))
    text = " ".join(" ".join(shown(replace(report, classes=classes), width=60)).split())
    assert "to the left" in text
    assert "to the right" in text
