"""`adafocus bench`, with tiny models: what it runs is what it says, and what it writes is well-formed."""

from __future__ import annotations

import json

import pytest

from adafocus_cli.benchmark import measure, model_only
from adafocus_cli.benchmark.bench_model import find_bench_model, spec_of, with_random_weights
from adafocus_cli.benchmark.model_only import REST, STAGES, StageTimer
from adafocus_cli.library import catalogue
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


@pytest.fixture
def tiny(tmp_path):
    return with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path).path


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
    outcome = adafocus("bench", "-m", tiny, "--rounds", 2, "-o", output, "-f", "json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record == json.loads(output.read_text())
    assert record["schema"] == "adafocus-bench/2"
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    at_hand = [f"{runtime}, {precision}" for precision in precisions for runtime in ("torch", "openvino")]
    assert [row["name"] for row in record["model_only"]] == at_hand
    assert [row["name"] for row in record["end_to_end"]] == at_hand
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
    outcome = adafocus("bench", "-m", tiny, "--precision", "fp32", "--rounds", 1)
    assert outcome.code == 0, outcome.err
    for words in ("torch, fp32", "openvino, fp32", "classify", "glance + focus", "pyav", "GMACs/s"):
        assert words in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize("family", ["r3d-18", "sfc"])
def test_networks_over_clips_are_measured_like_the_others(family, adafocus, tmp_path):
    weights = with_random_weights(tiny_spec(family), "tiny", tmp_path).path
    output = tmp_path / "bench.json"
    outcome = adafocus("bench", "-m", weights, "--precision", "fp32", "--rounds", 1, "-o", output)
    assert outcome.code == 0, outcome.err
    (stages,) = json.loads(output.read_text())["stages"]
    assert stages["name"] == "torch, fp32, by stage", "OpenVINO does not run it"
    assert set(stages["share_of_peak"]) == {"glance", "networks"} | ({"focus"} if family == "sfc" else set())


def test_videos_of_ones_own_and_one_that_is_broken(adafocus, tiny, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "ab":
        numbered_clip(folder / f"{name}.mp4", frames=30)
    options = ("-m", tiny, "--runtime", "torch", "--precision", "fp32", "--rounds", 1, "-f", "json")
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


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--precision", "fp32,fp8"), "'fp8'"),
        (("--runtime", "torch,tensorrt"), "'tensorrt'"),
        (("--rounds", 0), "--rounds"),
        (("-m", "no-such-model"), "no-such-model"),
    ],
)
def test_errors_are_one_line(adafocus, arguments, part):
    outcome = adafocus("bench", *arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert part in outcome.err
