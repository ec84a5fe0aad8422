"""The world *glyphs*: the sign is where its path says, its label is what one reads there, and a close view holds it."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus_cli.worlds import SIDE, world
from adafocus_cli.worlds.glyphs import SIGN

NAMES = ["glyphs", "glyphs-close", "glyphs-turning"]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_names_a_scene(name):
    first, again = (world(name).scene(3) for _ in range(2))
    assert (first.label, first.count) == (again.label, again.count)
    numbers = [0, 5, first.count - 1]
    assert np.array_equal(first.frames(numbers), again.frames(numbers[::-1])[::-1])
    assert first.side == (96 if name == "glyphs-close" else SIDE)
    assert first.frames(numbers).shape == (3, first.side, first.side, 3)
    assert not np.array_equal(first.frames([0]), world(name).scene(4).frames([0]))
    assert not np.array_equal(first.frames([0]), world(name, unseen=True).scene(3).frames([0]))


def test_every_label_comes_by_itself_or_when_asked_for():
    glyphs = world("glyphs")
    labels = [glyphs.scene(seed).label for seed in range(200)]
    assert set(labels) == set(range(len(glyphs.labels)))
    assert glyphs.scene(0, label=7).label == 7


def test_the_sign_is_where_its_path_says():
    """Its rim is red, and it alone moves."""
    scene = world("glyphs").scene(11)
    for number in (0, scene.count // 2, scene.count - 1):
        left, top = scene.path[number]
        (frame,) = scene.frames([number]).astype(int)
        rim = frame[top + 1 : top + 4, left + SIGN // 2 - 3 : left + SIGN // 2 + 3].reshape(-1, 3).mean(0)
        assert rim[0] > 120
        assert rim[0] > 2 * max(rim[1:])


@pytest.mark.parametrize("unseen", [False, True])
def test_only_the_character_tells_the_labels_apart(unseen):
    """The same scene with another label differs inside the sign and nowhere else."""
    glyphs = world("glyphs", unseen=unseen)
    one, other = (glyphs.scene(5, label=label) for label in (0, 1))
    left, top = one.path[0]
    differs = (one.frames([0])[0] != other.frames([0])[0]).any(-1)
    inside = differs[top : top + SIGN, left : left + SIGN]
    assert inside.any()
    assert differs.sum() == inside.sum()


def test_a_close_view_holds_all_of_the_sign():
    for seed in range(20):
        scene = world("glyphs-close").scene(seed, label=0)
        (frame,) = scene.frames([0]).astype(int)
        red = (frame[..., 0] > 130) & (frame[..., 0] > 2 * frame[..., 1]) & (frame[..., 0] > 2 * frame[..., 2])
        assert red.sum() > 150, seed


def test_a_turning_sign_can_be_read_in_a_quarter_of_a_clip():
    for seed in range(20):
        one, other = (world("glyphs-turning").scene(seed, label=label) for label in (0, 1))
        numbers = range(one.count)
        read = [number for number in numbers if (one.frames([number]) != other.frames([number])).any()]
        assert read == list(one.front)
        assert len(read) == one.count // 4
