"""`bench/compare.py`: the plain path is the same model, and what varies is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adafocus_cli.benchmark.bench_model import BenchModel, noise_clip, with_random_weights
from adafocus_cli.benchmark.interleaved import Timing
from adafocus_cli.benchmark.measure import BenchRequest
from adafocus_cli.models import FAMILIES
from adafocus_cli.requests import ModelRequest
from bench import compare
from tests.tiny import tiny_spec, tiny_tagger

REQUEST = BenchRequest(model=ModelRequest(), precisions=("fp32",), runtimes=("torch",), rounds=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_path_gives_the_same_answer(family):
    tagger = tiny_tagger(family)
    clip = noise_clip(tagger.family)
    (result,) = tagger.tag([clip])
    plain = compare.PlainPath(tiny_tagger(family).family, "cpu")
    answer = plain.answer(clip.pixels(range(len(clip.plan.frames))), clip.plan)
    np.testing.assert_allclose(answer.numpy(), result.logits, rtol=1e-3, atol=1e-4)


def test_crops_go_through_in_as_many_views(monkeypatch):
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, views):
            seen.append(len(views))
            return views

    monkeypatch.setattr(compare.Baseline, "network", lambda self: Counting())
    monkeypatch.setitem(compare.BASELINES, "s3d", (2, 8))
    compare.Baseline("s3d", "cpu", "fp32").crops(16).run()
    assert seen == [16, 14]


def test_a_busy_moment_that_hits_both_does_not_show_in_the_ratio():
    plain, ours = (Timing(tuple({"all": each * busy} for busy in (1, 1, 9, 1))) for each in (1.0, 0.25))
    assert compare.times(ours, plain) == 0.25


def test_what_was_timed_once_is_compared_with_the_median():
    plain = Timing(tuple({"all": each} for each in (1.0, 2.0, 4.0)))
    assert compare.times(Timing(({"all": 30.0},)), plain) == 15


def test_the_picture_has_a_diagram_for_what_can_be_varied(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "LENGTHS", (1, 2))
    model: BenchModel = with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path)
    found = {curve.varied: curve for curve in compare.curves(model, REQUEST, tmp_path)}
    assert list(found) == ["frames", "patch size", "length"], "a processor takes one video at a time"
    assert [value for value, _ in found["frames"].lines[compare.PLAIN]] == [8, 16, 32]
    assert [value for value, _ in found["patch size"].lines["torch, fp32"]] == [32, 64]
    image = compare.draw(tuple(found.values()), "tiny")
    assert image.size == (960, 56 + 2 * 330)
    assert len(set(image.convert("L").tobytes())) > 50
