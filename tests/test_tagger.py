"""The loop: same record alone or in company, scores, padding, what a clip is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adafocus_cli.api import Tagger
from adafocus_cli.benchmark.bench_model import with_random_weights
from adafocus_cli.errors import DeviceError, ModelError, UsageError
from adafocus_cli.exits import ExitRule
from adafocus_cli.loop import Clip
from adafocus_cli.runtime.pytorch import TorchRuntime, resolve_device, resolve_precision
from adafocus_cli.schema import VideoInfo
from tests.conftest import without_timings
from tests.oracle import synth
from tests.tiny import CLASSES, tiny_spec, tiny_tagger

CASE = "v1-actnet-p128"


@pytest.fixture
def tagger(tagger_of):
    return tagger_of(CASE)


def clip_of(tagger, seed, count=60):
    """A made-up video of `count` frames, sampled as the model asks."""
    plan = tagger.family.plan(count)
    pixels = synth.frames(seed, len(plan.frames), tagger.spec.frame_size)
    video = VideoInfo(
        path=f"{seed}.mp4", width=448, height=448, fps=30.0, frames=count, duration=count / 30, codec="h264",
        rotation=0, decoder="pyav",
    )  # fmt: skip
    clip = Clip(video, plan, to_source=lambda box: tuple(2 * side for side in box))
    for frame, picture in zip(plan.frames, pixels, strict=True):
        clip.add(frame, picture, frame / 30)
    return clip


def test_a_clip_has_the_same_record_alone_in_company_and_again(tagger_of):
    tagger = tagger_of("v2-actnet-mbv2-p128")
    clips = [clip_of(tagger, seed) for seed in range(2)]
    together = [without_timings(r.to_dict(logits=True)) for r in tagger.tag(clips)]
    alone = [without_timings(tagger.tag([clip])[0].to_dict(logits=True)) for clip in clips[::-1]][::-1]
    assert together == alone
    assert len({str(record["labels"]) for record in alone}) == len(clips)


def test_empty_lanes_change_nothing():
    """An accelerator's batches are filled up with copies; here the processor stands in for one."""
    tagger = tiny_tagger("adafocus-v1")
    clips = [clip_of(tagger, seed) for seed in range(3)]
    wide = TorchRuntime(tagger.family, device="cpu")
    wide.lanes = 2
    results = Tagger(wide, tagger.labels, lambda: tagger.model).tag(clips)
    for ours, theirs in zip(results, tagger.tag(clips), strict=True):
        assert ours.trajectory == theirs.trajectory
        assert ours.cost == theirs.cost
        np.testing.assert_allclose(ours.step_logits, theirs.step_logits, atol=1e-4)


def test_all_patches_of_a_clip_are_one_batch(tagger, monkeypatch):
    shapes = []
    focus = tagger.family.focus
    monkeypatch.setattr(tagger.family, "focus", lambda patches: shapes.append(tuple(patches.shape)) or focus(patches))
    tagger.tag([clip_of(tagger, 1)])
    assert shapes == [(1, 16, 3, 128, 128)]


def test_the_record_tells_frames_times_and_boxes_of_the_source(tagger):
    (result,) = tagger.tag([clip_of(tagger, 1, count=60)])
    assert [look.frame for look in result.trajectory] == [(2 * i + 1) * 60 // 32 for i in range(16)]
    assert all(look.time == look.frame / 30 for look in result.trajectory)
    assert all(look.box[2] - look.box[0] == 256 for look in result.trajectory)
    assert [look.step for look in result.trajectory] == list(range(16))
    assert (result.exit.step, result.exit.of, result.frames_decoded) == (15, 16, 16)
    assert result.step_logits.shape == (16, 200)
    assert result.cost.gmacs == pytest.approx(26.52, abs=0.01)


def test_short_videos_repeat_frames_and_count_those_decoded(tagger):
    (result,) = tagger.tag([clip_of(tagger, 1, count=3)])
    assert [look.frame for look in result.trajectory] == [0, 1] + [2] * 14
    assert result.frames_decoded == 3


def test_scores_are_probabilities_in_order_and_bounded():
    tagger = tiny_tagger("adafocus-v1")
    clip = clip_of(tagger, 1)
    (everything,) = tagger.tag([clip], top_k=CLASSES)
    scores = [tag.score for tag in everything.labels]
    assert sum(scores) == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    assert everything.labels[0].index == int(everything.logits.argmax())
    (few,) = tagger.tag([clip], top_k=3)
    assert few.labels == everything.labels[:3]
    (none,) = tagger.tag([clip], min_score=0.99)
    assert none.labels == ()
    (some,) = tagger.tag([clip], min_score=scores[1])
    assert some.labels == everything.labels[:2]


def test_labels_by_file_by_name_and_none(tmp_path):
    path = with_random_weights(replace(tiny_spec("adafocus-v1"), classes=200), "tiny", tmp_path).path
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {i}" for i in range(200)))

    def first(labels):
        return Tagger.load(path, labels=labels, device="cpu").labels[17]

    assert first(names) == "thing 17"
    assert first("minikinetics") != first("activitynet")
    assert first(None) == "class 17"
    assert first([str(i) for i in range(200)]) == "17"
    with pytest.raises(ModelError, match="has 174 names, but the model answers 200 classes"):
        first("sthv1")


def test_frames_of_the_wrong_shape_are_refused(tagger):
    with pytest.raises(UsageError, match=r"uint8 \(3, 224, 224, 3\), but adafocus-v1 takes uint8 \(16, 224, 224, 3\)"):
        tagger.tag_frames(np.zeros((3, 224, 224, 3), np.uint8))
    with pytest.raises(UsageError, match="frames are float32"):
        tagger.tag_frames(np.zeros((16, 224, 224, 3), np.float32))
    with pytest.raises(UsageError, match=r"uint8 \(8, 224, 224, 3\) and uint8 \(8, 9, 9, 3\)"):
        tagger.tag_frames(np.zeros((8, 224, 224, 3), np.uint8), np.zeros((8, 9, 9, 3), np.uint8))


def test_one_path_is_not_taken_for_a_list(tagger):
    with pytest.raises(UsageError, match="call tag_video"):
        tagger.tag_videos("clip.mp4")


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"'.*nothing.pth'"):
        Tagger.load(tmp_path / "nothing.pth")


class TestDevices:
    def test_unknown_and_absent_ones_are_one_line(self):
        with pytest.raises(DeviceError, match="'gpu' is not a device; give auto, cpu, cuda"):
            resolve_device("gpu")
        with pytest.raises(DeviceError, match=r"device cuda:99 is not there"):
            resolve_device("cuda:99")
        with pytest.raises(DeviceError, match="'int4' is not a precision; give auto"):
            resolve_precision("int4", torch.device("cpu"))
        with pytest.raises(DeviceError, match="int8 is for models that OpenVINO runs; use another --precision"):
            resolve_precision("int8", torch.device("cpu"))
        with pytest.raises(DeviceError, match="use --precision bf16 or fp32"):
            resolve_precision("fp16", torch.device("cpu"))
        with pytest.raises(DeviceError, match=r"device cpu has no tf32, .* since Ampere; use --precision fp32"):
            resolve_precision("tf32", torch.device("cpu"))

    def test_half_precision_agrees_on_the_best_label(self, tmp_path):
        """A tiny model: many processors only emulate bf16, which takes 13 times as long."""
        tiny = with_random_weights(tiny_spec("adafocus-v1"), "tiny", tmp_path).path
        whole, reduced = (
            Tagger.load(tiny, device="cpu", precision=precision, runtime="torch") for precision in ("fp32", "bf16")
        )
        clip = clip_of(whole, 1)
        (half,), (full,) = reduced.tag([clip]), whole.tag([clip])
        assert half.runtime.precision == "bf16"
        assert half.labels[0].index == full.labels[0].index
        assert half.labels != full.labels

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_agrees_with_the_processor(self, checkpoint_file, tagger):
        clips = [clip_of(tagger, seed) for seed in range(5)]
        cuda = Tagger.load(checkpoint_file(CASE), patch_size=128, device="cuda", batch_size=4)
        results = cuda.tag(clips)
        for ours, theirs in zip(results, tagger.tag(clips), strict=True):
            assert ours.trajectory == theirs.trajectory
            assert np.abs(ours.logits - theirs.logits).max() < 1e-3 * theirs.logits.std()
        again = [without_timings(cuda.tag([clip])[0].to_dict(logits=True)) for clip in clips]
        assert [without_timings(r.to_dict(logits=True)) for r in results] == again


def test_specs_survive_yaml_and_refuse_strangers(tagger):
    spec = replace(tagger.spec, dataset="activitynet")
    assert type(spec).from_yaml(spec.to_yaml()) == spec
    with pytest.raises(ModelError, match="'colour', which this version does not know"):
        type(spec).from_dict({"family": "adafocus-v1", "classes": 3, "colour": 1})
    with pytest.raises(ModelError, match="must at least say `family` and `classes`"):
        type(spec).from_dict([])


def test_an_error_of_one_clip_leaves_the_others_of_its_batch_as_they_are_without_it():
    def broken(box):
        raise RuntimeError("broken")

    tagger = tiny_tagger("adafocus-v2", lanes=3)
    expected = tagger.tag([clip_of(tagger, seed) for seed in range(2)])
    loop = tagger.loop(ExitRule())
    for seed in range(3):
        clip = clip_of(tagger, seed)
        loop.add(replace(clip, to_source=broken) if seed == 2 else clip, seed)
    over = {}
    while len(loop):
        over |= {run.key: run for run in loop.step()}
    assert str(over[2].error) == "broken"
    found = [tagger.result(over[seed], top_k=5, min_score=0.0) for seed in range(2)]
    assert [without_timings(r.to_dict(logits=True)) for r in found] == [
        without_timings(r.to_dict(logits=True)) for r in expected
    ]
    assert [r.step_logits.shape for r in found] == [(16, 7)] * 2
