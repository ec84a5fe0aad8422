"""Leaving early: only what was needed is decoded, glanced, focused and counted, and the answer is that step's."""

from __future__ import annotations

import functools
import math
import random
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.exits import ExitRule, certainty, read_rule, write_thresholds
from adafocus_cli.loop import Clip
from adafocus_cli.models import FAMILIES
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.pictures import cut
from tests.conftest import without_timings
from tests.oracle import synth
from tests.tiny import LOOKING, tiny_tagger

STEP_FAMILIES = ["adafocus-v1", "adafocus-v2", "uni-adafocus"]
NEVER, AT_ONCE = math.inf, -math.inf


made_up_frames = functools.cache(synth.frames)


def clip_of(tagger, seed, asked=None):
    """A made-up video whose frames come when they are asked for; `asked` collects their positions."""
    count = 40 + 7 * (seed % 5)
    plan, side = tagger.family.plan(count), 96 if tagger.spec.frame_area else tagger.spec.frame_size
    pictures = made_up_frames(seed, count, side)
    video = VideoInfo(
        path=f"{seed}.mp4", width=side, height=side, fps=25.0, frames=count, duration=count / 25, codec="h264",
        rotation=0, decoder="pyav",
    )  # fmt: skip

    def decode(clip, request):
        for look in request.due:
            if look.box is not None:
                clip.add_cut(look, cut(pictures[look.frame], [look.box], look.size)[0])
                continue
            clip.add(look.frame, pictures[look.frame], look.frame / 25)
            if asked is not None:
                asked.append(plan.frames.index(look.frame))
        done = Future()
        done.set_result(None)
        return done

    return Clip(video, plan, to_source=lambda box: box, decode=decode)


@pytest.fixture
def ran(monkeypatch):
    """Counts the frames that each stage of a tagger sees."""

    def watch(tagger):
        counts = {"glance": 0, "focus": 0}
        for stage in counts:
            original = getattr(tagger.runtime.model, stage)

            def counted(pictures, stage=stage, original=original):
                counts[stage] += pictures.shape[1]
                return original(pictures)

            monkeypatch.setattr(tagger.runtime.model, stage, counted)
        return counts

    return watch


class TestSkipping:
    def test_v2_decodes_glances_and_focuses_only_the_first_group(self, ran):
        tagger, asked = tiny_tagger("adafocus-v2"), []
        counts = ran(tagger)
        (result,) = tagger.tag([clip_of(tagger, 1, asked)], rule=ExitRule(thresholds=(AT_ONCE,) * 16, group=4))
        assert sorted(asked) == [0, 3, 7, 15]
        assert counts == {"glance": 4, "focus": 4}
        assert (result.exit.step, result.exit.of, result.frames_decoded) == (0, 16, 4)
        assert len(result.trajectory) == 4
        assert result.step_logits.shape == (1, 7)

    def test_uni_focuses_nothing_when_the_glance_suffices(self, ran):
        tagger, asked = tiny_tagger("uni-adafocus"), []
        counts = ran(tagger)
        thresholds = (NEVER,) * 15 + (AT_ONCE,) * 17
        (result,) = tagger.tag([clip_of(tagger, 1, asked)], rule=ExitRule(thresholds=thresholds))
        assert sorted(asked) == list(range(1, 48, 3))
        assert counts == {"glance": 16, "focus": 0}
        assert (result.exit.step, result.exit.of, result.trajectory) == (15, 32, ())
        assert result.cost.stages["focus"] == result.cost.stages["policy"] == 0

    def test_uni_decodes_only_the_frames_that_it_chose(self):
        tagger, asked = tiny_tagger("uni-adafocus"), []
        (result,) = tagger.tag([clip_of(tagger, 3, asked)])
        chosen = {look.frame for look in result.trajectory}
        plan = tagger.family.plan(result.video.frames)
        glanced = {plan.frames[i] for i in plan.glance}
        assert {plan.frames[i] for i in asked} == chosen | glanced
        assert len(asked) == len(set(asked)) == result.frames_decoded

    def test_uni_tsm_may_stop_after_the_glance(self, ran):
        tagger, asked = tiny_tagger("uni-adafocus-tsm"), []
        counts = ran(tagger)
        (result,) = tagger.tag([clip_of(tagger, 1, asked)], rule=ExitRule(thresholds=(AT_ONCE, AT_ONCE)))
        assert (len(asked), counts) == (8, {"glance": 8, "focus": 0})
        assert (result.exit.step, result.exit.of) == (0, 2)

    @pytest.mark.parametrize("family", LOOKING)
    def test_the_cost_in_the_record_is_that_of_what_ran(self, family, ran):
        tagger = tiny_tagger(family)
        (whole,) = tagger.tag([clip_of(tagger, 2)])
        for step in range(0, whole.exit.of, 3):
            counts = ran(tagger)
            thresholds = (NEVER,) * step + (AT_ONCE,) * (whole.exit.of - step)
            (left,) = tagger.tag([clip_of(tagger, 2)], rule=ExitRule(thresholds=thresholds, group=4))
            for stage, frames in (("glance", tagger.spec.glance_frames), ("focus", tagger.spec.focus_frames)):
                share = counts[stage] / frames
                assert left.cost.stages[stage] == pytest.approx(share * whole.cost.stages[stage])
            assert left.cost.full_frame_gmacs == whole.cost.full_frame_gmacs


class TestAnswers:
    @pytest.mark.parametrize("family", STEP_FAMILIES)
    @pytest.mark.parametrize("group", [1, 3, 4, 16])
    def test_a_forced_exit_gives_that_steps_answer(self, family, group):
        tagger = tiny_tagger(family)
        (whole,) = tagger.tag([clip_of(tagger, 5)])
        for step in (0, 2, 15, whole.exit.of - 1):
            thresholds = (NEVER,) * step + (AT_ONCE,) * (whole.exit.of - step)
            (left,) = tagger.tag([clip_of(tagger, 5)], rule=ExitRule(thresholds=thresholds, group=group))
            assert left.exit.step == step
            np.testing.assert_allclose(left.logits, whole.step_logits[step], atol=1e-5)
            for ours, theirs in zip(left.trajectory, whole.trajectory, strict=False):
                assert (ours.step, ours.frame) == (theirs.step, theirs.frame)
                assert ours.box == pytest.approx(theirs.box, abs=1e-3)

    def test_thresholds_are_on_raw_logits_and_the_first_that_is_met_counts(self):
        tagger = tiny_tagger("adafocus-v2")
        (whole,) = tagger.tag([clip_of(tagger, 5)])
        best = whole.step_logits.max(axis=1)
        level = float(np.sort(best)[-3])
        (left,) = tagger.tag([clip_of(tagger, 5)], rule=ExitRule(thresholds=(level,) * 16))
        assert left.exit.step == int(np.argmax(best >= level))

    @pytest.mark.parametrize("family", STEP_FAMILIES)
    def test_by_entropy_the_first_step_whose_answer_is_that_little_spread_counts(self, family, ran):
        tagger = tiny_tagger(family)
        (whole,) = tagger.tag([clip_of(tagger, 5)])
        scores = torch.tensor(whole.step_logits).double().softmax(dim=1)
        spread = (scores * scores.log()).sum(dim=1).numpy()
        stops = [turn.answers.stop - 1 for turn in tagger.family.turns(1)]
        level = float(np.sort(spread[stops])[-2]) - 1e-6
        thresholds = [level if step in stops else NEVER for step in range(whole.exit.of)]
        counts = ran(tagger)
        rule = ExitRule(thresholds=tuple(thresholds), criterion="entropy", group=1)
        (left,) = tagger.tag([clip_of(tagger, 5)], rule=rule)
        assert left.exit.step == next(step for step in stops if spread[step] >= level)
        looks = sum(len(turn.looks) for turn in tagger.family.turns(1) if turn.answers.stop - 1 <= left.exit.step)
        assert counts["focus"] == looks == len(left.trajectory)

    @pytest.mark.parametrize("criterion", ["logit", "entropy"])
    def test_an_answer_that_is_nan_is_not_sure(self, criterion):
        logits = np.array([[math.nan, 1], [0, 1]], np.float32)
        assert certainty(logits, criterion)[0] == -math.inf
        assert math.isfinite(certainty(logits, criterion)[1])
        assert ExitRule(thresholds=(-9.0, -9.0), criterion=criterion).first_exit(range(2), logits) == 1

    def test_an_answer_of_one_class_alone_has_no_entropy(self):
        assert certainty(np.array([[0, 1e4]], np.float32), "entropy").tolist() == [0]

    @pytest.mark.parametrize("family", [*STEP_FAMILIES, "uni-adafocus-tsm"])
    @pytest.mark.parametrize("lanes", [1, 4])
    def test_forty_videos_have_the_same_records_in_any_order_and_company(self, family, lanes):
        """A processor always has one lane; an accelerator as many as its batch size, which is a setting."""
        tagger = tiny_tagger(family, lanes=lanes)
        seeds = list(range(40))
        best = np.array([r.step_logits.max(axis=1) for r in tagger.tag([clip_of(tagger, seed) for seed in range(20)])])
        rule = ExitRule(
            thresholds=tuple(np.quantile(best, 0.875, axis=0, method="midpoint"))
        )  # at each step, a tenth of the clips leaves

        def records(order):
            results = tagger.tag([clip_of(tagger, seed) for seed in order], rule=rule)
            return {r.video.path: without_timings(r.to_dict(logits=True)) for r in results}

        reference = records(seeds)
        assert len({record["exit"]["step"] for record in reference.values()}) > (1 if "tsm" in family else 2)
        random.Random(1).shuffle(seeds)
        assert records(seeds) == reference
        for seed in seeds[:5]:
            assert records([seed]) == {f"{seed}.mp4": reference[f"{seed}.mp4"]}
        if lanes > 1:  # another batch size sums in another order: only a logit right at its threshold may tell
            results = tiny_tagger(family).tag([clip_of(tagger, seed) for seed in seeds], rule=rule)
            same = [r for r in results if r.exit.step == reference[r.video.path]["exit"]["step"]]
            assert len(same) >= 39
            for result in same:
                np.testing.assert_allclose(result.logits, reference[result.video.path]["logits"], atol=1e-4)


class TestCaps:
    @pytest.mark.parametrize("family", STEP_FAMILIES)
    def test_the_last_answer_under_the_cap_is_taken(self, family):
        tagger = tiny_tagger(family)
        (whole,) = tagger.tag([clip_of(tagger, 4)])
        singles = tagger.family.turns(1)
        prices = np.cumsum([cost.total() / 1e9 for cost in tagger._meter.of_turns(singles)])
        for place in (0, 1, 6, len(singles) - 1):
            cap = float(prices[place]) * 1.0001
            (capped,) = tagger.tag([clip_of(tagger, 4)], rule=ExitRule(max_gmacs=cap))
            assert capped.cost.gmacs <= cap
            assert capped.exit.step == singles[place].answers.stop - 1
            np.testing.assert_allclose(capped.logits, whole.step_logits[capped.exit.step], atol=1e-5)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_cap_below_the_first_answer_names_the_least(self, family):
        tagger = tiny_tagger(family)
        with pytest.raises(UsageError, match=r"no answer fits under 1e-09 GMACs: the first one .* costs \d\.\d"):
            tagger.loop(tagger.exit_rule(TagRequest(max_gmacs=1e-9)))

    def test_what_is_no_cost_is_refused(self):
        for wrong in (0, -1, math.nan):
            with pytest.raises(UsageError, match="the highest cost of a video, above 0"):
                TagRequest(max_gmacs=wrong)

    def test_thresholds_and_a_cap_go_together(self):
        tagger = tiny_tagger("adafocus-v2")
        cap = tagger._meter.of_turns(tagger.family.turns())[0].total() / 1e9 / 2
        (result,) = tagger.tag([clip_of(tagger, 4)], rule=ExitRule(thresholds=(NEVER,) * 16, max_gmacs=cap))
        assert result.exit.step == 7
        (result,) = tagger.tag([clip_of(tagger, 4)], rule=ExitRule(thresholds=(AT_ONCE,) * 16, max_gmacs=cap))
        assert result.exit.step == 0


class TestFiles:
    def test_thresholds_survive_a_file_and_the_last_step_accepts_everything(self, tmp_path):
        tagger, path = tiny_tagger("adafocus-v2"), tmp_path / "exits.yaml"
        write_thresholds(path, tagger.model, [1.5] * 14 + [math.inf, 99.0], group=2)
        expected = ExitRule(thresholds=(*(1.5,) * 14, math.inf, -math.inf), group=2)
        assert read_rule(path, tagger.model) == expected
        assert tagger.exit_rule(TagRequest(exits=path, max_gmacs=3.5)) == replace(expected, max_gmacs=3.5)

    def test_the_criterion_survives_a_file_and_files_without_one_mean_the_largest_logit(self, tmp_path):
        import yaml

        tagger, path = tiny_tagger("adafocus-v2"), tmp_path / "exits.yaml"
        write_thresholds(path, tagger.model, [-1.5] * 16, criterion="entropy")
        assert tagger.exit_rule(TagRequest(exits=path)).criterion == "entropy"
        values = yaml.safe_load(path.read_text())
        del values["criterion"]
        path.write_text(yaml.safe_dump(values))
        assert tagger.exit_rule(TagRequest(exits=path)).criterion == "logit"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"format": "other/1"}, "is no exit file"),
            (
                {"model": {"name": "sibling", "sha256": "1" * 64}},
                r"belongs to sibling \(sha256 1{12}…\), not to tiny",
            ),
            ({"model": None}, "belongs to no model"),
            ({"model": {"sha256": "0" * 64, "patch_size": 64}}, "calibrated with patches of 64 px, not 32"),
            ({"thresholds": "high"}, "must be a list of numbers"),
            ({"thresholds": [1, math.nan]}, "must be a list of numbers"),
            ({"thresholds": [10**400, 1]}, "must be a list of numbers"),
            ({"group": 0}, "`group` is 0"),
            ({"criterion": "score"}, "`criterion` is 'score'; it is one of logit, entropy"),
        ],
    )
    def test_files_of_other_models_and_broken_ones_are_refused(self, tmp_path, change, complaint):
        import yaml

        tagger, path = tiny_tagger("adafocus-v2"), tmp_path / "exits.yaml"
        write_thresholds(path, tagger.model, [1.0] * 16)
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
        with pytest.raises(ModelError, match=complaint):
            read_rule(path, tagger.model)

    def test_unreadable_files_and_wrong_counts_are_one_line(self, tmp_path):
        tagger = tiny_tagger("adafocus-v2")
        with pytest.raises(UsageError, match="No such file"):
            read_rule(tmp_path / "none.yaml", tagger.model)
        for text in ("a: [", "a: 2026-99-99", "[" * 5000):
            (tmp_path / "bad.yaml").write_text(text)
            with pytest.raises(ModelError, match="is not YAML"):
                read_rule(tmp_path / "bad.yaml", tagger.model)
        with pytest.raises(ModelError, match=r"3 thresholds were given, but adafocus-v2 has 16 steps"):
            tagger.loop(ExitRule(thresholds=(1.0, 2.0, 3.0)))
