"""A family that looks into the source, from paths to records: real clips and children, a tiny model."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from adafocus_cli.api import Tagger
from adafocus_cli.engine.local import tag_as_they_come, tag_files
from adafocus_cli.errors import UsageError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import tag_samples
from adafocus_cli.exits import ExitRule
from adafocus_cli.requests import ModelRequest, TagRequest
from adafocus_cli.runtime import runtime_for
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.schema import VideoResult
from adafocus_cli.tagger import source_clip
from adafocus_cli.video.decode import open_video
from adafocus_cli.video.limits import Deadline, Limits
from adafocus_cli.video.pictures import cut
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.windows import Windowing
from tests.clips import numbered_clip
from tests.conftest import deviation, without_timings
from tests.tiny import tiny_model, tiny_tagger

FAMILY, NEVER = "evidence", float("inf")
SIZES = [(320, 180), (180, 320), (320, 240), (96, 96)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [str(numbered_clip(folder / f"{n}.mp4", frames=40, size=size)) for n, size in enumerate(SIZES)]


@pytest.fixture
def tagger():
    return tiny_tagger(FAMILY)


@pytest.fixture
def requests(monkeypatch):
    """What is asked of children: ("frames", numbers) and ("cuts", numbers), in order."""
    asked = []
    frames, cuts = VideoProcess.frames, VideoProcess.cuts

    def spy_on_frames(self, video, indices, **how):
        asked.append(("frames", [*indices]))
        return frames(self, video, indices, **how)

    def spy_on_cuts(self, video, looks):
        asked.append(("cuts", [look.frame for look in looks]))
        return cuts(self, video, looks)

    monkeypatch.setattr(VideoProcess, "frames", spy_on_frames)
    monkeypatch.setattr(VideoProcess, "cuts", spy_on_cuts)
    return asked


def record(result):
    return without_timings(result.to_dict(logits=True))


def all_frames(path):
    video = open_video(path)
    deadline = Deadline(path, Limits(), "decode")
    return np.stack([video.source(frame, deadline=deadline) for frame in range(video.info.frames)])


def test_a_video_has_the_same_record_alone_and_among_others_of_other_shapes(clips, tagger):
    alone = [record(tagger.tag_video(path)) for path in clips]
    together = [record(result) for result in tag_files(clips, lambda: tagger, TagRequest(workers=2))]
    as_they_come = {r.video.path: record(r) for r in tag_as_they_come(clips * 2, tagger, TagRequest(workers=2))}
    assert alone == together == [as_they_come[path] for path in clips]
    assert len({str(each["logits"]) for each in alone}) == len(clips)


def test_lanes_are_of_clips_of_one_shape(clips):
    wide = tiny_tagger(FAMILY, lanes=3)
    for ours, path in zip(wide.tag_videos([*clips, *clips]), [*clips, *clips], strict=True):
        theirs = tiny_tagger(FAMILY).tag_video(path)
        assert (ours.cost, ours.video) == (theirs.cost, theirs.video)
        assert [look.frame for look in ours.trajectory] == [look.frame for look in theirs.trajectory]
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)


def test_memory_that_runs_out_halves_the_lanes_and_the_answers_stay(clips, monkeypatch):
    import torch

    wide = tiny_tagger(FAMILY, lanes=4)
    original = TorchRuntime.focus

    def too_much(self, patches):
        if len(patches) > 1:
            raise torch.OutOfMemoryError
        return original(self, patches)

    monkeypatch.setattr(TorchRuntime, "focus", too_much)
    results = list(wide.tag_videos(clips))
    assert wide.runtime.lanes == 1
    for ours, path in zip(results, clips, strict=True):
        np.testing.assert_allclose(ours.logits, tiny_tagger(FAMILY).tag_video(path).logits, atol=1e-4)


def test_whole_frames_and_an_image_folder_have_the_answer_of_the_file(clips, tagger, tmp_path):
    frames, of_file = all_frames(clips[0]), tagger.tag_video(clips[0])
    of_frames = tagger.tag_frames(frames)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"img_{number:05}.png")
    ((_, of_folder),) = tag_samples([Sample(str(tmp_path), "", ())], tagger, TagRequest())
    for other in (of_frames, of_folder):
        np.testing.assert_array_equal(other.step_logits, of_file.step_logits)
        assert (other.cost, other.labels) == (of_file.cost, of_file.labels)
        assert [(look.frame, look.box) for look in other.trajectory] == [
            (look.frame, look.box) for look in of_file.trajectory
        ]


def test_images_of_a_folder_may_differ_in_size(tmp_path, tagger):
    for number, size in enumerate([(320, 180), (160, 90), (321, 180), (90, 160)]):
        Image.new("RGB", size, (40 * number, 9, 9)).save(tmp_path / f"img_{number:05}.png")
    ((_, result),) = tag_samples([Sample(str(tmp_path), "", ())], tagger, TagRequest())
    assert isinstance(result, VideoResult), result
    assert (result.video.width, result.video.height) == (320, 180)


def test_a_stream_may_change_its_size(tmp_path, tagger):
    """Two streams of MPEG-2 behind one another are one."""
    mpeg = {"codec": "mpeg2video", "container": "mpeg2video"}
    parts = [
        numbered_clip(tmp_path / f"{size[0]}.m2v", frames=30, size=size, **mpeg) for size in ((320, 192), (160, 96))
    ]
    path = tmp_path / "joined.m2v"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(path)) as container:
        assert {(frame.width, frame.height) for frame in container.decode(video=0)} == {(320, 192), (160, 96)}
    result = tagger.tag_video(path)
    assert (result.video.width, result.video.height) == (320, 192)
    assert all(0 <= look.box[0] < look.box[2] <= 320 for look in result.trajectory)


def test_frames_are_asked_for_once_and_then_only_boxes(clips, tagger, requests):
    result = tagger.tag_video(clips[0])
    (_, glanced), (_, looked) = requests
    assert ([kind for kind, _ in requests], glanced) == (["frames", "cuts"], [10, 30])
    boxes = {(look.frame, look.box) for look in result.trajectory}
    assert sorted(looked) == sorted(frame for frame, _ in boxes), "each box once"
    assert len(result.trajectory) == 6
    assert result.frames_decoded == 2


def test_in_windows_each_has_the_answer_of_a_video_of_its_own(clips, tagger, requests):
    windows = Windowing(0.8, 0.8)
    (result,) = tag_files([clips[0]], lambda: tagger, TagRequest(windows=windows))
    assert len(result.windows) == 2
    glanced = [number for kind, numbers in requests if kind == "frames" for number in numbers]
    assert glanced == sorted({*glanced})
    frames = all_frames(clips[0])
    for row, part in zip(result.step_logits, (frames[:20], frames[20:]), strict=True):
        np.testing.assert_array_equal(row, tagger.tag_frames(part).logits)
    np.testing.assert_array_equal(result.logits, result.step_logits.max(axis=0))


def test_labels_of_windows_name_looks_of_the_whole_trajectory(clips, tagger):
    request = TagRequest(windows=Windowing(0.8, 0.8), min_score=0.0, top_k=7)
    (result,) = tag_files([clips[0]], lambda: tagger, request)
    for tag in result.labels:
        expected = [
            before + look
            for before, window in zip((0, 6), result.windows, strict=True)
            for each in window.labels
            if each.index == tag.index
            for look in each.looks
        ]
        assert [*tag.looks] == expected != []
    again = VideoResult.from_dict(result.to_dict())
    assert [tag.looks for tag in again.labels] == [tag.looks for tag in result.labels]


def test_long_videos_go_in_windows_by_themselves_where_the_model_says_so(clips, tagger, monkeypatch):
    spec = replace(tagger.spec, window_seconds=0.8)
    monkeypatch.setattr(tagger.family, "spec", spec)
    assert len(tagger.tag_video(clips[0]).windows) == 2
    monkeypatch.setattr(tagger.family, "spec", replace(spec, window_seconds=1.2))
    assert not tagger.tag_video(clips[0]).windows, "no longer than one and a half"


def killing(monkeypatch, *, times=1):
    """The child dies after it was asked to cut so often."""
    cuts, left = VideoProcess.cuts, [times]

    def kill_first(self, video, looks):
        if left[0]:
            left[0] -= 1
            os.kill(self._child.pid, signal.SIGKILL)
            self._child.wait()
        return cuts(self, video, looks)

    monkeypatch.setattr(VideoProcess, "cuts", kill_first)


@pytest.mark.parametrize("windows", [None, Windowing(0.8, 0.8)])
def test_a_child_that_dies_between_glance_and_look_changes_no_record(clips, tagger, monkeypatch, windows):
    request = TagRequest(windows=windows)
    (before,) = tag_files([clips[0]], lambda: tagger, request)
    killing(monkeypatch)
    (after,) = tag_files([clips[0]], lambda: tagger, request)
    assert record(after) == record(before)


def test_a_decoder_that_is_lost_while_a_window_looks_is_a_failure_of_the_video(clips, tagger, monkeypatch):
    def lose(self, video, looks):
        raise self._lost(video.info.path, EOFError(), "cuts")

    monkeypatch.setattr(VideoProcess, "cuts", lose)
    (result,) = tag_files([clips[0]], lambda: tagger, TagRequest(windows=Windowing(0.8, 0.8)))
    assert (result.status, result.stage) == ("error", "decode")


def test_keyframes_that_stand_in_for_frames_are_looked_into(tmp_path, tagger):
    path = str(numbered_clip(tmp_path / "keys.mp4", frames=60, options={"g": "12"}, size=(320, 180)))
    result = tagger.tag_video(path, decode="fast")
    assert (result.video.decode, {look.frame for look in result.trajectory} <= {12, 48}) == ("fast", True)


def test_a_turned_video_is_looked_into_upright(tmp_path, tagger):
    path = str(numbered_clip(tmp_path / "turned.mp4", frames=40, size=(320, 180), rotation=90))
    result = tagger.tag_video(path)
    assert (result.video.width, result.video.height) == (180, 320)
    np.testing.assert_array_equal(tagger.tag_frames(all_frames(path)).step_logits, result.step_logits)


def test_a_cost_is_that_of_the_shape_of_the_video(clips, tagger):
    nominal = tagger._meter.whole_clip()
    costs = [result.cost for result in tagger.tag_videos(clips)]
    cells = [result.cost.stages["glance"] / nominal.stages["glance"] * 15 for result in tagger.tag_videos(clips)]
    assert cells == pytest.approx([15, 15, 12, 9], rel=1e-3)
    assert all(cost.gmacs <= nominal.gmacs for cost in costs)
    assert {cost.stages["focus"] for cost in costs} == {nominal.stages["focus"]}


def test_a_cap_takes_fewer_looks_and_no_others_are_cut(clips, tagger, requests):
    whole = tagger.tag_video(clips[0])
    requests.clear()
    turns = tagger._meter.of_turns(tagger.family.turns(1))
    cap = sum(turn.total() for turn in turns[:3]) / 1e9 * 1.0001
    capped = tagger.tag_video(clips[0], max_gmacs=cap)
    assert (capped.exit.step, len(capped.trajectory)) == (2, 3)
    assert capped.cost.gmacs <= cap
    cut = sum(len(numbers) for kind, numbers in requests if kind == "cuts")
    assert cut == len({(look.frame, look.box) for look in capped.trajectory})
    np.testing.assert_allclose(capped.logits, whole.step_logits[2], atol=1e-5)
    assert [look.box for look in capped.trajectory] == [look.box for look in whole.trajectory[:3]]


def test_leaving_early_takes_no_further_looks(clips, tagger, requests):
    rule = ExitRule(thresholds=(NEVER, -NEVER, *[NEVER] * 4), group=2)
    (left,) = tag_files([clips[0]], lambda: tagger, TagRequest(exits=rule))
    assert (left.exit.step, len(left.trajectory)) == (1, 2)
    assert [len(numbers) for kind, numbers in requests if kind == "cuts"] == [2]


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (100, 100)])
def test_openvino_answers_as_torch_for_frames_of_any_shape(size):
    frames = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
    answers = []
    for runtime in ("torch", "openvino"):
        pytest.importorskip("openvino")
        plain = tiny_tagger(FAMILY)
        request = ModelRequest(runtime=runtime, device="cpu")
        model = runtime_for(tiny_model(FAMILY), request)
        answers.append(Tagger(model, plain.labels, plain._describe).tag_frames(frames))
    torchs, openvinos = answers
    assert deviation(openvinos.step_logits, torchs.step_logits) < 1e-3
    np.testing.assert_allclose([e.box for e in openvinos.trajectory], [e.box for e in torchs.trajectory], atol=1e-3)


def test_half_precision_answers_alike():
    frames = np.random.default_rng(0).integers(0, 256, (4, 180, 320, 3), np.uint8)
    plain = tiny_tagger(FAMILY)
    half = Tagger(TorchRuntime(tiny_model(FAMILY), device="cpu", precision="bf16"), plain.labels, lambda: plain.model)
    assert deviation(half.tag_frames(frames).logits, plain.tag_frames(frames).logits) < 0.5


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 90, 160), np.uint8),
        np.zeros((4, 90, 160, 3), np.float32),
        np.zeros((0, 90, 160, 3), np.uint8),
        np.zeros((4, 0, 160, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_what_are_no_whole_frames_is_refused_in_one_line(tagger, frames):
    with pytest.raises(UsageError, match=r"but evidence takes uint8 \(frames, height, width, 3\)"):
        tagger.tag_frames(frames)


def test_a_single_frame_is_a_video(tagger):
    result = tagger.tag_frames(np.full((1, 8, 8, 3), 7, np.uint8))
    assert {look.frame for look in result.trajectory} == {0}


def test_a_patch_that_was_seen_is_in_the_box_of_the_record(tagger, monkeypatch):
    """The record's boxes are where the pixels of the looks come from."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 180, 320, 3), np.uint8)
    seen, upload = [], tagger.runtime.upload

    def spy(pixels):
        seen.append(pixels)
        return upload(pixels)

    monkeypatch.setattr(tagger.runtime, "upload", spy)
    (result,) = tagger.tag([source_clip(frames, tagger.family)])
    patches = seen[1][0]
    for look, patch in zip(result.trajectory, patches, strict=True):
        np.testing.assert_array_equal(patch, cut(frames[look.frame], [look.box], 32)[0])
