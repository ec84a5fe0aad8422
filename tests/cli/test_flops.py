"""`adafocus flops`."""

from __future__ import annotations

import json

import pytest

from adafocus_cli.models import FAMILIES
from tests.cli.conftest import Adafocus


def test_all_families(adafocus: Adafocus) -> None:
    outcome = adafocus("flops", "--patch-size", "128")  # docs/cost.md has all sizes
    assert outcome.code == 0
    for family in FAMILIES:
        assert family in outcome.out
    assert "multiply-adds" in outcome.out


def test_one_model_by_stage(adafocus: Adafocus) -> None:
    outcome = adafocus("flops", "--family", "adafocus-v1", "--patch-size", "128")
    assert outcome.code == 0
    for word in ("glance", "policy", "focus", "classify", "total", "whole frames", "16 patches"):
        assert word in outcome.out


def test_the_numbers_for_programs(adafocus: Adafocus) -> None:
    record = json.loads(adafocus("flops", "--family", "adafocus-v1", "--patch-size", "128", "-f", "json").out)
    assert record["cost"]["gmacs"] == pytest.approx(sum(record["cost"]["stages"].values()), abs=1e-3)
    assert record["ratio"] == pytest.approx(record["cost"]["gmacs"] / record["cost"]["full_frame_gmacs"], abs=1e-3)
    assert record["gmacs_per_patch"] * record["focus_frames"] == pytest.approx(
        record["cost"]["stages"]["focus"], rel=1e-3
    )


def test_frames_and_classes_count(adafocus: Adafocus) -> None:
    arguments = ("flops", "--family", "adafocus-v1", "-f", "json")
    usual, half = (json.loads(adafocus(*arguments, "--frames", n).out) for n in (16, 8))
    assert half["cost"]["stages"]["focus"] == pytest.approx(usual["cost"]["stages"]["focus"] / 2, rel=1e-3)
    assert half["glance_frames"] == 8
    assert json.loads(adafocus(*arguments, "--classes", 10).out)["classes"] == 10


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--family", "resnet"], 2, "adafocus-v1"),
        (["--family", "adafocus-v1", "--patch-size", "7"], 1, "patch size 7"),
        (["--family", "adafocus-v1", "-w", "x"], 2, "one of them"),
        (["-w", "x", "--frames", "3"], 2, "--family"),
        (["-w", "x.pth"], 1, "no checkpoint x.pth"),
    ],
)
def test_errors_are_one_line(adafocus: Adafocus, arguments: list[str], code: int, part: str) -> None:
    outcome = adafocus("flops", *arguments)
    assert outcome.code == code
    assert outcome.err.count("\n") == 1
    assert part in outcome.err
