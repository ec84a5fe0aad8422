"""Every runtime gives the same answers, and says which it is; which one is taken depends on the model alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from adafocus_cli import runtime as runtimes
from adafocus_cli.api import Tagger
from adafocus_cli.errors import DeviceError
from adafocus_cli.nn.x3d import align_channels
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime import pytorch, runtime_for
from adafocus_cli.runtime.pytorch import SlicedGRU, SlicedLinear, fold, slice_large_layers
from adafocus_cli.spec import Network
from adafocus_cli.weights_file import About, write
from tests.clips import numbered_clip
from tests.conftest import has_bf16, without_timings
from tests.forked import Forked
from tests.tiny import LOOKING, tiny_model, tiny_tagger

NEEDS_BF16 = pytest.mark.skipif(not has_bf16(), reason="this processor does not calculate in bf16")


def pictures(network_size: int, frames: int) -> torch.Tensor:
    return torch.rand(1, frames, 3, network_size, network_size, generator=torch.Generator().manual_seed(1))


def pixels(frames: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, frames, 64, 64, 3), dtype=torch.uint8, generator=chance)


@pytest.mark.parametrize("family", LOOKING)
def test_folded_networks_have_no_norms_and_answer_alike(family):
    model = tiny_model(family)
    frames = pictures(64, model.spec.glance_frames)
    with torch.inference_mode():
        before = model.glance(frames)
        fold(model.glance_net)
        after = model.glance(frames)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.glance_net.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_channels_of_zeros_leave_the_maps_of_x3d_as_they_are():
    net = tiny_model("x3d-s").net.eval()
    clips = torch.rand(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    fold(net)
    before = net(clips)
    align_channels(net, 8)
    inner = [layer.groups for layer in net.modules() if isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3)]
    assert {channels % 8 for channels in inner} == {0}
    torch.testing.assert_close(net(clips), before, rtol=1e-6, atol=1e-6)


@pytest.fixture
def threads():
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


@pytest.mark.parametrize(("clips", "steps"), [(1, 1), (2, 5)])
@torch.inference_mode()
def test_large_layers_in_slices_answer_alike_on_one_core_and_on_many(clips, steps, threads):
    torch.manual_seed(0)
    layers = nn.ModuleDict(
        {
            "memory": nn.GRU(80, 512, batch_first=True),
            "answer": nn.Sequential(nn.Linear(1024, 520)),
            "small": nn.Linear(8, 8),
            "odd": nn.Linear(1024, 1023),
        }
    )
    memory = torch.randn(clips, 5, 80), torch.randn(1, clips, 512)
    shown = {"memory": memory, "answer": (torch.randn(clips, steps, 1024),)}
    expected = {name: layers[name](*given) for name, given in shown.items()}
    from_nothing, _ = layers["memory"](shown["memory"][0])
    slice_large_layers(layers)
    kinds = [type(layer) for layer in (layers["memory"], layers["answer"][0], layers["small"], layers["odd"])]
    assert kinds == [SlicedGRU, SlicedLinear, nn.Linear, nn.Linear]
    answers = []
    for count in (1, 2):
        torch.set_num_threads(count)
        answers.append({name: layers[name](*given) for name, given in shown.items()})
    torch.testing.assert_close(answers[0], expected)
    torch.testing.assert_close(layers["memory"](shown["memory"][0], None)[0], from_nothing)
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=0)


@pytest.mark.parametrize("cores", [1, 3, 5])
def test_openvino_sees_alike_in_pieces_for_any_number_of_cores(cores, threads):
    torchs = runtime_for(tiny_model("adafocus-v2"), ModelRequest(runtime="torch", device="cpu"))
    torch.set_num_threads(cores)
    ours = runtime_for(tiny_model("adafocus-v2"), ModelRequest(runtime="openvino", device="cpu"))
    for count in (1, 4, 13, torchs.model.spec.glance_frames):
        torch.testing.assert_close(ours.glance(pixels(count)), torchs.glance(pixels(count)), rtol=1e-3, atol=1e-4)


def test_openvino_is_loaded_without_what_tells_its_makers():
    pytest.importorskip("adafocus_cli.runtime.openvino")
    assert not [name for name, module in sys.modules.items() if module and name.startswith("openvino_telemetry")]


def test_small_models_are_calculated_on_one_thread_where_videos_go_one_by_one(threads, tmp_path, monkeypatch):
    torch.set_num_threads(2)
    tagger, seen = tiny_tagger("adafocus-v2"), []
    glance = tagger.runtime.model.glance

    def noting_threads(frames):
        seen.append(torch.get_num_threads())
        return glance(frames)

    monkeypatch.setattr(tagger.runtime.model, "glance", noting_threads)
    video = numbered_clip(tmp_path / "a.mp4", frames=20)
    tagger.tag_video(video)
    assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    monkeypatch.setattr(pytorch, "SHARED_FROM", 0)
    tagger.tag_video(video)
    assert set(seen) == {1, 2}


def test_openvino_gives_a_small_model_one_thread_and_the_same_bits(threads):
    torch.set_num_threads(2)
    ours = runtime_for(tiny_model("adafocus-v2"), ModelRequest(runtime="openvino", device="cpu"))
    frames = pixels(ours.model.spec.glance_frames)
    shared = ours.glance(frames)
    with ours.one_by_one(0):
        torch.testing.assert_close(ours.glance(frames), shared, rtol=0, atol=0)
        (ready,) = ours.model.glance_net._ready.values()
        assert ready.compiled.get_property("INFERENCE_NUM_THREADS") == 1


MOBILENET = Network("mobilenet_v2", 64, width=0.1)


@pytest.mark.parametrize(
    ("family", "glance"),
    [*((family, None) for family in LOOKING), ("adafocus-v1", MOBILENET), ("adafocus-v1-tsm", MOBILENET)],
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
def test_openvino_sees_what_torch_sees(family, glance, precision):
    how = {"openvino": precision, "torch": "fp32"}
    ours, torchs = (
        runtime_for(tiny_model(family, glance=glance), ModelRequest(runtime=name, device="cpu", precision=precision))
        for name, precision in how.items()
    )
    spec = torchs.model.spec
    for stage, shown in (("glance", pixels(spec.glance_frames)), ("focus", pictures(32, spec.focus_frames))):
        seen, expected = (getattr(runtime, stage)(shown) for runtime in (ours, torchs))
        moved = (seen - expected).square().mean().sqrt() / expected.std()
        # bf16 has 8 bits, a rounding of 1/512 in each of some twenty layers.
        assert moved < 1e-5 if precision == "fp32" else 1e-4 < moved < 0.05


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v1-tsm"])
def test_threads_that_ask_at_the_same_time_get_what_one_gets(family, threads):
    runtime = runtime_for(tiny_model(family), ModelRequest(runtime="openvino", device="cpu"))
    clips = [pixels(runtime.model.spec.glance_frames) // shade for shade in range(1, 5)]
    alone = [runtime.glance(clip) for clip in clips]
    together: list[torch.Tensor] = [torch.empty(0)] * len(clips)

    def ask(place: int) -> None:
        together[place] = runtime.glance(clips[place])

    with runtime.spread():
        asking = [threading.Thread(target=ask, args=(place,)) for place in range(len(clips))]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, alone, strict=True))


class TestChoice:
    def test_auto_is_openvino_where_it_can_be(self, monkeypatch):
        assert runtime_for(tiny_model("adafocus-v1"), ModelRequest(device="cpu")).name == "openvino"
        assert runtime_for(tiny_model("adafocus-v1"), ModelRequest(device="cpu", runtime="torch")).name == "torch"
        monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
        assert runtime_for(tiny_model("adafocus-v1"), ModelRequest(device="cpu")).name == "torch"
        with pytest.raises(DeviceError, match=r"not there: pip install \"adafocus-cli\[openvino\]\""):
            runtime_for(tiny_model("adafocus-v1"), ModelRequest(device="cpu", runtime="openvino"))

    def test_networks_that_compare_frames_stay_with_torch(self):
        assert Tagger.load("motion", device="cpu").runtime.name == "torch"
        with pytest.raises(DeviceError, match="not given networks called 'matching'"):
            Tagger.load("motion", device="cpu", runtime="openvino")

    def test_what_cannot_be_is_one_line(self):
        with pytest.raises(DeviceError, match="'onnx' is not a runtime; give auto, torch or openvino"):
            runtime_for(tiny_model("adafocus-v1"), ModelRequest(runtime="onnx"))
        with pytest.raises(DeviceError, match="fp16 is fifty times slower"):
            runtime_for(tiny_model("adafocus-v1"), ModelRequest(runtime="openvino", device="cpu", precision="fp16"))


def test_a_signal_after_a_runtime_has_gone_kills_nobody():
    program = """
import faulthandler, os, signal
from adafocus_cli.requests import ModelRequest
from tests.test_runtimes import pixels, runtime_for, tiny_model

faulthandler.enable()  # gives signals a stack of their own, as the thread that compiles gets one of OpenVINO's
signal.signal(signal.SIGUSR1, lambda *_: print("survived"))
runtimes = [runtime_for(tiny_model("adafocus-v1"), ModelRequest(runtime="openvino", device="cpu")) for _ in range(2)]
for runtime in runtimes:
    runtime.glance(pixels(runtime.model.spec.glance_frames))
while runtimes:
    runtimes.pop(0)
del runtime
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


@NEEDS_BF16
def test_a_record_names_the_runtime_and_the_precision():
    plain = tiny_tagger("adafocus-v2")
    runtime = runtime_for(tiny_model("adafocus-v2"), ModelRequest(runtime="openvino", device="cpu", precision="bf16"))
    tagger = Tagger(runtime, plain.labels, lambda: plain.model)
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    told = json.loads(json.dumps(tagger.tag_frames(frames).to_dict()))["runtime"]
    assert (told["runtime"], told["precision"], told["device"]) == ("openvino", "bf16", "cpu")


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_video_has_the_same_record_alone_and_in_a_batch(runtime, tmp_path):
    model = tiny_model("adafocus-v1")
    with (tmp_path / "tiny.safetensors").open("wb") as file:
        write(file, About(spec=model.spec), model.state_dict())
    paths = [str(numbered_clip(tmp_path / f"{number}.mp4", frames=20 + number)) for number in range(4)]

    def records(command, videos, *options):
        output = tmp_path / f"{command}.jsonl"
        how = ("-w", str(tmp_path / "tiny.safetensors"), "--runtime", runtime, "--device", "cpu", "--logits")
        assert Forked("adafocus_cli", [command, *videos, *how, "-o", output, *options, "-q"]).wait(120) == 0
        lines = map(json.loads, output.read_text().splitlines())
        return {line["video"]["path"]: line for line in lines if "video" in line}

    alone, together = records("classify", paths[:1], "-f", "jsonl")[paths[0]], records("batch", paths)[paths[0]]
    assert alone["runtime"]["runtime"] == together["runtime"]["runtime"] == runtime
    together = {name: together[name] for name in alone}  # a batch adds its settings
    assert without_timings(alone) == without_timings(together)
