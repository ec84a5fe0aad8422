"""The same weights looking elsewhere: where, how much that costs, and that it does not depend on the company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adafocus_cli.api import Tagger
from adafocus_cli.errors import UsageError
from adafocus_cli.evaluation.policy_override import with_policy
from adafocus_cli.exits import ExitRule
from adafocus_cli.labels import LabelSet
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.schema import ModelInfo
from adafocus_cli.tagger import source_clip
from tests.test_exits import clip_of
from tests.tiny import IN_FRAME, tiny_model, tiny_tagger

SIDE = 64
PLACES = ("random", "centre", "full")
CHOOSING_FRAMES = ("uni-adafocus", "uni-adafocus-tsm", "uni-adafocus-x3d")


def boxes(tagger, seeds=(0, 1, 2), rule=None):
    results = tagger.tag([clip_of(tagger, seed) for seed in seeds], rule=rule)
    return [np.array([look.box for look in result.trajectory]) for result in results]


def sides(boxes):
    return boxes[:, 2:] - boxes[:, :2]


@pytest.mark.parametrize("family", IN_FRAME)
def test_the_centre_is_the_centre_at_the_learned_size(family):
    tagger = tiny_tagger(family)
    for centred, learned in zip(boxes(with_policy(tagger, "centre")), boxes(tagger), strict=True):
        np.testing.assert_allclose((centred[:, :2] + centred[:, 2:]) / 2, SIDE / 2, atol=1e-5)
        np.testing.assert_allclose(sides(centred), sides(learned), atol=1e-4)


@pytest.mark.parametrize("family", IN_FRAME)
def test_random_places_differ_between_clips_and_seeds_and_are_the_same_again_in_any_company(family):
    tagger = tiny_tagger(family)
    at_random = with_policy(tagger, "random", seed=1)
    together, learned = boxes(at_random), boxes(tagger)
    alone = [boxes(at_random, [seed])[0] for seed in range(3)]
    in_lanes = boxes(with_policy(tiny_tagger(family, lanes=2), "random", seed=1))
    for clip in range(3):
        np.testing.assert_array_equal(together[clip], alone[clip])
        np.testing.assert_allclose(together[clip], in_lanes[clip], atol=1e-3)  # learned sizes differ in the last bits
        np.testing.assert_allclose(sides(together[clip]), sides(learned[clip]), atol=1e-4)
        assert (together[clip] >= 0).all()
        assert (together[clip] <= SIDE + 1e-4).all()
    assert not np.allclose(together[0], together[1])
    assert not np.allclose(together[0], boxes(with_policy(tagger, "random", seed=2))[0])


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2", "uni-adafocus"])
@pytest.mark.parametrize("group", [1, 4, 9])
def test_random_places_do_not_depend_on_the_exits(family, group):
    """Thresholds that nothing reaches: in turns, but to the end."""
    tagger = with_policy(tiny_tagger(family), "random")
    never = ExitRule(thresholds=(np.inf,) * tagger._steps, group=group)
    for whole, in_turns in zip(boxes(tagger), boxes(tagger, rule=never), strict=True):
        np.testing.assert_allclose(whole, in_turns, atol=1e-3)


def test_random_places_cover_the_frame_evenly():
    at_random = with_policy(tiny_tagger("adafocus-v2"), "random")
    corners = np.concatenate([found[:, :2] for found in boxes(at_random, range(20))]) / (SIDE - 32)
    assert len(np.unique(corners, axis=0)) == len(corners) == 320
    np.testing.assert_allclose(corners.mean(axis=0), 0.5, atol=0.05)
    np.testing.assert_allclose(corners.std(axis=0), np.sqrt(1 / 12), atol=0.03)


@pytest.mark.parametrize("family", ["adafocus-v1-tsm", "adafocus-v2-tsm", "uni-adafocus-tsm", "uni-adafocus-x3d"])
def test_clip_wise_networks_keep_one_random_place(family):
    (found,) = boxes(with_policy(tiny_tagger(family), "random"), [0])
    assert (found == found[0]).all()


@pytest.mark.parametrize("policy", [*PLACES, "random-frames"])
def test_each_of_several_views_is_looked_into_by_itself(policy):
    runtime = TorchRuntime(tiny_model("uni-adafocus-x3d", views=3), device="cpu")
    info = ModelInfo(name="m", family="uni-adafocus-x3d", dataset=None, sha256="0" * 64, patch_size=32)
    names = LabelSet(tuple("abcdefg"), "numbers")
    elsewhere = with_policy(Tagger(runtime, names, lambda: info), policy).runtime
    clip = np.random.default_rng(0).integers(0, 256, (16, SIDE, 3 * SIDE, 3), np.uint8)
    (turn,) = elsewhere.model.turns()
    gaze = elsewhere.locate(turn, elsewhere.glance(elsewhere.upload([clip])), {})
    views = gaze.boxes[0].view(3, -1, 4)
    for view, found in enumerate(views - SIDE * torch.arange(3)[:, None, None] * torch.tensor((1, 0, 1, 0))):
        assert (found[:, :2] >= 0).all(), view
        assert (found[:, 2:] <= SIDE + 1e-4).all(), view
        if policy == "centre":
            torch.testing.assert_close((found[:, :2] + found[:, 2:]) / 2, torch.full((len(found), 2), SIDE / 2))
    frames, boxes = torch.from_numpy(clip[:3]), views[:, 0]
    shown = elsewhere.patches(frames, boxes)
    if policy == "full":
        squares = [frame[:, SIDE * view : SIDE * (view + 1)] for view, frame in enumerate(frames)]
        assert shown.equal(elsewhere.model.normalised(torch.stack(squares)))
    else:
        assert shown.shape == (3, 3, 32, 32)


@pytest.mark.parametrize("family", IN_FRAME)
def test_whole_frames_cost_what_whole_frames_cost(family):
    tagger = tiny_tagger(family)
    (learned,), (full,) = (t.tag([clip_of(tagger, 0)]) for t in (tagger, with_policy(tagger, "full")))
    assert full.cost.stages["focus"] == full.cost.full_frame_gmacs == learned.cost.full_frame_gmacs
    assert {**full.cost.stages, "focus": 0} == {**learned.cost.stages, "focus": 0}
    assert full.model.patch_size == SIDE
    assert {look.box for look in full.trajectory} == {(0, 0, SIDE, SIDE)}
    assert tagger.spec.patch_size == 32, "the model that was given stays as it was"


@pytest.mark.parametrize("family", IN_FRAME)
def test_only_the_places_change(family):
    tagger = tiny_tagger(family)
    (learned,) = tagger.tag([clip_of(tagger, 0)])
    for policy in PLACES:
        (other,) = with_policy(tagger, policy).tag([clip_of(tagger, 0)])
        assert [look.frame for look in other.trajectory] == [look.frame for look in learned.trajectory]
        assert not np.allclose(other.logits, learned.logits)
        if policy != "full":
            assert other.cost == learned.cost
            assert other.model == learned.model
    assert with_policy(tagger, "learned") is tagger


def frames(tagger, seeds, rule=None):
    results = tagger.tag([clip_of(tagger, seed) for seed in seeds], rule=rule)
    return [[look.frame for look in result.trajectory] for result in results]


@pytest.mark.parametrize("family", CHOOSING_FRAMES)
def test_random_frames_are_in_order_and_the_same_again_in_any_company_and_in_turns(family):
    tagger = tiny_tagger(family)
    at_random = with_policy(tagger, "random-frames", seed=1)
    found = frames(at_random, [0, 1])
    assert found == [frames(at_random, [seed])[0] for seed in (0, 1)]
    assert found == frames(at_random, [0, 1], ExitRule(thresholds=(np.inf,) * tagger._steps, group=5))
    assert found == [sorted(chosen) for chosen in found]
    assert found != frames(tagger, [0, 1])
    assert found != frames(with_policy(tagger, "random-frames", seed=2), [0, 1])


def test_random_frames_are_any_of_the_candidates_and_none_twice():
    tagger = tiny_tagger("uni-adafocus")
    count = np.zeros(80, int)
    for chosen in frames(with_policy(tagger, "random-frames"), [4, 9, 14, 19]):  # all have 68 frames
        np.add.at(count, chosen, 1)
        assert len(set(chosen)) == len(chosen) == 16
    assert set(count.nonzero()[0]) <= set(tagger.family.plan(68).frames)
    assert min(count[:34].sum(), count[34:].sum()) > 20


def test_boxes_in_random_frames_are_those_that_the_policy_has_for_them():
    tagger = tiny_tagger("uni-adafocus")
    (learned,), (other,) = (t.tag([clip_of(tagger, 0)]) for t in (tagger, with_policy(tagger, "random-frames")))
    assert other.cost == learned.cost
    box_in = {look.frame: look.box for look in learned.trajectory}
    shared = [look for look in other.trajectory if look.frame in box_in]
    assert shared, "16 of 48 frames each"
    for look in shared:
        np.testing.assert_allclose(look.box, box_in[look.frame], atol=1e-4)


def test_a_family_that_does_not_choose_its_frames_has_no_others_to_look_at():
    with pytest.raises(UsageError, match="adafocus-v2 does not choose its frames"):
        with_policy(tiny_tagger("adafocus-v2"), "random-frames")


def test_a_family_that_looks_into_the_source_has_no_whole_frames_to_see():
    with pytest.raises(UsageError, match="give --policy learned, random or centre"):
        with_policy(tiny_tagger("evidence"), "full")


def noise(family, height, width):
    return source_clip(np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8), family)


def test_looks_into_the_source_go_elsewhere_and_the_glance_is_asked_about_that_place(monkeypatch):
    tagger = tiny_tagger("evidence")
    # Else the answer is the middle square's, which stays where it is.
    rule = replace(tagger.family.rule, middle=tagger.family.rule.place)
    monkeypatch.setattr(tagger.family, "rule", rule)
    (learned,) = tagger.tag([noise(tagger.family, 192, 320)])
    places = np.array([look.box for look in learned.trajectory])
    for policy in ("centre", "random"):
        (other,) = with_policy(tagger, policy).tag([noise(tagger.family, 192, 320)])
        elsewhere = np.array([look.box for look in other.trajectory])
        np.testing.assert_allclose(sides(elsewhere), sides(places), atol=1e-3)
        assert [look.frame for look in other.trajectory] == [look.frame for look in learned.trajectory]
        assert other.cost == learned.cost
        assert not np.allclose(elsewhere, places)
        assert not np.allclose(other.logits, learned.logits)
        if policy == "centre":
            np.testing.assert_allclose((elsewhere[:, :2] + elsewhere[:, 2:]) / 2, [[160, 96]] * 6, atol=1e-3)


def test_random_places_of_clips_of_different_shapes_go_together_in_turns():
    at_random = with_policy(tiny_tagger("evidence"), "random")
    never = ExitRule(thresholds=(np.inf,) * 6, group=2)

    def clips():
        return [noise(at_random.family, *size) for size in ((96, 160), (160, 96))]

    together = at_random.tag(clips(), rule=never)
    alone = [at_random.tag([clip], rule=never)[0] for clip in clips()]
    assert [result.trajectory for result in together] == [result.trajectory for result in alone]
