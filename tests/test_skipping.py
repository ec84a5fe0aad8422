"""Frames that get no look: they are neither cut nor focused nor paid for, and the record tells them."""

from __future__ import annotations

import functools
import io
from dataclasses import replace

import pytest
import torch

from adafocus_cli.exits import ExitRule, schedule
from adafocus_cli.models import build
from adafocus_cli.output.table import TableWriter
from adafocus_cli.output.writers import Sink, WriterOptions
from adafocus_cli.render.story import Story
from adafocus_cli.report.videos import video_of
from adafocus_cli.schema import VideoResult
from adafocus_cli.tagger import clip_of
from adafocus_cli.timeline import Part, joined
from adafocus_cli.video.windows import Window
from tests.conftest import without_timings
from tests.oracle import synth
from tests.tiny import tiny_spec, tiny_tagger

STEP_WISE = ["adafocus-v1", "adafocus-v2"]
ALWAYS, NEVER = 1e6, -1e6

frames_of = functools.cache(lambda seed: synth.frames(seed, 16, 64))


def keeping(family, gain=None, *, lanes=1):
    """A tagger that skips frames; `gain` is of every look, if not about half of the looks are to be kept."""
    tagger = tiny_tagger(family, lanes=lanes, skips=True)
    head = tagger.family.skip_policy.gain
    with torch.no_grad():
        if gain is None:
            head.weight.mul_(40)
            maps = tagger.runtime.glance(torch.from_numpy(frames_of(1))[None])
            gains, _ = tagger.family.skip_policy(maps, None)
            head.bias.sub_(gains.median())
        else:
            head.weight.zero_()
            head.bias.fill_(gain)
    return tagger


def clips_of(tagger, seeds=range(1, 6)):
    plan = tagger.family.plan(16)
    return [clip_of(frames_of(seed), plan) for seed in seeds]


def record_of(result):
    return without_timings(result.to_dict(logits=True))


@pytest.mark.parametrize("family", STEP_WISE)
def test_what_is_skipped_is_neither_focused_nor_paid_for(family, monkeypatch):
    tagger, seen = keeping(family), []
    original = tagger.family.focus

    def counted(patches):
        seen.append(patches.shape[1])
        return original(patches)

    monkeypatch.setattr(tagger.family, "focus", counted)
    all_looks = sum(cost["focus"] for cost in schedule(tagger.family, tagger._meter, ExitRule()).costs)
    for clip in clips_of(tagger):
        seen.clear()
        (result,) = tagger.tag([clip])
        kept = len(result.trajectory)
        assert 0 < kept < 16
        assert (sum(seen), len(result.skipped)) == (kept, 16 - kept)
        assert result.cost.stages["focus"] * 1e9 == pytest.approx(all_looks * kept / 16)
        looked, skipped = [p.frame for p in result.trajectory], [f.frame for f in result.skipped]
        assert sorted(looked + skipped) == list(range(16))


@pytest.mark.parametrize("family", STEP_WISE)
def test_a_clip_has_the_same_record_alone_in_a_batch_and_in_groups(family):
    tagger = keeping(family, lanes=3)
    alone = [tagger.tag([clip])[0] for clip in clips_of(tagger)]
    together = tagger.tag(clips_of(tagger))
    assert [record_of(result) for result in together] == [record_of(result) for result in alone]
    grouped = tagger.tag(clips_of(tagger), rule=ExitRule(thresholds=(1e9,) * 16, group=5))
    for whole, groups in zip(alone, grouped, strict=True):
        assert [look.frame for look in groups.trajectory] == [look.frame for look in whole.trajectory]
        assert groups.skipped == whole.skipped
        assert groups.labels[0].label == whole.labels[0].label


@pytest.mark.parametrize("family", STEP_WISE)
def test_a_skipped_frame_is_a_look_at_nothing(family):
    tagger = keeping(family)
    model = tagger.family
    (result,) = tagger.tag(clips_of(tagger, [3]))
    with torch.inference_mode():
        (turn,) = model.turns()
        frames = torch.from_numpy(frames_of(3))[None]
        maps = tagger.runtime.glance(frames[:, list(turn.glance)])
        memory = {}
        gaze = model.locate(turn, maps, memory)
        pixels = frames[0, gaze.frames[0]]
        patches = tagger.runtime.patches(pixels, gaze.boxes[0])
        focused = tagger.runtime.focus(patches[None]) * gaze.kept[..., None, None, None]
        logits = model.classify(turn, maps, focused, memory)[0]
    assert torch.allclose(torch.from_numpy(result.step_logits), logits, atol=1e-4)


@pytest.mark.parametrize("family", STEP_WISE)
def test_at_least_one_look_is_taken(family):
    tagger = keeping(family, NEVER)
    for rule in (ExitRule(), ExitRule(thresholds=(1e9,) * 16, group=4)):
        (result,) = tagger.tag(clips_of(tagger, [2]), rule=rule)
        assert [patch.step for patch in result.trajectory] == [15]


@pytest.mark.parametrize("family", STEP_WISE)
def test_a_head_that_keeps_every_look_changes_nothing(family):
    with_head, without = keeping(family, ALWAYS), tiny_tagger(family)
    without.family.load_state_dict(with_head.family.state_dict(), strict=False)
    (skips,), (plain,) = with_head.tag(clips_of(with_head, [4])), without.tag(clips_of(without, [4]))
    assert skips.skipped == ()
    assert torch.allclose(torch.from_numpy(skips.logits), torch.from_numpy(plain.logits), atol=1e-5)
    assert plain.skipped is None
    assert "skipped" not in plain.to_dict()


@pytest.mark.parametrize("family", STEP_WISE)
def test_without_a_head_a_model_has_the_tensors_that_it_had(family):
    plain, skips = (build(replace(tiny_spec(family), skips=skips)).state_dict() for skips in (False, True))
    assert skips.keys() - plain.keys() == {name for name in skips if name.startswith("skip_policy.")} != set()


def test_no_video_costs_more_than_the_cap():
    tagger = keeping("adafocus-v1", ALWAYS)
    whole = tagger.tag(clips_of(tagger, [1]))[0].cost.gmacs
    for gain in (ALWAYS, NEVER):
        tagger = keeping("adafocus-v1", gain)
        (result,) = tagger.tag(clips_of(tagger, [1]), rule=ExitRule(max_gmacs=whole / 2))
        assert result.cost.gmacs <= whole / 2


class TestTold:
    def result(self) -> VideoResult:
        tagger = keeping("adafocus-v1")
        (result,) = tagger.tag(clips_of(tagger, [1]))
        skipped = tuple(replace(frame, time=frame.frame / 4) for frame in result.skipped)
        looks = tuple(replace(look, time=look.frame / 4) for look in result.trajectory)
        return replace(result, skipped=skipped, trajectory=looks)

    def test_a_record_comes_back_as_it_was(self):
        result = self.result()
        assert VideoResult.from_dict(result.to_dict()).skipped == result.skipped != ()

    def test_windows_have_theirs_and_the_video_has_all(self):
        tagger, result = keeping("adafocus-v1"), self.result()
        windows = [Window(index, 2, 4.0 * index, 4.0 * index + 4.0, range(16)) for index in (0, 1)]
        parts = [Part.of(window, result, frozenset(range(16))) for window in windows]
        whole = joined(parts, tagger.labels, top_k=1, min_score=0.0)
        assert [window.skipped for window in whole.windows] == [result.skipped] * 2
        assert whole.skipped == result.skipped * 2
        assert VideoResult.from_dict(whole.to_dict()).windows[1].skipped == result.skipped

    def test_the_table_counts_them_and_shows_the_score_after_each_look(self):
        result, out = self.result(), io.BytesIO()
        writer = TableWriter(Sink(out, name="out"), WriterOptions(steps=True))
        writer.write(result)
        text = out.getvalue().decode()
        assert f"{len(result.skipped)} frames skipped" in text
        first = result.trajectory[0].step
        score = 100 * torch.from_numpy(result.step_logits[first]).softmax(-1)[result.labels[0].index].item()
        assert f"{score:.1f} %" in text

    def test_a_film_has_no_box_while_frames_are_skipped(self):
        result = self.result()
        story = Story.of(result.to_dict())
        assert [story.box_at(frame.time) for frame in result.skipped] == [None] * len(result.skipped)
        assert [story.box_at(look.time) for look in result.trajectory] == [
            pytest.approx(look.box) for look in result.trajectory
        ]
        assert story.skipped_until(99.0) == len(result.skipped)

    def test_a_page_has_when_they_were(self):
        result = self.result()
        video = video_of(result.to_dict())
        assert video.skipped == tuple(frame.time for frame in result.skipped)
