"""The confusion matrix as a picture, from one class to a thousand."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus_cli.evaluation.pictures import draw_confusion
from adafocus_cli.evaluation.report import Confusion


def confusion(counts, labels=None):
    size = len(counts)
    return Confusion(
        indices=tuple(range(size)),
        labels=tuple(labels or (f"class {index}" for index in range(size))),
        counts=tuple(map(tuple, counts)),
    )


def cells(image, count, cell):
    """The colour of each cell near its corner, away from its number."""
    pixels = np.asarray(image)
    top = image.height - count * cell - 16
    left = top - 16
    places = np.arange(count) * cell + 3
    return pixels[top + places][:, left + places]


def test_right_is_blue_wrong_is_orange_none_is_white():
    image = draw_confusion(confusion([[3, 1, 0], [0, 4, 0], [0, 0, 0]], ["a name of some length for the caption"] * 3))
    colours = cells(image, 3, 64).astype(int)
    assert (colours[0, 0, 2] > colours[0, 0, 0]) & (colours[0, 1, 2] < colours[0, 1, 0])
    assert colours[1, 1].sum() < colours[0, 0].sum(), "the larger share is the darker"
    for row, column in ((0, 2), (1, 0), (1, 2), (2, 2)):
        assert (colours[row, column] == 255).all()


@pytest.mark.parametrize(("count", "cell"), [(1, 64), (5, 64), (27, 35), (200, 11), (400, 11), (1000, 6)])
def test_there_is_room_for_names_and_an_end_to_its_size(count, cell):
    image = draw_confusion(confusion(np.eye(count, dtype=int).tolist()))
    assert count * cell < image.width <= count * cell + 600
    assert image.height >= count * cell


def test_names_of_any_kind():
    """Too long, in letters that the font does not have, or no letters at all."""
    image = draw_confusion(confusion(np.eye(4, dtype=int).tolist(), ["x" * 500, "видео", "a\nb\x1b", ""]))
    assert image.width < 700
