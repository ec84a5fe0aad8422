"""The everyday names of ImageNet's classes."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest


def rows() -> list[dict[str, str]]:
    text = files("adafocus_cli").joinpath("data/imagenet.tsv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_every_class_has_its_own_name_in_the_order_of_its_index() -> None:
    assert [int(row["index"]) for row in rows()] == list(range(1000))
    assert len({row["name"] for row in rows()}) == 1000


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
    assert (rows()[index]["name"], rows()[index]["parent"]) == (name, parent)


def test_118_classes_are_dogs() -> None:
    assert sum(row["parent"] == "dog" for row in rows()) == 118


def test_no_class_is_its_own_parent() -> None:
    assert all(row["name"] != row["parent"] for row in rows())
