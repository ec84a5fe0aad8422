"""The world *motion*: its scenes show what their labels say, whichever of their frames are asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from adafocus_cli.errors import UsageError
from adafocus_cli.worlds import SIDE, world
from adafocus_cli.worlds.motion import DIRECTIONS, Motion, Pose, view

LABELS = Motion().labels
OBJECTS = [label for label in LABELS if label.startswith("object")]
CAMERAS = [label for label in LABELS if label.startswith("camera")]


@pytest.fixture(autouse=True)
def _one_thread():
    """Frames are too small to be worth sharing out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(label, seed=0, **options):
    return Motion(**options).scene(seed, label=LABELS.index(label))


def plain(made):
    """A scene without noise, flicker and the like."""
    faultless = dataclasses.replace(
        made.effects,
        contrast=1.0,
        brightness=0.0,
        noise=0.0,
        gains=np.ones(made.count),
        vignette=None,
        quality=None,
        shutter=0.0,
    )
    return dataclasses.replace(made, effects=faultless)


def shift_between(first, second):
    """How far the second picture lies from the first, to a pixel, by phase correlation."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    spectra = [np.fft.fft2((frame.mean(2) - frame.mean()) * window) for frame in (first, second)]
    product = spectra[1] * np.conj(spectra[0])
    peak = np.fft.ifft2(product / (np.abs(product) + 1e-9)).real
    down, across = np.unravel_index(peak.argmax(), peak.shape)
    return tuple((int(step) + SIDE // 2) % SIDE - SIDE // 2 for step in (across, down))


@pytest.mark.parametrize("label", LABELS)
def test_a_frame_is_the_same_whichever_others_are_asked_for(label):
    made = scene(label, seed=3)
    numbers = [0, made.count // 2, made.count - 1]
    together = made.frames(numbers)
    assert together.shape == (3, SIDE, SIDE, 3)
    assert together.dtype == np.uint8
    for number, frame in zip(numbers, together, strict=True):
        assert (scene(label, seed=3).frames([number, 0, number])[2] == frame).all()


def test_a_seed_names_a_scene():
    first, same, other = (world("motion").scene(seed) for seed in (5, 5, 6))
    assert (first.label, first.count, first.fps) == (same.label, same.count, same.fps)
    assert (first.frames([0]) == same.frames([0])).all()
    assert (first.frames([0]) != other.frames([0])).any()


def test_seeds_choose_every_label_and_lengths_and_rates_in_their_bounds():
    made = [Motion().scene(seed) for seed in range(120)]
    assert {one.label for one in made} == set(range(len(LABELS)))
    assert all(16 <= one.count <= 120 and 8 <= one.fps <= 60 for one in made)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("label", [label for label in CAMERAS if "pans" in label or "tilts" in label])
def test_the_scene_moves_against_the_camera(label, seed):
    made = plain(scene(label, seed))
    # The part of the way in which the pictures still overlap well.
    start, end = made.camera.places[0], made.camera.places[-1]
    part = max(2, int(made.count * min(1, 60 / np.abs(end - start).max())))
    frames = made.frames([0, part - 1])
    expected = made.camera.places[0] - made.camera.places[part - 1]
    assert shift_between(*frames) == pytest.approx(tuple(expected), abs=1.5)
    way = np.array(DIRECTIONS[label.split()[-1]])
    assert 0.05 * SIDE < (end - start) @ way < 0.65 * SIDE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("label", [label for label in CAMERAS if "zooms" in label or "rolls" in label])
def test_zooms_and_rolls_change_the_picture_as_they_say(label, seed):
    """The last picture is the first, scaled and turned the way of the label, and not the other way."""
    made = plain(scene(label, seed))
    first, last = made.frames([0, made.count - 1]).astype(np.float32)
    begin, end = made.camera.at(0), made.camera.at(made.count - 1)
    scale, rotation = end.scale / begin.scale, end.rotation - begin.rotation
    assert (scale < 0.9) == label.endswith("in")
    assert (scale > 1.1) == label.endswith("out")
    assert (rotation > 0.1) == label.endswith(" clockwise")
    assert (rotation < -0.1) == label.endswith("counter-clockwise")
    # Where the last frame's middle lies in the first frame.
    cos, sin = np.cos(-begin.rotation), np.sin(-begin.rotation)
    x, y = end.x - begin.x, end.y - begin.y
    middle = (SIDE / 2 + (x * cos - y * sin) / begin.scale, SIDE / 2 + (x * sin + y * cos) / begin.scale)

    def difference(scale, rotation):
        seen = view(torch.from_numpy(first), Pose(0, 0, scale, rotation), middle).numpy()
        inner = slice(80, 144)
        return np.abs(seen - last)[inner, inner].mean()

    assert difference(scale, rotation) < 0.7 * difference(1 / scale, -rotation)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("label", OBJECTS)
def test_an_object_is_where_its_path_says_and_can_be_seen(label, seed):
    made = plain(scene(label, seed))
    empty = dataclasses.replace(made, item=None, path=None)
    number = made.count - 1 if label.endswith(" appears") else 0
    changed = np.abs(made.frames([number])[0].astype(int) - empty.frames([number])[0]).max(2)
    assert changed.max() > 15
    down, across = np.nonzero(changed > 8)
    pose = made.path.at(number)
    reach = made.item.shape[-1] * pose.scale / 2 + 1
    assert np.abs(across - SIDE / 2 - pose.x).max() < reach
    assert np.abs(down - SIDE / 2 - pose.y).max() < reach


@pytest.mark.parametrize("label", OBJECTS)
def test_objects_do_what_their_labels_say(label):
    for seed in range(12):
        made = scene(label, seed)
        begin, end = made.path.at(0), made.path.at(made.count - 1)
        scene_way = np.abs(np.diff(made.camera.places[[0, -1]], axis=0)).max()
        assert (end.scale / begin.scale > 1.4) == label.endswith("closer")
        assert (end.scale / begin.scale < 0.72) == label.endswith("away")
        assert (begin.shown, end.shown) == {
            "object appears": (0, 1),
            "object disappears": (1, 0),
        }.get(label, (1, 1))
        moved = np.array([end.x - begin.x, end.y - begin.y])
        if label.startswith("object moves"):
            along = moved @ np.array(DIRECTIONS[label.split()[-1]])
            assert along > 0.1 * SIDE
            assert along > 0.9 * np.hypot(*moved) - 8  # it leans by 15° at most, and the camera trembles
        else:
            assert np.hypot(*moved) < 0.03 * SIDE + 4 * 0.015 * SIDE
        assert scene_way < 0.08 * SIDE + 2 * 0.015 * SIDE
        places = made.path.places + SIDE / 2
        assert places.min() > 0
        assert places.max() < SIDE


@pytest.mark.parametrize("seed", range(6))
def test_where_nothing_moves_the_camera_ends_where_it_began(seed):
    made = plain(scene("nothing moves", seed))
    reach = 2 * 0.015 * SIDE + 1
    assert np.abs(made.camera.places).max() <= 0.015 * SIDE
    assert np.abs(shift_between(*made.frames([0, made.count - 1]))).max() <= reach


@pytest.mark.parametrize("label", CAMERAS)
@pytest.mark.parametrize("unseen", [False, True])
def test_no_border_of_the_scene_is_ever_seen(label, unseen):
    for seed in range(4):
        made = plain(scene(label, seed, unseen=unseen))
        white = dataclasses.replace(made, canvas=torch.full_like(made.canvas, 255.0))
        frames = white.frames([0, made.count // 2, made.count - 1])
        assert frames.min() >= 254  # sampling rounds


def test_unseen_scenes_are_others():
    for seed in range(3):
        seen, unseen = (world("motion", unseen=flag).scene(seed, label=0).frames([0]) for flag in (False, True))
        assert (seen != unseen).mean() > 0.5


def test_pictures_take_the_place_of_textures():
    reds = np.zeros((300, 260, 3), np.uint8)
    reds[..., 0] = np.random.default_rng(0).integers(90, 200, (300, 260))
    for label in ("nothing moves", "camera pans left", "camera rolls clockwise"):
        for seed in range(3):
            frame = plain(scene(label, seed, pictures=[reds])).frames([0])[0]
            assert np.median(frame[..., 0]) > 60
            assert np.median(frame[..., 1:]) == 0


def test_a_world_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(UsageError, match="no world 'motoin'; choose one of motion"):
        world("motoin")
