"""Clips and batches: the same whoever reads them, decoded once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from adafocus_cli.evaluation.data import Sample
from adafocus_cli.training.clips import Augmentation, FileClips, FrameCache, Loader, PlannedFrames, SceneClips
from tests.tiny import tiny_spec

PLANNED = PlannedFrames(replace(tiny_spec("adafocus-v2"), glance_frames=3, focus_frames=3))


def clips_of(videos, **more):
    paths = sorted(map(str, videos.glob("*/*.mp4")))
    return FileClips([Sample(path, "") for path in paths], list(range(len(paths))), PLANNED, **more)


def scenes(count):
    return SceneClips("motion", False, count, PLANNED, 0)


def loader(training, validation, **more):
    return Loader(training, validation, **{"seed": 0, "batch_size": 4, "accumulate": 1, "workers": 0, **more})


def test_workers_change_nothing(videos):
    seen = []
    for workers in (0, 2):
        training = clips_of(videos, augmentation=Augmentation(0, True))
        with loader(training, scenes(5), workers=workers) as batches:
            seen.append([*batches.training(0, 0), *batches.training(0, 1), *batches.validation()])
    assert [len(batch) for batch in seen[0]] == [4, 4, 4, 4, 4, 1]
    for one, other in zip(*seen, strict=True):
        assert one.frames.equal(other.frames)
        assert one.targets.equal(other.targets)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system cannot hold back signals")
def test_workers_leave_ctrl_c_to_the_process_that_they_read_for(videos):
    with loader(clips_of(videos), scenes(1), batch_size=1, workers=1) as batches:
        read = batches.training(0, 0)
        next(read)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGINT)
        assert len([*read]) == 7


def test_every_epoch_has_its_own_order_and_every_process_its_share(videos):
    def targets(epoch, **more):
        with loader(clips_of(videos), scenes(1), **more) as batches:
            return [batch.targets.tolist() for batch in batches.training(0, epoch)]

    whole = targets(0)
    assert sorted(target for batch in whole for target in batch) == list(range(8))
    assert targets(0) == whole != targets(1)
    shares = [targets(0, rank=rank, size=2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_a_set_smaller_than_a_step_fills_it(videos):
    with loader(clips_of(videos), scenes(1), batch_size=5, accumulate=2) as batches:
        assert [len(batch) for batch in batches.training(0, 0)] == [5, 5]


def test_scenes_are_new_in_every_epoch_but_not_in_validation():
    clips = scenes(20)
    first, again, later = clips.read(0, (0, 0)), clips.read(0, (0, 0)), clips.read(0, (0, 1))
    assert first.pixels.shape == (3, 64, 64, 3)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, later.pixels)
    assert [clips.read(i, ()).target for i in range(18)] == [*range(17), 0]


def test_frames_are_decoded_once(videos, tmp_path):
    cache = FrameCache(tmp_path / "frames", 8, PLANNED.shape)
    cache.create()
    clips = clips_of(videos, cache=cache)
    before = [clips.read(i, ()).pixels.copy() for i in range(8)]
    for video in videos.glob("*/*.mp4"):
        video.unlink()
    assert all(np.array_equal(pixels, clips.read(i, ()).pixels) for i, pixels in enumerate(before))
    clips.close()


def test_frames_that_the_plan_names_twice_are_there_twice(videos):
    spec = replace(PLANNED.spec, glance_frames=6, focus_frames=6)
    clips = replace(clips_of(videos), planned=PlannedFrames(spec))
    pixels = clips.read(0, ()).pixels  # of four frames
    clips.close()
    assert len(pixels) == 6
    assert np.array_equal(pixels[3], pixels[5])
    assert not np.array_equal(pixels[0], pixels[3])


@pytest.mark.parametrize("flips", [True, False])
def test_augmentation_is_the_same_for_all_frames_of_a_clip(flips):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    frames = np.broadcast_to(ramp[None, None, :, None], (3, 64, 64, 3))
    rising = []
    for index in range(20):
        changed = Augmentation(0, flips)(frames, index, (0, 0))
        assert changed.shape == frames.shape
        assert np.array_equal(changed[0], changed[2])
        row = changed[0, 0, :, 0].astype(int)
        assert 0.6**0.5 * 255 - 10 < abs(row[-1] - row[0]) <= 255
        rising.append(row[-1] > row[0])
    assert all(rising) is not flips


def test_an_unreadable_clip_is_replaced_in_training_and_left_out_of_validation(videos):
    (videos / "high" / "1.mp4").write_bytes(b"nothing")
    clips = clips_of(videos)
    in_training, in_validation = clips.read(1, (0, 0)), clips.read(1, ())
    clips.close()
    assert (in_training.target, in_validation.pixels) == (2, None)
    assert list(in_training.unreadable) == list(in_validation.unreadable) == [str(videos / "high" / "1.mp4")]
