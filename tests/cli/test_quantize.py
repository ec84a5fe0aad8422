"""Eight bits: a model file with ranges calculates in them, and says so where it cannot; videos choose them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import openvino
import pytest
import torch

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.api import Tagger
from adafocus_cli.benchmark.bench_model import with_random_weights
from adafocus_cli.cli.models_view import print_quantisation
from adafocus_cli.errors import DeviceError, ModelError
from adafocus_cli.evaluation import quantisation
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.evaluation.quantisation import compared
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime import runtime_for
from adafocus_cli.runtime.openvino import (
    adds_in_32_bits,
    compiled_for_streams,
    convolutions,
    graph_of,
    make_writing,
    quantise,
    ranges_by_network,
)
from adafocus_cli.runtime.quantising import (
    ChosenRanges,
    SeenPictures,
    choose_ranges,
    dear_layers,
    least_error_range,
    noting_pictures,
)
from tests.clips import numbered_clip
from tests.test_runtimes import pictures, pixels
from tests.tiny import tiny_model, tiny_spec


def runtime_of(model, precision="int8"):
    return runtime_for(model, ModelRequest(source="tiny", runtime="openvino", device="cpu", precision=precision))


@cache
def made_up_ranges(family, widened=1.0):
    """Of every layer what it is given of noise."""
    exact = runtime_of(tiny_model(family), "fp32")
    spec, found = exact.model.spec, {}
    with noting_pictures(exact, 1) as noted:
        exact.glance(pixels(spec.glance_frames))
        exact.focus(pictures(32, spec.focus_frames))
    for name, given in noted.items():
        graph = graph_of(getattr(exact.model, f"{name}_net").network, given.shape)
        layers = convolutions(graph)
        inside = openvino.Model([node.input_value(0) for node in layers], graph.get_parameters())
        seen = compiled_for_streams(inside, "fp32", 1, 1)(given.calls[0])
        for node, maps in zip(layers, seen.values(), strict=True):
            low, high = min(maps.min(), 0), max(maps.max(), 1)
            bounds = torch.tensor([widened * low, widened * high])
            found[f"{name}_net.{node.get_friendly_name()}"] = torch.cat((bounds, torch.zeros(node.shape[1])))
    return found


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """A model file with ranges."""
    return written(tmp_path_factory.mktemp("int8") / "tiny8.safetensors", made_up_ranges("adafocus-v2"))


def written(path, ranges):
    model = tiny_model("adafocus-v2")
    with path.open("wb") as file:
        tensors = checkpoint.with_ranges(model.state_dict(), ranges)
        weights_file.write(file, weights_file.About(spec=model.spec, name="tiny"), tensors)
    return path


NEEDS_VNNI = pytest.mark.skipif(not adds_in_32_bits(), reason="this CPU has no VNNI")


@NEEDS_VNNI
@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2-tsm"])
def test_kernels_for_eight_bits_give_what_rounding_by_hand_does(family):
    model, by_hand = tiny_model(family), runtime_of(tiny_model(family), "fp32")
    model.int8 = made_up_ranges(family)
    by_hand.model.glance_net.round_by_hand(ranges_by_network(model.int8)["glance_net"])
    ours, shown = runtime_of(model), pixels(model.spec.glance_frames)
    seen, expected = ours.glance(shown), by_hand.glance(shown)
    assert (seen - expected).square().mean().sqrt() / expected.std() < 0.05
    (ready,) = model.glance_net._ready.values()
    info = [node.get_rt_info() for node in ready.compiled.get_runtime_model().get_ordered_ops()]
    layers = [each["primitiveType"].astype(str) for each in info if each["layerType"].astype(str) == "Convolution"]
    assert any(kernel.endswith("I8") for kernel in layers), layers


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v2-tsm"])
def test_networks_that_are_rounded_see_nearly_the_same(family):
    exact, ours = runtime_of(tiny_model(family), "fp32"), runtime_of(tiny_model(family), "fp32")
    shown = pixels(exact.model.spec.glance_frames)
    ours.model.glance_net.round_by_hand(ranges_by_network(made_up_ranges(family))["glance_net"])
    seen, expected = ours.glance(shown), exact.glance(shown)
    assert 1e-3 < (seen - expected).square().mean().sqrt() / expected.std() < 0.1


def test_layers_that_are_dear_to_round_stay_as_they_are():
    chosen = dear_layers({"first": 5.0, "last": 1.0, "middle": 0.2}, {"first": 1, "last": 2, "middle": 97})
    assert chosen == ("first", "last")
    assert dear_layers({"all": 1.0}, {"all": 1}) == ()


def test_a_range_cuts_off_what_is_far_out_and_has_a_level_for_nothing():
    numbers = np.append(np.linspace(-1, 2, 400_000), 5.0)
    low, high = least_error_range(numbers).tolist()
    assert -1.05 < low <= -0.95
    assert 1.9 < high < 3
    step = (high - low) / 255
    assert low / step == pytest.approx(round(low / step), abs=1e-3)


def test_what_channels_make_keeps_its_mean():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    make_writing(layer)
    shown = np.random.default_rng(0).random((4, 3, 16, 16), np.float32) ** 3
    chosen = choose_ranges(layer, SeenPictures([shown])).ranges["0"]

    def means(ranges):
        graph = graph_of(layer, shown.shape)
        quantise(graph, ranges, by_hand=True)
        return compiled_for_streams(graph, "fp32", 1, 1)([shown])[0].mean(axis=(0, 2, 3))

    exact, off = means({}), torch.cat((chosen[:2], torch.zeros(8)))
    assert np.abs(means({"0": chosen}) - exact).max() < 1e-5 < np.abs(means({"0": off}) - exact).max()


def test_wide_ranges_are_coarser_than_narrow_ones():
    exact, moved = runtime_of(tiny_model("adafocus-v2"), "fp32"), []
    shown = pictures(32, exact.model.spec.focus_frames)
    for widened in (1.0, 30.0):
        ours = runtime_of(tiny_model("adafocus-v2"), "fp32")
        ours.model.focus_net.round_by_hand(ranges_by_network(made_up_ranges("adafocus-v2", widened))["focus_net"])
        moved.append((ours.focus(shown) - exact.focus(shown)).square().mean())
    assert moved[0] < moved[1]


@pytest.fixture
def vnni(monkeypatch):
    monkeypatch.setattr("adafocus_cli.runtime.openvino.adds_in_32_bits", lambda: True)


@pytest.mark.usefixtures("vnni")
def test_a_file_with_ranges_runs_in_eight_bits_only_when_asked(tiny_file, tmp_path):
    video = numbered_clip(tmp_path / "a.mp4", frames=20)
    used = {
        precision: Tagger.load(tiny_file, device="cpu", precision=precision).tag_video(video).runtime
        for precision in ("auto", "int8")
    }
    assert (used["auto"].precision, used["int8"].precision) == ("fp32", "int8")
    assert used["int8"].runtime == "openvino"


def test_a_copy_of_the_file_keeps_the_ranges(adafocus, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    copy = tmp_path / "copy.safetensors"
    assert adafocus("models", "convert", tiny_file, "-o", copy).code == 0
    assert checkpoint.load(copy).int8.keys() == checkpoint.load(tiny_file).int8.keys() != set()


@pytest.fixture
def labelled_videos(tmp_path):
    for number in range(2):
        folder = tmp_path / "videos" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        numbered_clip(folder / f"{number}.mp4", frames=20 + number)
    return tmp_path / "videos"


class TestErrors:
    def test_a_processor_without_the_instructions_is_told(self, tiny_file, monkeypatch):
        monkeypatch.setattr("adafocus_cli.runtime.openvino.adds_in_32_bits", lambda: False)
        with pytest.raises(DeviceError, match=r"no instructions for int8 \(VNNI\); use --precision fp32"):
            Tagger.load(tiny_file, device="cpu", precision="int8")

    def test_without_ranges_the_next_step_is_told(self):
        with pytest.raises(DeviceError, match="tiny has no ranges for --precision int8; quantize it first: adafocus"):
            runtime_of(tiny_model("adafocus-v2"))

    @pytest.mark.parametrize(
        ("model", "runtime", "words"),
        [
            ("adafocus-v2", "torch", "leave out --runtime torch"),
            ("adafocus-v1", "auto", "adafocus-v1 has no ranges"),
            ("r3d-18", "auto", "not given networks called 'r3d_18'"),
        ],
    )
    def test_where_it_cannot_be_one_line_says_why(self, model, runtime, words):
        request = ModelRequest(source=model, runtime=runtime, device="cpu", precision="int8")
        with pytest.raises(DeviceError, match=words):
            runtime_for(tiny_model(model), request)

    @pytest.mark.parametrize("layer", ["layer9.conv1", "conv1"])
    def test_a_range_of_a_layer_that_is_not_there_or_has_other_channels_is_told(self, layer):
        runtime = runtime_of(tiny_model("adafocus-v2"), "fp32")
        runtime.model.focus_net.round_by_hand({layer: torch.tensor([0.0, 1.0, 0.0])})
        with pytest.raises(ModelError, match=rf"int8 ranges of '{layer}', .* quantize it again"):
            runtime.focus(pictures(32, 4))

    @pytest.mark.parametrize("family", ["sfc", "taught"])
    def test_a_model_over_whole_clips_is_not_quantised(self, adafocus, labelled_videos, tmp_path, family):
        model = with_random_weights(tiny_spec(family), "tiny", tmp_path)
        how = ("--videos", labelled_videos, "-o", tmp_path / "out.safetensors")
        outcome = adafocus("models", "quantize", model.path, *how)
        assert outcome.code != 0
        assert f"{model.path} is of family {family}, and int8 is for those that glance and look at pic" in outcome.err

    def test_without_openvino_the_next_step_is_told(self, adafocus, labelled_videos, tmp_path, monkeypatch):
        monkeypatch.setattr("adafocus_cli.cli.models.find_spec", lambda name: None)
        outcome = adafocus(
            "models", "quantize", "objects", "--videos", labelled_videos, "-o", tmp_path / "o.safetensors"
        )
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert 'pip install "adafocus-cli[openvino]"' in outcome.err

    @pytest.mark.parametrize(
        "range_", [[1.0, 0.0, 0.0], [0.0, float("nan"), 0.0], [0.0, 1.0, float("inf")], [0.0, 1.0]]
    )
    def test_a_range_that_is_none_is_told(self, range_, tmp_path):
        path = written(tmp_path / "bad.safetensors", {"focus_net.conv1": torch.tensor(range_)})
        with pytest.raises(ModelError, match=r"range for int8, focus_net.conv1, that is not one"):
            checkpoint.load(path)

    def test_training_does_not_take_it(self, adafocus):
        outcome = adafocus("train", "world:motion", "-o", "run", "--precision", "int8")
        assert outcome.code != 0
        assert "int8" in outcome.err


class TestQuantize:
    def test_the_file_that_it_writes_tags_and_the_report_says_what_changed(
        self, adafocus, tiny_file, labelled_videos, tmp_path, monkeypatch
    ):
        names, output = tmp_path / "names.txt", tmp_path / "out.safetensors"
        names.write_text("".join(f"class {number}\n" for number in range(7)))
        how = ("--videos", labelled_videos, "-o", output, "--labels", names, "-f", "json")
        broken = labelled_videos / "class 0" / "broken.mp4"
        broken.write_text("no video")
        outcome = adafocus("models", "quantize", tiny_file, *how)
        assert outcome.code == 3, outcome.err
        assert "1 of 3 videos could not be tagged and are not in the numbers" in outcome.err
        broken.unlink()
        report = json.loads(outcome.out)
        assert report["videos"] == 2
        assert report["same_first_label"] == 1
        assert all(each["layers_in_eight_bits"] > 0 for each in report["networks"].values())
        assert all(0 < each["error"] < 0.5 for each in report["networks"].values())
        assert set(report["top1"]) == {"fp32", "int8"}
        monkeypatch.setattr("adafocus_cli.runtime.openvino.adds_in_32_bits", lambda: True)
        outcome = adafocus("classify", labelled_videos, "-w", output, "--precision", "int8", "-f", "json")
        assert [record["runtime"]["precision"] for record in json.loads(outcome.out)] == ["int8"] * 2

    @pytest.fixture
    def quantise(self, tiny_file, tmp_path, monkeypatch):
        """Quantises with ranges that are made up, as if comparisons found these shares of the same first label."""

        def run(*shares):
            found, ranges = iter(shares), ranges_by_network(made_up_ranges("adafocus-v2"))
            chosen = iter([ChosenRanges(ranges[name], (), 0.1) for name in ("glance_net", "focus_net")])
            monkeypatch.setattr(quantisation, "choose_ranges", lambda *given: next(chosen))
            monkeypatch.setattr(
                quantisation, "compared", lambda *given: replace(compared(*given), same_first=next(found))
            )
            return quantisation.quantise_model(
                ModelRequest(source=tiny_file),
                Dataset((Sample("a.mp4", ""),), "made up"),
                tmp_path / "out.safetensors",
                lambda tagger: {0: tagger.tag_frames(pixels(tagger.spec.glance_frames)[0].numpy())},
                labelled=False,
            )

        return run

    @pytest.mark.parametrize(("shares", "rounded"), [((0.5, 1.0), "glance"), ((0.5, 0.96, 0.97), "focus")])
    def test_a_network_that_changes_too_many_answers_stays_in_full_precision(
        self, quantise, shares, rounded, tmp_path, capsys
    ):
        report = quantise(*shares)
        assert report.networks.keys() == {rounded}
        assert ranges_by_network(checkpoint.load(tmp_path / "out.safetensors").int8).keys() == {f"{rounded}_net"}
        print_quantisation(report)
        assert "glance and focus in eight bits: same first label 50.0 %" in capsys.readouterr().out

    def test_where_no_network_can_be_rounded_nothing_is_written(self, quantise, tmp_path):
        with pytest.raises(ModelError, match=r"same first label to 90\.0 % of these videos at most, and 97 % are"):
            quantise(0.5, 0.9, 0.8)
        assert not (tmp_path / "out.safetensors").exists()
