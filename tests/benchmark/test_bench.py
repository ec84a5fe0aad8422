"""`adafocus bench`, with tiny models: what it runs is what it says, and what it writes is well-formed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from adafocus_cli.benchmark import measure, model_only, reference
from adafocus_cli.benchmark.bench_model import find_bench_model, noise_clip, spec_of, with_random_weights
from adafocus_cli.benchmark.model_only import REST, STAGES, StageTimer
from adafocus_cli.benchmark.reference import Baseline, ReferenceModel
from adafocus_cli.library import catalogue
from adafocus_cli.models import FAMILIES
from tests.clips import cut_off, numbered_clip
from tests.conftest import has_bf16
from tests.tiny import tiny_spec, tiny_tagger


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """As little work as shows what happens."""
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(model_only, "_SECONDS", 0.0)
    monkeypatch.setattr(measure, "_MADE_SECONDS", 1)
    monkeypatch.setattr(measure, "_MADE_TIMES", 2)
    monkeypatch.setattr(measure, "_LENGTHS", (1, 2))


@pytest.fixture
def tiny(tmp_path):
    return with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path).path


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_path_gives_the_same_answer(family):
    tagger = tiny_tagger(family)
    clip = noise_clip(tagger.family)
    (result,) = tagger.tag([clip])
    answer = ReferenceModel(tiny_tagger(family).family, "cpu").answer(
        clip.pixels(range(len(clip.plan.frames))), clip.plan
    )
    np.testing.assert_allclose(answer.numpy(), result.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["adafocus-v2", "uni-adafocus"])
def test_stages_are_timed_as_the_loop_runs_them(family):
    tagger = tiny_tagger(family, lanes=2)
    task = StageTimer(tagger).task("stages")
    task.run()
    parts = task.run()
    assert set(parts) == {*STAGES, REST}
    assert task.videos == 2
    assert min(parts.values()) > 0
    assert parts["focus"] > parts["classify"]


def test_the_numbers_for_programs(adafocus, tiny, tmp_path):
    output = tmp_path / "bench.json"
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    variants = ("--precision", ",".join(precisions), "--runtime", "torch,openvino")
    options = (*variants, "--baselines", "none", "--rounds", 2, "-o", output, "-f", "json")
    outcome = adafocus("bench", "-m", tiny, *options)
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record == json.loads(output.read_text())
    assert record["schema"] == "adafocus-bench/1"
    ours = [f"adafocus ({runtime}), {precision}" for precision in precisions for runtime in ("torch", "openvino")]
    assert [row["name"] for row in record["model_only"]] == ["plain path", *ours]
    assert [row["name"] for row in record["end_to_end"]] == ["plain path", *ours]
    assert record["decoding"][0]["name"] == "pyav"
    assert set(record["peak_gmacs_per_second"]) == set(precisions)
    for row in (*record["model_only"], *record["decoding"], *record["end_to_end"]):
        assert len(row["rounds"]) == 2
        assert min(row["rounds"]) <= row["seconds"] <= max(row["rounds"])
        assert row["videos_per_second"] == pytest.approx(1 / row["seconds"], rel=1e-2)
    for row in record["stages"]:
        assert sum(row["stages"].values()) == pytest.approx(row["seconds"], rel=1e-3)
        assert set(row["share_of_peak"]) == {"glance", "focus", "networks"}


def test_the_table_fits_a_terminal(adafocus, tiny, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = adafocus("bench", "-m", tiny, "--baselines", "resnet50", "--rounds", 1)
    assert outcome.code == 0, outcome.err
    for words in ("plain path", "resnet50 on whole frames, fp32", "classify", "glance + focus", "pyav", "GMACs/s"):
        assert words in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize("family", ["r3d-18", "sfc"])
def test_networks_over_clips_are_measured_like_the_others(family, adafocus, tmp_path):
    weights = with_random_weights(tiny_spec(family), "tiny", tmp_path).path
    output = tmp_path / "bench.json"
    outcome = adafocus("bench", "-m", weights, "--baselines", "none", "--rounds", 1, "--sweep", "-o", output)
    assert outcome.code == 0, outcome.err
    record = json.loads(output.read_text())
    (stages,) = record["stages"]
    assert set(stages["share_of_peak"]) == {"glance", "networks"} | ({"focus"} if family == "sfc" else set())
    assert [curve["varied"] for curve in record["curves"]] == ["frames", "length"]


def test_the_picture_has_a_diagram_for_what_can_be_varied(adafocus, tiny, tmp_path):
    picture = tmp_path / "seconds.png"
    options = ("--runtime", "torch", "--baselines", "none", "--rounds", 1, "--picture", picture, "-f", "json")
    outcome = adafocus("bench", "-m", tiny, *options)
    assert outcome.code == 0, outcome.err
    curves = {curve["varied"]: curve["lines"] for curve in json.loads(outcome.out)["curves"]}
    assert list(curves) == ["frames", "patch size", "length"], "a processor takes one video at a time"
    assert [point["value"] for point in curves["frames"]["plain path"]] == [8, 16, 32]
    assert [point["value"] for point in curves["patch size"]["adafocus (torch), fp32"]] == [32, 64]
    with Image.open(picture) as image:
        assert image.size == (960, 56 + 2 * 330)
        assert len(set(image.convert("L").tobytes())) > 50


def test_videos_of_ones_own_and_one_that_is_broken(adafocus, tiny, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "ab":
        numbered_clip(folder / f"{name}.mp4", frames=30)
    options = ("-m", tiny, "--baselines", "none", "--rounds", 1, "-f", "json")
    assert json.loads(adafocus("bench", folder, *options).out)["videos"] == "2 of 2 videos"
    cut_off(folder / "b.mp4", 0.01)
    outcome = adafocus("bench", folder, *options)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "b.mp4" in outcome.err


def test_any_entry_of_the_catalogue_has_its_sizes():
    for entry in catalogue.packaged().entries:
        spec = spec_of(entry, None)
        labels = entry.label_set()
        assert entry.patch_size in (None, spec.patch_size)
        assert spec.family == entry.family
        assert labels is None or spec.classes == len(labels)


def test_a_model_that_is_not_installed_gets_random_weights(tmp_path):
    model = find_bench_model("v1-activitynet-p128", 96, tmp_path)
    assert model.random_weights
    assert model.family().spec.patch_size == 96
    assert not find_bench_model("motion", None, tmp_path).random_weights


def test_crops_go_through_in_as_many_views(monkeypatch):
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, views):
            seen.append(len(views))
            return views

    monkeypatch.setattr(Baseline, "_network", lambda self: Counting())
    monkeypatch.setitem(reference._CLIPS, "s3d", (2, 8))
    Baseline("s3d", "cpu", "fp32").crops(16).run()
    assert seen == [16, 14]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--baselines", "resnet51"), "resnet50, r2plus1d_18, s3d, mvit_v2_s, swin3d_t"),
        (("--precision", "fp32,fp8"), "'fp8'"),
        (("--picture", "seconds.jpg"), "FILE.png"),
        (("--rounds", 0), "--rounds"),
        (("-m", "no-such-model"), "no-such-model"),
    ],
)
def test_errors_are_one_line(adafocus, arguments, part):
    outcome = adafocus("bench", *arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert part in outcome.err


def test_without_torchvision_its_networks_are_refused_and_missed(adafocus, tiny, monkeypatch):
    monkeypatch.setattr(reference, "has_torchvision", lambda: False)
    outcome = adafocus("bench", "--baselines", "s3d")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "pip install 'adafocus-cli[bench]'" in outcome.err
    assert reference.chosen(None) == ("resnet50",)
    assert reference.chosen("none") == ()


def test_networks_of_torchvision_run():
    Baseline("r2plus1d_18", "cpu", "fp32").task(1, frames=8).run()
