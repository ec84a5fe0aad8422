"""Clips and batches: the same whoever reads them, decoded once, seen by chance as the authors' code sees them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.models import FAMILIES, build, default_spec
from adafocus_cli.training import frame_cache
from adafocus_cli.training.clips import (
    CropSize,
    FileClips,
    Loader,
    Pass,
    PlannedFrames,
    RandomViews,
    SceneClips,
    random_target,
)
from adafocus_cli.training.frame_cache import FrameCache
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import spread_by_share
from tests import oracle
from tests.tiny import tiny_spec

PLANNED = PlannedFrames(replace(tiny_spec("adafocus-v2"), glance_frames=3, focus_frames=3))
VIEWS = RandomViews(0, 72, mirrored=True)


def clips_of(videos, **more):
    paths = sorted(map(str, videos.glob("*/*.mp4")))
    return FileClips([Sample(path, "") for path in paths], [(i,) for i in range(len(paths))], PLANNED, **more)


def cache_in(folder, gigabytes=1.0):
    return FrameCache.within(folder / "frames", gigabytes, 8)


def scenes(count):
    return SceneClips("motion", False, count, PLANNED, 0)


def loader(training, validation, **more):
    return Loader(training, validation, **{"seed": 0, "batch_size": 4, "accumulate": 1, "workers": 0, **more})


def test_workers_change_nothing_and_read_what_comes_next_during_the_pass_before(videos, monkeypatch):
    asked, usual, seen = [], Loader._batches, []
    monkeypatch.setattr(Loader, "_batches", lambda self, each: asked.append(each) or usual(self, each))
    for workers in (0, 2):
        with loader(clips_of(videos, views=VIEWS), scenes(5), workers=workers) as batches:
            batches.expect([Pass((0, 0)), Pass((0, 1)), Pass(())])
            asked.clear()
            first = [*batches.training(0, 0)]
            assert (Pass((0, 1)) in asked) == (workers > 0)
            seen.append([*first, *batches.training(0, 1), *batches.validation()])
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


def test_a_pass_that_is_left_early_is_followed_by_a_whole_one(videos):
    with loader(clips_of(videos), scenes(5), batch_size=2) as batches:
        batches.expect([Pass((0, 0)), Pass((0, 1))])
        next(batches.training(0, 0))
        assert len([*batches.training(0, 1)]) == 4


# What is seen of a clip.


class Recorded:
    """The draws of the authors' code, in their order."""

    def __init__(self, draws):
        self.left = list(draws)

    def integers(self, below, *, size):
        assert max(self.left[0]) < below
        return self._next(size)

    def random(self, size):
        return self._next(size)

    def _next(self, size):
        assert len(self.left[0]) == size
        return self.left.pop(0)


SAMPLING = json.loads(oracle.file_of("training/sampling.json").read_text())


@pytest.mark.parametrize("name", SAMPLING)
def test_training_draws_the_frames_that_the_authors_draw(name):
    """Families that choose among candidates are named with their number, as in uni-adafocus-tsm-36."""
    family, candidates = re.fullmatch(r"(.+?)(?:-(\d+))?", name).groups()
    if family not in FAMILIES:
        pytest.skip(f"there is no family {family} here")
    spec = default_spec(family)
    if candidates:
        spec = replace(spec, candidate_frames=int(candidates), focus_frames=int(candidates) // 3)
    with torch.device("meta"):
        model = build(spec)
    for count, expected in SAMPLING[name].items():
        chance = Recorded(expected["draws"])
        plan = model.plan(int(count), chance)
        if "frames" in expected:
            assert list(plan.frames) == expected["frames"], count
        else:
            ours = {who: [plan.frames[at] for at in getattr(plan, who)] for who in ("glance", "focus")}
            assert ours == {who: expected[who] for who in ours}, count
        assert not chance.left, count


@pytest.mark.parametrize("name", [name for name in SAMPLING if name.startswith("uni-adafocus")])
def test_uni_draws_shares_of_a_video_for_every_number_of_frames(name):
    for count, expected in SAMPLING[name].items():
        lists = [expected[who] for who in ("frames", "glance", "focus") if who in expected]
        chance = Recorded(expected["draws"])
        assert [list(spread_by_share(int(count), len(each), chance)) for each in lists] == lists, count


CROPS = json.loads(oracle.file_of("training/crops.json").read_text())


@pytest.mark.parametrize("picture", CROPS)
def test_the_parts_of_a_picture_that_training_shows_are_the_authors(picture):
    width, height = map(int, picture.split("x"))
    ours = [
        {"width": crop.width, "height": crop.height, "left_top": [list(place) for place in crop.places]}
        for crop in CropSize.all_of(width, height, 224)
    ]
    assert ours == CROPS[picture]


def test_a_look_is_by_chance_and_the_same_for_the_same_clip_and_epoch(videos):
    clips = clips_of(videos, views=VIEWS)
    looks = [clips.read(3, moment).pixels for moment in ((0, 0), (0, 0), (0, 1), (1, 0), (), ())]
    again = clips_of(videos, views=VIEWS).read(3, (0, 1)).pixels
    clips.close()
    assert np.array_equal(looks[0], looks[1])
    assert np.array_equal(looks[2], again)
    assert np.array_equal(looks[4], looks[5])
    assert not any(np.array_equal(looks[0], other) for other in looks[2:])


class Ramps:
    """Pictures (72 high, 144 wide) whose red is how far right a pixel is, and green how far down, of `size` pixels."""

    def __init__(self, count):
        across, down = np.meshgrid(np.arange(144), np.arange(72))
        self._image = Image.fromarray(np.stack([across, down, 0 * down], axis=-1).astype(np.uint8))
        self._count = count

    def __len__(self):
        return self._count

    def images(self, numbers):
        return [self._image] * len(numbers)


def shown(pixels):
    """Left, top, right, bottom of what each frame shows, to about a pixel."""
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(int)  # (frames, corners, colours)
    return np.concatenate([corners.min(axis=1)[:, :2], corners.max(axis=1)[:, :2]], axis=1)


@pytest.mark.parametrize("family", ["adafocus-v2", "adafocus-v2-tsm", "uni-adafocus", "uni-adafocus-tsm"])
def test_the_frames_of_a_list_show_the_same_part_and_those_of_two_lists_each_their_own(family):
    planned = PlannedFrames(tiny_spec(family))
    glances = planned.spec.glance_frames
    apart, places = 0, set()
    for index in range(30):
        views = RandomViews(0, 72, mirrored=False)
        parts = shown(views.of(Ramps(100), planned, views.chance(index, (0, 0))))
        one, other = parts[:glances], parts[glances:]
        assert (one == one[0]).all()
        assert (other == other[:1]).all()
        apart += not np.array_equal(one[0], other[0]) if len(other) else 0
        places.add(tuple(one[0]))
    assert min(left for left, _, _, _ in places) == 0
    assert max(right for _, _, right, _ in places) > 140  # the whole picture, not its middle
    assert (apart > 20) == ("tsm" in family)


@pytest.mark.parametrize("mirrored", [True, False])
def test_half_of_the_looks_are_mirrored_unless_classes_forbid_it(mirrored):
    views = RandomViews(0, 72, mirrored)
    looks = [views.of(Ramps(9), PLANNED, views.chance(index, (0, 0))) for index in range(40)]
    rising = [bool(pixels[0, 0, 0, 0] < pixels[0, 0, -1, 0]) for pixels in looks]
    assert 10 < sum(rising) < 30 if mirrored else all(rising)


@pytest.mark.parametrize(("classes", "shares"), [((4,), (1,)), ((2, 7), (2 / 3, 1 / 3)), ((1, 2, 5), (1 / 3,) * 3)])
def test_of_several_labels_one_is_the_target_and_of_two_mostly_the_lower(classes, shares):
    drawn = [random_target(classes, VIEWS.chance(index, (0, 0))) for index in range(600)]
    assert [drawn.count(each) / 600 for each in classes] == pytest.approx(shares, abs=0.06)


# The cache.


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the videos that are opened."""
    opened, usual = [], VideoProcess.open
    monkeypatch.setattr(VideoProcess, "open", lambda self, path: opened.append(path) or usual(self, path))
    return opened


MOMENTS = ((), (0, 0), (0, 1))


def test_what_is_kept_is_decoded_once_and_looks_the_same(videos, tmp_path, decoded):
    clips = clips_of(videos, views=VIEWS)
    without = [clips.read(2, moment).pixels for moment in MOMENTS]
    clips.close()
    for _ in range(2):  # the second time from the disk
        clips = clips_of(videos, views=VIEWS, cache=cache_in(tmp_path))
        with_cache = [clips.read(2, moment).pixels for moment in MOMENTS]
        clips.close()
        assert all(map(np.array_equal, with_cache, without))
    assert len(decoded) == len(MOMENTS) + 2  # of validation and of training


def test_a_video_that_was_changed_is_decoded_again(videos, tmp_path):
    clips = clips_of(videos, cache=cache_in(tmp_path))
    before = clips.read(0, ()).pixels
    (videos / "high" / "0.mp4").write_bytes((videos / "low" / "1.mp4").read_bytes())
    assert not np.array_equal(clips.read(0, ()).pixels, before)
    clips.close()


def test_what_a_killed_process_left_and_what_the_disk_lost_is_made_again(videos, tmp_path):
    clips = clips_of(videos, views=VIEWS, cache=cache_in(tmp_path))
    whole = clips.read(0, (0, 0)).pixels
    (kept,) = (tmp_path / "frames").glob("*.frames")
    content = kept.read_bytes()
    unfinished = kept.with_name(f".{kept.name}.4711")
    unfinished.write_bytes(content[:100])
    kept.write_bytes(content[:-10])
    clips = replace(clips, cache=cache_in(tmp_path))
    assert np.array_equal(clips.read(0, (0, 0)).pixels, whole)
    clips.close()
    assert kept.read_bytes() == content
    assert not unfinished.exists()


def test_of_all_that_want_the_same_clip_one_decodes_it(tmp_path):
    cache, made, both = cache_in(tmp_path), [], threading.Barrier(2)

    def make():
        for number in range(5):
            made.append(number)
            yield frame_cache.as_png(np.full((8, 8, 3), number, np.uint8))

    def want(_):
        both.wait()
        return len(cache.pictures("clip", make))

    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(want, range(2))] == [5, 5]
    assert made == [*range(5)]


def test_a_full_cache_ends_the_run_with_the_option_that_would_help(videos, tmp_path):
    clips = clips_of(videos, views=VIEWS, cache=cache_in(tmp_path, 5e-5))
    message = r"\d clips fill the 5e-05 GB.*, and the 8 of this run need about .* GB; allow more with --cache-gb, or"
    with pytest.raises(AdaFocusError, match=message), loader(clips, scenes(1), batch_size=1) as batches:
        list(batches.training(0, 0))
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "frames").glob("*.frames")) <= 5e4


def test_small_jpeg_images_of_a_folder_are_read_as_they_are(tmp_path):
    (tmp_path / "clip").mkdir()
    chance = np.random.default_rng(0)
    for number in range(5):
        picture = Image.fromarray(chance.integers(0, 256, (72, 96, 3)).astype(np.uint8))
        picture.save(tmp_path / "clip" / f"img_{number:05}.jpg")
    cache = cache_in(tmp_path)
    clips = FileClips([Sample(str(tmp_path / "clip"), "")], [(0,)], PLANNED, views=VIEWS, cache=cache)
    assert clips.read(0, (0, 0)).pixels is not None
    assert not [*cache.folder.glob("*.frames")]
    smaller = replace(clips, views=RandomViews(0, 48, mirrored=True))
    assert smaller.read(0, (0, 0)).pixels is not None
    (kept,) = cache.folder.glob("*.frames")
    assert frame_cache.PictureFile.open(kept).images([0])[0].size == (64, 48)


def test_frames_that_the_plan_names_twice_are_there_twice(videos):
    spec = replace(PLANNED.spec, glance_frames=6, focus_frames=6)
    clips = replace(clips_of(videos), planned=PlannedFrames(spec))
    pixels = clips.read(0, ()).pixels  # of four frames
    clips.close()
    assert len(pixels) == 6
    assert np.array_equal(pixels[3], pixels[5])
    assert not np.array_equal(pixels[0], pixels[3])


def test_an_unreadable_clip_is_replaced_in_training_and_left_out_of_validation(videos):
    (videos / "high" / "1.mp4").write_bytes(b"nothing")
    clips = clips_of(videos)
    in_training, in_validation = clips.read(1, (0, 0)), clips.read(1, ())
    clips.close()
    assert (in_training.target, in_validation.pixels) == (2, None)
    assert list(in_training.unreadable) == list(in_validation.unreadable) == [str(videos / "high" / "1.mp4")]
