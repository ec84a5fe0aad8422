"""The everyday names of ImageNet's classes."""

from __future__ import annotations

import pytest

from adafocus_cli import labels

NAMES = labels.packaged("imagenet")


def test_every_class_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES.names)) == len(NAMES.parents) == 1000


@pytest.mark.parametrize(
    ("index", "name", "parent"),
    [
        (0, "tench", "fish"),
        (151, "Chihuahua", "dog"),
        (268, "Mexican hairless dog", "dog"),
        (281, "tabby cat", "cat"),
        (517, "crane (machine)", "machine"),
        (817, "sports car", "car"),
        (890, "volleyball", "ball"),
        (963, "pizza", "food"),
        (999, "toilet paper", "household item"),
    ],
)
def test_a_name_stands_at_its_index(index: int, name: str, parent: str) -> None:
    assert (NAMES[index], NAMES.parent(index)) == (name, parent)


def test_118_classes_are_dogs() -> None:
    assert NAMES.parents.count("dog") == 118


def test_no_class_is_its_own_parent() -> None:
    assert all(name != parent for name, parent in zip(NAMES.names, NAMES.parents, strict=True))
