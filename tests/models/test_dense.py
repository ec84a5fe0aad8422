"""Whole clips through one network: which frames and squares are seen, how views are averaged, what SFC keeps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from adafocus_cli.errors import UsageError
from adafocus_cli.flops import CostMeter
from adafocus_cli.models import FAMILIES, build, default_spec, dense, with_views
from adafocus_cli.models.sfc import SFC, around
from adafocus_cli.nn.compression import FeatureCompression
from adafocus_cli.spec import sees_whole_frames
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.pictures import preprocess
from tests.test_exits import clip_of
from tests.tiny import tiny_model, tiny_spec, tiny_tagger


def scores(logits):
    return torch.tensor(logits).softmax(-1).numpy()


def test_families_that_see_whole_frames_are_told_by_their_names():
    whole = {name for name, family in FAMILIES.items() if not (family.cuts_patches or family.looks_at_source)}
    assert {name for name in FAMILIES if sees_whole_frames(name)} == whole


class TestViews:
    def test_one_is_the_middle_and_ten_go_from_start_to_end(self):
        model = build(tiny_spec("slow-r50"))
        assert model.plan(300).frames == tuple(range(121, 178, 8))
        ten = build(with_views(tiny_spec("slow-r50"), 10)).plan(300).frames
        assert len(ten) == 80
        assert (ten[:8], ten[-8:]) == (tuple(range(0, 57, 8)), tuple(range(243, 300, 8)))
        assert model.plan(10).frames == (0, 8, 9, 9, 9, 9, 9, 9)

    def test_one_that_is_drawn_begins_anywhere(self):
        model, chance = build(tiny_spec("slow-r50")), np.random.default_rng(0)
        drawn = [model.plan(60, chance).frames for _ in range(60)]
        assert {frames[0] for frames in drawn} == {0, 1, 2, 3}
        assert {later - earlier for frames in drawn for earlier, later in pairwise(frames)} == {8}
        assert model.plan(10, chance).frames == model.plan(10).frames

    def test_thirty_see_both_ends_of_the_longer_side(self):
        picture = np.zeros((100, 300, 3), np.uint8)
        picture[:, :100], picture[:, 200:] = 50, 200
        squares = preprocess(picture, Framing(64, 64, crops=3))
        assert squares.shape == (64, 192, 3)
        assert [part.mean() for part in np.split(squares, 3, axis=1)] == pytest.approx([50, 0, 200], abs=2)
        upright = preprocess(picture.transpose(1, 0, 2), Framing(64, 64, crops=3))
        assert [part.mean() for part in np.split(upright, 3, axis=1)] == pytest.approx([50, 0, 200], abs=2)
        assert np.array_equal(preprocess(picture, Framing(64, 64)), squares[:, 64:128])

    def test_scores_are_the_mean_of_the_views_scores(self):
        one, thirty = tiny_model("slow-r50"), tiny_model("slow-r50", views=30)
        frames = torch.rand(1, 80, 3, 64, 192)
        with torch.inference_mode():
            together = thirty.classify(thirty.turns()[0], thirty.glance(frames), None, {})[0, 0]
            alone = [
                one.classify(one.turns()[0], one.glance(frames[:, clip : clip + 8, :, :, left : left + 64]), None, {})
                for clip in range(0, 80, 8)
                for left in (0, 64, 128)
            ]
        expected = torch.cat(alone).softmax(-1).mean(0)[0]
        torch.testing.assert_close(together.softmax(-1), expected)

    def test_a_pass_takes_no_more_of_them_than_memory_is_meant_for(self, monkeypatch):
        thirty = tiny_model("slow-r50", views=30)
        frames = torch.rand(2, 80, 3, 64, 192)
        passes = []
        thirty.net.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
        with torch.inference_mode():
            together = thirty.glance(frames)
            monkeypatch.setattr(dense, "_PIXELS", 8 * 8 * 64**2)
            apart = thirty.glance(frames)
        assert passes == [60, 16, 16, 16, 12]
        torch.testing.assert_close(apart, together)

    def test_only_networks_over_whole_clips_have_them(self):
        with pytest.raises(UsageError, match="adafocus-v1 sees every video once, not in 10 views"):
            with_views(default_spec("adafocus-v1"), 10)
        with pytest.raises(UsageError, match="7 views are not possible; give 1, 10 or 30"):
            with_views(default_spec("slow-r50"), 7)

    def test_each_costs_the_same(self):
        one, thirty = (CostMeter(with_views(tiny_spec("slow-r50"), views)).whole_clip() for views in (1, 30))
        assert thirty.gmacs == pytest.approx(30 * one.gmacs)
        assert one.full_frame_gmacs == pytest.approx(one.stages["glance"])


class TestCompression:
    def test_mixtures_are_of_whole_frames(self):
        torch.manual_seed(0)
        maps = torch.randn(2, 12, 6, 5, 5)
        kept, attention = FeatureCompression(6, 4, 3)(maps)
        assert (kept.shape, attention.shape) == ((2, 3, 6, 5, 5), (2, 3, 12))
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 3))
        torch.testing.assert_close(kept, torch.einsum("bkt,btchw->bkchw", attention, maps))

    def test_what_happens_once_is_kept_before_it_has_learned_anything(self):
        torch.manual_seed(0)
        maps = torch.randn(1, 1, 8, 4, 4).repeat(1, 16, 1, 1, 1) + 0.01 * torch.randn(1, 16, 8, 4, 4)
        maps[:, 9, :, 1, 2] += 5 * torch.ones(8)
        _, attention = FeatureCompression(8, 8, 4)(maps)
        assert 9 in attention.argmax(-1)[0].tolist()


class TestSFC:
    def test_a_record_says_where_the_attention_went(self):
        tagger = tiny_tagger("sfc")
        (result,) = tagger.tag([clip_of(tagger, 3)])
        assert [look.step for look in result.trajectory] == list(range(10))
        plan = tagger.family.plan(result.video.frames)
        assert {look.frame for look in result.trajectory} <= set(plan.frames)
        assert {look.box for look in result.trajectory} == {(0, 0, 64, 64)}
        assert result.frames_decoded == len(set(plan.frames))

    def test_the_counted_cost_is_that_of_the_layers_that_run(self):
        from torch.utils.flop_counter import FlopCounterMode

        model = tiny_model("sfc")
        (turn,) = model.turns()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            seen = model.glance(torch.zeros(1, len(turn.glance), 3, 64, 64))
            gaze = model.locate(turn, seen, {})
            model.classify(turn, seen, model.focus(gaze.features), {})
        counted = CostMeter(model.spec).whole_clip()
        assert counted.gmacs == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-3)
        assert counted.full_frame_gmacs > counted.stages["glance"] + counted.stages["focus"]

    def test_the_published_sizes_cost_an_eleventh_of_thirty_views(self):
        thirty = CostMeter(with_views(default_spec("slow-r50"), 30)).whole_clip()
        assert thirty.gmacs / CostMeter(SFC.published).whole_clip().gmacs == pytest.approx(11.6, abs=0.1)

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_record_is_the_same_in_any_company(self, lanes):
        tagger = tiny_tagger("sfc", lanes=lanes)
        together = tagger.tag([clip_of(tagger, seed) for seed in range(4)])
        for seed, result in enumerate(together):
            (alone,) = tagger.tag([clip_of(tagger, seed)])
            assert np.array_equal(alone.logits, result.logits)
            assert alone.trajectory == result.trajectory

    def test_it_takes_the_pictures_of_its_backbone(self):
        backbone = default_spec("r3d-18")
        spec = around(backbone, insertion="res3", compression=2.0)
        assert (spec.frame_size, spec.mean, spec.glance) == (backbone.frame_size, backbone.mean, backbone.glance)
