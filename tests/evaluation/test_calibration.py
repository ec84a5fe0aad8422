"""Thresholds for a budget: what shares they let leave, what is chosen, and what the picture shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.evaluation import metrics
from adafocus_cli.evaluation.calibration import Answers, Calibrator, halves, leave, thresholds_of
from adafocus_cli.evaluation.curve import draw
from adafocus_cli.exits import ExitRule
from adafocus_cli.flops import CostMeter
from adafocus_cli.models import FAMILIES
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
    return Answers(logits.astype(np.float32), metrics.truth_table([(place,) for place in shown], CLASSES))


def calibrator(*budgets, family="adafocus-v2", group=4):
    return Calibrator(tiny_model(family), CostMeter(tiny_spec(family)), group=group, budgets=budgets)


@pytest.fixture
def gmacs():
    """What the turns of the tiny model cost so far, in groups of four looks."""
    return np.cumsum([cost.total() / 1e9 for cost in CostMeter(tiny_spec("adafocus-v2")).of_turns(TURNS)])


TURNS = tiny_model("adafocus-v2").turns(4)


@pytest.mark.parametrize("ratio", [0, 0.5, 1, 2.5])
@pytest.mark.parametrize("stops", [range(STEPS), range(3, STEPS, 4)])
def test_the_shares_that_are_left_are_those_of_the_law(ratio, stops):
    answers = made_up(1000)
    left = leave(answers, thresholds_of(ratio, answers.surest, stops))
    expected = np.cumsum(float(ratio) ** np.arange(STEPS))
    for stop in stops:
        assert (left <= stop).sum() == round(1000 * expected[stop] / expected[-1])
    assert set(left) <= set(stops)


def test_thresholds_keep_a_distance_from_the_answers_that_they_are_fitted_on():
    surest = np.array([[4.0, 9], [2, 9], [1, 9], [3, 9]], np.float32)
    assert thresholds_of(1, surest, (0, 1)) == (2.5, -math.inf)


def test_equal_answers_leave_together():
    surest = np.array([[4.0, 9], [2, 9], [2, 9], [1, 9]], np.float32)
    assert thresholds_of(1, surest, (0, 1)) == (2.0, -math.inf)


def test_the_smallest_difference_still_parts_two_answers():
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    threshold = thresholds_of(1, np.array([[low, 9], [high, 9]], np.float32), (0, 1))[0]
    assert low < np.float32(threshold) <= high


def test_nobody_stays_by_chance_where_the_law_wants_all_to_leave():
    """Videos that are less sure than all that were fitted on would else pay for everything."""
    answers = made_up(50)
    doubtful = Answers(answers.logits - 100, answers.truth)
    assert (leave(doubtful, thresholds_of(0, answers.surest, (3, 7, 11, 15))) == 3).all()


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
    assert Answers(logits, metrics.truth_table([(0, 2)], 3)).right.tolist() == [[True, False]]


def test_more_than_everything_skips_nothing(gmacs):
    found = calibrator(gmacs[-1]).calibrate(made_up(40), made_up(40, seed=1))
    (choice,) = found.choices
    assert choice.ratio is None
    assert choice.thresholds == (*[math.inf] * 15, -math.inf)
    assert choice.checked == choice.same_step == found.full
    assert found.full.left == ((15, 40),)


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2", "uni-adafocus"])
@pytest.mark.parametrize("part", [0.7, 0.9])
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
    """Rows and columns, below the legend and right of the axis."""
    rows, columns = np.nonzero((np.asarray(image)[84:526, 84:] == colour).all(axis=2))
    return rows, columns


def test_the_picture_has_the_laws_above_the_same_step_and_ends_where_nothing_is_skipped(gmacs):
    found = calibrator(*gmacs[:2]).calibrate(made_up(400), made_up(400, seed=1))
    image = draw(found)
    blue, grey, black = (pixels_of(image, colour) for colour in (BLUE, GREY, BLACK))
    middle = (blue[1].min() + blue[1].max()) // 2
    assert np.median(blue[0][abs(blue[1] - middle) < 40]) < np.median(grey[0][abs(grey[1] - middle) < 40])
    assert abs(black[1].mean() - max(blue[1].max(), grey[1].max())) < 20


def test_there_is_a_picture_where_everything_is_equally_right(gmacs):
    equal = Answers(np.zeros((4, STEPS, CLASSES), np.float32), np.ones((4, CLASSES), bool))
    assert len(pixels_of(draw(calibrator(gmacs[-1]).calibrate(equal, equal)), BLACK)[0]) > 50
