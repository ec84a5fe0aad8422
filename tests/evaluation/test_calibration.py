"""Thresholds for a budget: what shares they let leave, what is chosen, and what the picture shows."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.evaluation import scoring
from adafocus_cli.evaluation.calibration import (
    AUTHORS_LAWS,
    Answers,
    Calibrator,
    Stops,
    halves,
    law_of,
    leave,
    thresholds_of,
)
from adafocus_cli.evaluation.pictures import draw_curve
from adafocus_cli.exits import ExitRule
from adafocus_cli.flops import CostMeter
from adafocus_cli.models import FAMILIES
from tests.oracle import FOLDER
from tests.test_exits import clip_of
from tests.tiny import CLASSES, tiny_model, tiny_spec, tiny_tagger

STEPS = 16


def made_up(videos, *, seed=0, steps=STEPS):
    """Later steps are the better ones, and surer where they are right."""
    chance = np.random.default_rng(seed)
    shown = chance.integers(0, CLASSES, videos)
    logits = chance.normal(0, 2, (videos, steps, CLASSES))
    easy = chance.normal(0, 2, videos)
    logits[np.arange(videos), :, shown] += np.linspace(1, 5, steps) + easy[:, None]
    return Answers(logits.astype(np.float32), scoring.truth_table([(place,) for place in shown], CLASSES))


def calibrator(*budgets, family="adafocus-v2", group=4, law="auto"):
    return Calibrator(tiny_model(family), CostMeter(tiny_spec(family)), group=group, budgets=budgets, law=law)


@pytest.fixture
def gmacs():
    """What the turns of the tiny model cost so far, in groups of four looks."""
    never = ExitRule(thresholds=(*(math.inf,) * 15, -math.inf), group=4)
    return np.array(Stops.of(tiny_model("adafocus-v2"), CostMeter(tiny_spec("adafocus-v2")), never).gmacs)


SINGLES = tiny_model("adafocus-v2").turns(1)
COSTS = CostMeter(tiny_spec("uni-adafocus-tsm")).of_turns(tiny_model("uni-adafocus-tsm").turns(1))


class TestAuthorsLaws:
    """What their own code made of made-up logits; `exits-*.npz` has one file a law."""

    @pytest.fixture(params=sorted(FOLDER.glob("exits-*.npz")), ids=lambda path: path.stem)
    def case(self, request):
        with np.load(request.param) as file:
            return SimpleNamespace(name=request.param.stem, **file)

    @pytest.fixture(params=["logit", "entropy"])
    def theirs(self, case, request):
        """Their results by one criterion."""
        prefix = "entropy_" if request.param == "entropy" else ""
        names = ("thresholds", "left", "mean_cost", "metric")
        if not hasattr(case, prefix + "thresholds"):
            pytest.skip("no results by this criterion")
        results = {name: getattr(case, prefix + name) for name in names}
        return SimpleNamespace(criterion=request.param, **results)

    def law(self, case):
        """By the family in the file's name; X3D, which is no family here, has the law of the other with two exits."""
        families = {"v2": "adafocus-v2", "uni": "uni-adafocus", "uni-tsm": "uni-adafocus-tsm", "uni-x3d": None}
        kind = next(kind for kind in sorted(families, key=len, reverse=True) if case.name.startswith(f"exits-{kind}"))
        return AUTHORS_LAWS[families[kind] or "uni-adafocus-tsm"]

    def answers(self, case, part, criterion):
        labels = getattr(case, f"{part}_labels")
        logits = getattr(case, f"{part}_logits")
        shown = [[label for label in np.atleast_1d(row).tolist() if label >= 0] for row in labels]
        metric = "mAP, all labels" if case.metric_name == "mAP" else "top-1"
        return Answers(logits, scoring.truth_table(shown, logits.shape[-1]), criterion, metric)

    def test_files_are_found(self):
        assert sorted(FOLDER.glob("exits-*.npz"))

    def test_ratios(self, case):
        assert self.law(case).ratios == pytest.approx(case.ratios.tolist())

    def test_thresholds_videos_that_leave_costs_and_accuracies(self, case, theirs):
        law = self.law(case)
        fitting, checking = (self.answers(case, part, theirs.criterion) for part in ("fit", "test"))
        exits = fitting.logits.shape[1]
        stops = Stops(tuple(range(exits)), tuple(case.exit_cost.astype(float)))
        for number, ratio in enumerate(law.ratios):
            thresholds = thresholds_of(law.leaving(ratio, exits, len(fitting)), fitting.certainty)
            assert np.clip(thresholds, -1e8, 1e8) == pytest.approx(theirs.thresholds[number], abs=1e-6)
            left = leave(checking, thresholds)
            assert np.bincount(left, minlength=exits).tolist() == theirs.left[number].tolist()
            assert stops.price(checking, left).mean() == pytest.approx(theirs.mean_cost[number], rel=1e-6)
            # Theirs is a mean in float32.
            assert 100 * checking.accuracy(left) == pytest.approx(theirs.metric[number], abs=1e-5)
        everything = checking.accuracy(np.full(len(checking), exits - 1))
        assert 100 * everything == pytest.approx(float(case.full_metric), abs=1e-5)


def test_a_share_that_is_a_whole_number_is_rounded_as_torch_does():
    """Of 320 videos 0.6 ** 0 / 1.6 are 200."""
    assert AUTHORS_LAWS["uni-adafocus-tsm"].leaving(0.6, 2, 320) == (200,)
    assert AUTHORS_LAWS["adafocus-v2"].leaving(1.0, 16, 400) == (25,) * 15


def test_what_the_shares_leave_over_stays_to_the_last_exit():
    assert AUTHORS_LAWS["adafocus-v2"].leaving(1.0, 16, 15) == (0,) * 15


def test_the_threshold_is_the_number_of_the_last_video_that_leaves():
    sure = np.array([[4.0, 9], [2, 9], [1, 9], [3, 9]], np.float32)
    assert thresholds_of([2], sure) == (3.0, -math.inf)
    assert thresholds_of([0], sure) == (math.inf, -math.inf)


def test_a_video_that_has_left_does_not_count_again():
    sure = np.array([[4.0, 9, 0], [2, 8, 0], [1, 7, 0]], np.float32)
    assert thresholds_of([1, 1], sure) == (4.0, 8.0, -math.inf)


def test_every_authors_exit_of_a_family_is_one_of_ours():
    """Uni has one for its glance, whose first fifteen answers are none."""
    for family, steps in {
        "adafocus-v1": range(16),
        "adafocus-v2": range(16),
        "uni-adafocus": range(15, 32),
        "uni-adafocus-tsm": range(2),
    }.items():
        answers = [made_up(400, seed=seed, steps=steps.stop) for seed in range(2)]
        gmacs = calibrator(1e3, family=family, group=1).full_gmacs
        found = calibrator(0.99 * gmacs, family=family, group=1).calibrate(*answers)
        thresholds = found.choices[0].thresholds
        assert [step for step, number in enumerate(thresholds) if number < math.inf] == list(steps)


@pytest.mark.parametrize("group", [1, 4])
def test_what_a_law_lets_leave_within_a_group_leaves_at_its_end(group, gmacs):
    answers = made_up(1000)
    found = calibrator(gmacs[2], group=group)
    leaving = np.cumsum(AUTHORS_LAWS["adafocus-v2"].leaving(1.2, 16, 1000))
    left = leave(answers, found._thresholds(1.2, answers))
    for stop in range(group - 1, 15, group):
        assert (left <= stop).sum() == leaving[stop]
    assert set(left) == set(range(group - 1, 16, group))


@pytest.mark.parametrize("family", AUTHORS_LAWS)
def test_ratios_are_those_of_the_authors_and_between_them_and_beyond_if_asked(family):
    theirs = AUTHORS_LAWS[family].ratios
    auto, wide = (law_of(family, name).ratios for name in ("auto", "wide"))
    assert set(theirs) <= set(auto) & set(wide)
    assert (min(auto), max(auto)) == (min(theirs), max(theirs))
    assert (min(wide), max(wide)) == (1 / 128, max(128, *theirs))
    assert max(high / low for low, high in pairwise(auto)) < 1.1


def test_budgets_near_everything_differ_for_two_exits():
    """With ratios up to 3.9, all of these had the same mean cost."""
    fitting, checking = (made_up(2000, seed=seed, steps=2) for seed in range(2))
    first, full = (sum(cost.total() for cost in COSTS[:turns]) / 1e9 for turns in (1, 2))
    shares = [(budget - 2.4) / (18.84 - 2.4) for budget in (10, 16, 17, 18, 18.5)]
    budgets = [first + share * (full - first) for share in shares]
    found = calibrator(*budgets, family="uni-adafocus-tsm", group=1).calibrate(fitting, checking)
    spent = [(choice.fitted.gmacs - first) / (full - first) for choice in found.choices]
    assert spent == pytest.approx(shares, abs=0.02)


def test_a_budget_below_all_laws_leaves_everything_at_the_first_exit(gmacs):
    """Also videos that are less sure than all that were fitted on."""
    singles = np.cumsum([cost.total() / 1e9 for cost in CostMeter(tiny_spec("adafocus-v2")).of_turns(SINGLES)])
    (choice,) = calibrator(1.01 * singles[0], group=1).calibrate(made_up(100), made_up(100, seed=1)).choices
    assert choice.ratio == 0
    assert choice.thresholds[0] == -math.inf
    assert choice.checked.left == ((0, 100),)


def test_laws_are_chosen_by_the_metric_of_the_data_set():
    """Equal in the first answers, which top-1 counts, and better ranked at the later step, which mAP counts."""
    truth = np.zeros((8, CLASSES), bool)
    truth[:4, 0] = truth[4:, 1] = True
    logits = np.zeros((8, 2, CLASSES), np.float32)
    logits[:, :, 2] = 5 + np.arange(8)[:, None]  # always first, always wrong
    logits[:4, 1, 0] = logits[4:, 1, 1] = 1
    logits[4:, 0, 0] = logits[:4, 0, 1] = 1
    first, full = (sum(cost.total() for cost in COSTS[:turns]) / 1e9 for turns in (1, 2))
    budget = first + 0.81 * (full - first)
    spent = {}
    for metric in ("top-1", "mAP, all labels"):
        answers = Answers(logits, truth, metric=metric)
        (choice,) = calibrator(budget, family="uni-adafocus-tsm", group=1).calibrate(answers, answers).choices
        spent[metric] = choice.fitted.gmacs
    assert spent["top-1"] == pytest.approx(first + (full - first) / 8)  # the cheapest law: one floor is left over
    assert spent["mAP, all labels"] > first + 0.5 * (full - first)


def test_one_label_a_video_is_measured_as_such():
    logits = np.zeros((3, 1, 3), np.float32)
    logits[0, 0] = (0, 9, 0)
    logits[1, 0] = (9, 0, 0)
    logits[2, 0] = (0, 1, 5)
    shown = [(0, 1), (0,), (1, 2)]
    answers = Answers(
        logits,
        scoring.truth_table(shown, 3),
        metric="mAP, one label",
        one_label=scoring.truth_table([labels[:1] for labels in shown], 3),
    )
    left = np.zeros(3, int)
    assert answers.accuracy(left) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert replace(answers, metric="mAP, all labels").accuracy(left) != answers.accuracy(left)


def test_halves_have_their_share_of_every_class_and_follow_the_seed():
    labels = ["a"] * 10 + ["b"] * 6 + ["c"] * 5
    first, second = halves(labels, 1)
    assert sorted(first + second) == list(range(21))
    assert [sum(labels[place] == name for place in first) for name in "ab"] == [5, 3]
    assert (len(first), len(second)) == (10, 11)
    assert halves(labels, 1) == (first, second) != halves(labels, 2)


def test_a_larger_budget_is_no_worse_on_the_half_that_it_is_fitted_on(gmacs):
    budgets = [gmacs[0], gmacs[0] * 1.1, gmacs[0] * 1.5, gmacs[1], gmacs[2]]
    found = calibrator(*budgets).calibrate(made_up(400), made_up(400, seed=1))
    assert [choice.fitted.gmacs <= choice.budget + 1e-9 for choice in found.choices] == [True] * 5
    right = [choice.fitted.top1 for choice in found.choices]
    assert right == sorted(right)
    assert right[-1] > right[0]
    for choice in found.choices:
        assert choice.checked.gmacs == pytest.approx(choice.fitted.gmacs, rel=0.1)
        assert sum(videos for _, videos in choice.checked.left) == 400
        assert {step for step, _ in choice.checked.left} <= {3, 7, 11, 15}


def test_the_outcome_is_that_of_the_videos_one_by_one(gmacs):
    fitting, checking = made_up(60), made_up(40, seed=1)
    (choice,) = calibrator(gmacs[1]).calibrate(fitting, checking).choices
    cost = right = 0
    for logits, truth in zip(checking.logits, checking.truth, strict=True):
        rule = ExitRule(thresholds=choice.thresholds)
        step = rule.first_exit(range(STEPS), logits)
        cost += gmacs[step // 4]
        right += truth[logits[step].argmax()]
    assert (choice.checked.gmacs, choice.checked.top1) == (pytest.approx(cost / 40), right / 40)


def test_a_video_is_right_if_it_shows_the_first_class_among_others():
    logits = np.zeros((1, 2, 3), np.float32)
    logits[0, 0, 2] = logits[0, 1, 1] = 1
    assert Answers(logits, scoring.truth_table([(0, 2)], 3)).right.tolist() == [[True, False]]


def test_more_than_everything_skips_nothing(gmacs):
    found = calibrator(gmacs[-1]).calibrate(made_up(40), made_up(40, seed=1))
    (choice,) = found.choices
    assert choice.ratio is None
    assert choice.thresholds == (*[math.inf] * 15, -math.inf)
    assert choice.checked == choice.same_step == found.full
    assert found.full.left == ((15, 40),)


@pytest.mark.parametrize(
    ("family", "part"),
    [  # the glance of Uni alone is four fifths of what it costs
        *product(["adafocus-v1", "adafocus-v2"], [0.7, 0.9]),
        *product(["uni-adafocus"], [0.85, 0.9]),
    ],
)
def test_the_same_step_for_all_is_what_a_cap_gives(family, part):
    tagger = tiny_tagger(family)
    (whole,) = tagger.tag([clip_of(tagger, 1)])
    budget = part * whole.cost.gmacs
    (capped,) = tagger.tag([clip_of(tagger, 1)], rule=ExitRule(max_gmacs=budget))
    steps = whole.exit.of
    found = calibrator(budget, family=family).calibrate(made_up(10, steps=steps), made_up(10, seed=1, steps=steps))
    assert found.choices[0].same_step.left == ((capped.exit.step, 10),)
    assert found.choices[0].same_step.gmacs == pytest.approx(capped.cost.gmacs)
    assert found.full.gmacs == pytest.approx(whole.cost.gmacs)


def test_budgets_below_the_first_answers_name_the_least(gmacs):
    with pytest.raises(UsageError, match=rf"a budget of 1e-05 GMACs: .* --group 4, cost {gmacs[0]:.4g}; give --bud"):
        calibrator(gmacs[1], 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_families_with_several_answers_have_exits(family):
    if len(tiny_model(family).turns()[-1].answers) > 1:
        assert calibrator(1e3, family=family).steps > 1
    else:
        with pytest.raises(ModelError, match=f"{family} gives one answer a video, so there is no exit to calibrate"):
            calibrator(1e3, family=family)


BLUE, GREY, BLACK = (23, 85, 160), (160, 160, 160), (30, 30, 30)


def pixels_of(image, colour):
    """Rows and columns, below the legend and right of the axis; the edge of a line is a little paler."""
    away = np.abs(np.asarray(image)[84:526, 84:].astype(int) - colour)
    rows, columns = np.nonzero((away < 30).all(axis=2))
    return rows, columns


def test_the_picture_has_the_laws_above_the_same_step_and_ends_where_nothing_is_skipped(gmacs):
    found = calibrator(*gmacs[:2]).calibrate(made_up(400), made_up(400, seed=1))
    image = draw_curve(found)
    blue, grey, black = (pixels_of(image, colour) for colour in (BLUE, GREY, BLACK))
    middle = (blue[1].min() + blue[1].max()) // 2
    assert np.median(blue[0][abs(blue[1] - middle) < 40]) < np.median(grey[0][abs(grey[1] - middle) < 40])
    assert abs(black[1].mean() - max(blue[1].max(), grey[1].max())) < 20


def test_there_is_a_picture_where_everything_is_equally_right(gmacs):
    equal = Answers(np.zeros((4, STEPS, CLASSES), np.float32), np.ones((4, CLASSES), bool))
    assert len(pixels_of(draw_curve(calibrator(gmacs[-1]).calibrate(equal, equal)), BLACK)[0]) > 50
