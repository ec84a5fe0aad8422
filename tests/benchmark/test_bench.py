"""`adafocus bench`, with tiny models: what it runs is what it says, and what it writes is well-formed."""

from __future__ import annotations

import json
import time

import pytest

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.benchmark import measure, model_only, peak
from adafocus_cli.benchmark.bench_model import find_bench_model, noise_clip, spec_of, with_random_weights
from adafocus_cli.benchmark.measure import BenchRequest, load_variants
from adafocus_cli.benchmark.model_only import REST, STAGES, StageTimer, measure_model_only
from adafocus_cli.benchmark.peak import Kernel, kernels, macs_per_cycle, theoretical_rate
from adafocus_cli.library import catalogue
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime.openvino import adds_in_32_bits
from tests.cli.test_quantize import made_up_ranges
from tests.clips import cut_off, numbered_clip
from tests.conftest import has_bf16
from tests.tiny import tiny_spec, tiny_tagger


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """As little work as shows what happens."""
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(peak, "_SECONDS", 0.0)
    monkeypatch.setattr(measure, "_MADE_SECONDS", 1)
    monkeypatch.setattr(measure, "_MADE_TIMES", 2)


@pytest.fixture
def tiny(tmp_path):
    return with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path).path


@pytest.mark.parametrize("family", ["adafocus-v2", "uni-adafocus"])
def test_stages_are_timed_as_the_loop_runs_them(family, monkeypatch):
    tagger = tiny_tagger(family, lanes=2)
    classify = tagger.runtime.classify

    def slowly(*given):
        time.sleep(0.2)
        return classify(*given)

    monkeypatch.setattr(tagger.runtime, "classify", slowly)
    task = StageTimer(tagger).task("stages")
    task.run()
    parts = task.run()
    assert set(parts) == {*STAGES, REST}
    assert task.videos == 2
    assert min(parts.values()) > 0
    assert parts["classify"] >= 0.2


def test_numbers_for_programs_and_a_table_that_fits_a_terminal(adafocus, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    output = tmp_path / "bench.json"
    outcome = adafocus("bench", "-m", tiny, "--rounds", 2, "-o", output)
    assert outcome.code == 0, outcome.err
    for words in ("torch, fp32", "openvino, fp32", "classify", "networks", "pyav", "GMACs/s"):
        assert words in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    record = json.loads(output.read_text())
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
    assert set(record["peak_kernel"]) == set(precisions)
    assert all(0 < row["share_of_peak"]["all"] <= 1 for row in record["model_only"])
    for row in record["stages"]:
        assert sum(row["stages"].values()) == pytest.approx(row["seconds"], rel=1e-3)
        assert set(row["share_of_peak"]) == {"glance", "focus", "networks"}


def test_no_share_is_above_all_that_was_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(model_only, "kernels", lambda *given: [Kernel("slow", 1e-12, lambda: None)])
    model = with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path)
    request = BenchRequest(model=ModelRequest(), precisions=("fp32",), rounds=2)
    found = measure_model_only(load_variants(model, request), 2, lambda text: None)
    assert max(row.shares["all"] for row in found.rows) <= 1
    assert 0.5 < max(share for row in found.stages for share in row.shares.values()) <= 1
    assert found.peaks["fp32"].kernel.startswith(("torch, fp32: ", "openvino, fp32: "))


@pytest.mark.parametrize("family", ["adafocus-v1", "sfc"])
def test_the_peak_is_looked_for_in_the_largest_layers_of_the_networks_too(family, tmp_path):
    model = with_random_weights(tiny_spec(family), "tiny", tmp_path)
    request = BenchRequest(model=ModelRequest(), precisions=("fp32",), runtimes=("openvino",), rounds=1)
    (tagger,) = load_variants(model, request).values()
    tagger.tag([noise_clip(tagger.family)])
    tried = kernels("cpu", "fp32", [graph for each in tagger.runtime.networks for graph in each.graphs()])
    names = [kernel.name for kernel in tried]
    assert sum(name.startswith("matrix product ") for name in names) == 2
    assert sum(name.startswith("convolution ") for name in names) == 2
    assert sum(name.startswith("layer ") for name in names) == 4
    assert len(set(names)) == 8


def test_in_eight_bits_the_peak_is_of_kernels_that_round():
    tried = kernels("cpu", "int8")
    assert [kernel.name for kernel in tried] == ["matrix product by OpenVINO, int8", "convolution by OpenVINO, int8"]
    for kernel in tried:
        kernel.run()
        assert kernel.gmacs > 0


def test_a_model_with_ranges_is_also_measured_in_eight_bits(tmp_path):
    if not adds_in_32_bits():
        pytest.skip("this CPU has no VNNI")
    about, tensors = weights_file.read(with_random_weights(tiny_spec("adafocus-v2"), "tiny", tmp_path).path)
    with (tmp_path / "eight.safetensors").open("wb") as file:
        weights_file.write(file, about, checkpoint.with_ranges(tensors, made_up_ranges("adafocus-v2")))
    request = BenchRequest(model=ModelRequest(), runtimes=("openvino",), rounds=1)
    taggers = load_variants(find_bench_model(str(tmp_path / "eight.safetensors"), None, tmp_path), request)
    assert "openvino, int8" in taggers
    found = measure_model_only({"openvino, int8": taggers["openvino, int8"]}, 1, lambda text: None)
    assert found.peaks["int8"].kernel
    assert 0 < found.rows[0].shares["all"] <= 1


def test_what_openvino_cannot_run_is_not_put_down_to_eight_bits(adafocus):
    outcome = adafocus("bench", "-m", "motion", "--runtime", "openvino", "--rounds", 1)
    assert outcome.code != 0
    assert "OpenVINO is not given networks called 'matching'" in outcome.err
    assert "int8" not in outcome.err


@pytest.mark.parametrize(
    ("features", "fp32", "bf16", "int8"),
    [
        ({"sse2"}, None, None, None),
        ({"avx2", "fma", "sse4a"}, 16, None, None),
        ({"avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "sse4a"}, 16, 32, 64),
        ({"avx2", "fma", "avx512f", "avx512_vp2intersect", "sse4a"}, 32, None, None),
        ({"avx2", "fma", "avx512f", "amx_bf16", "amx_int8"}, 32, 1024, 2048),
    ],
)
def test_what_a_core_does_in_a_cycle_follows_from_its_instructions(features, fp32, bf16, int8):
    expected = {"fp32": fp32, "bf16": bf16, "int8": int8}
    assert {name: macs_per_cycle(name, frozenset(features)) for name in expected} == expected


def test_where_the_clock_is_not_told_there_is_no_theoretical_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "_CLOCK", tmp_path / "max")
    monkeypatch.setattr(peak, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(peak, "cores", lambda: 1)
    assert theoretical_rate("fp32") is None
    (tmp_path / "max").write_text("3500000\n")
    assert theoretical_rate("fp32") == 56


@pytest.mark.parametrize(("family", "runtimes"), [("r3d-18", ["torch"]), ("sfc", ["torch", "openvino"])])
def test_networks_over_clips_are_measured_like_the_others(family, runtimes, tmp_path):
    model = with_random_weights(tiny_spec(family), "tiny", tmp_path)
    request = BenchRequest(model=ModelRequest(), precisions=("fp32",), rounds=1)
    taggers = load_variants(model, request)
    assert list(taggers) == [f"{runtime}, fp32" for runtime in runtimes]
    for stages in measure_model_only(taggers, 1, lambda text: None).stages:
        assert set(stages.shares) == {"glance", "networks"} | ({"focus"} if family == "sfc" else set())


def test_videos_of_ones_own_and_one_that_is_broken(adafocus, tiny, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "ab":
        numbered_clip(folder / f"{name}.mp4", frames=30)
    options = ("-m", tiny, "--runtime", "torch", "--precision", "fp32", "--rounds", 1, "-f", "json")
    record = json.loads(adafocus("bench", folder, *options).out)
    assert record["videos"] == "2 of 2 videos"
    assert [row["name"] for row in record["end_to_end"]] == ["torch, fp32"]
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
