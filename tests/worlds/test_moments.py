"""The world *moments*: the disc of full colour is there for as long as is said, and its hue is the label."""

from __future__ import annotations

import numpy as np

from adafocus_cli.worlds import world


def colourful(frame):
    """Pixels of full colour: noise lies on the ground, not on discs."""
    return (frame.max(-1) > 150) & (frame.min(-1) < 20)


def test_a_seed_names_a_scene():
    first, again = (world("moments").scene(3) for _ in range(2))
    numbers = [0, 5, first.count - 1]
    assert first.label == again.label
    assert np.array_equal(first.frames(numbers), again.frames(numbers[::-1])[::-1])
    assert first.frames(numbers).shape == (3, 64, 64, 3)
    assert not np.array_equal(first.frames([0]), world("moments", unseen=True).scene(3).frames([0]))


def test_the_moment_is_short_and_tells_the_label():
    moments = world("moments")
    for seed in range(12):
        scene = moments.scene(seed)
        shown = [number for number in range(0, scene.count, 4) if colourful(scene.frames([number])[0]).any()]
        assert 0 < len(shown) * 4 < 0.2 * scene.count
        assert set(shown) <= set(scene.discs[0].frames)
        (frame,) = scene.frames(shown[:1])
        colour = np.median(frame[colourful(frame)], axis=0) > 128
        names = {"red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0), "cyan": (0, 1, 1), "blue": (0, 0, 1)}
        assert tuple(colour) == names.get(moments.labels[scene.label], (1, 0, 1))


def test_a_close_view_is_four_times_the_moment():
    for seed in range(12):
        scene = world("moments-close").scene(seed)
        assert scene.count == 4 * len(scene.discs[0].frames)
        assert set(scene.discs[0].frames) <= set(range(scene.count))
