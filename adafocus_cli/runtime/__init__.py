"""Runs the stages of a model on a batch of clips, and chooses what runs them on this machine.

The choice depends on the model and the machine, never on the videos: a video has the same answer alone and in a batch.
Only the modules in this folder name devices.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from torch import Tensor

from adafocus_cli.errors import DeviceError
from adafocus_cli.models.base import Family, Gaze, Memory, Turn
from adafocus_cli.nn.backbones import EfficientNetLite, MobileNetV2, ResNet
from adafocus_cli.nn.clip_networks import ResNet50
from adafocus_cli.nn.x3d import X3D
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime.pytorch import TorchRuntime, names_of_networks, resolve_device

# Without it OpenVINO does not tell its makers, over the network and unasked, whenever it is loaded.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class Runtime(Protocol):
    """The stages of `Family` for `lanes` clips at a time.

    Every call has exactly `lanes` clips (the tagger fills up with copies), so that the shapes, and with them the order
    of summation and the last bit of every answer, never depend on which clips happen to be tagged together.
    """

    name: str
    device: str
    precision: str
    model: Family

    @property
    def lanes(self) -> int: ...

    def halve_lanes(self) -> bool:
        """After memory ran out: half as many clips from now on; False if there is no fewer."""

    def spread(self) -> AbstractContextManager[int]:
        """Makes ready for threads that run stages at the same time, meanwhile; how many are worth having."""

    def one_by_one(self, macs: int) -> AbstractContextManager[None]:
        """Makes ready for clips one after the other, of which no turn costs more, meanwhile."""

    def upload(self, clips: Sequence[np.ndarray]) -> Tensor:
        """The frames of each clip, uint8 (frames, side, side, 3), stacked, to where the stages run."""

    def glance(self, pixels: Tensor) -> Tensor: ...

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze: ...

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor: ...

    def focus(self, patches: Tensor) -> Tensor: ...

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor: ...


def runtime_for(model: Family, request: ModelRequest) -> Runtime:
    """The model, ready to run: by OpenVINO where that can be and nothing else is asked for."""
    runtime, device, precision = request.runtime, request.device, request.precision
    if runtime not in ("auto", "torch", "openvino"):
        raise DeviceError(f"{runtime!r} is not a runtime; give auto, torch or openvino")
    obstacle = "" if runtime == "torch" else _obstacle(model, device)
    if precision == "int8":
        _check_eight_bits(model, request, obstacle or ("leave out --runtime torch" if runtime == "torch" else ""))
    if obstacle and runtime == "openvino":
        raise DeviceError(f"{obstacle}, or use --runtime torch")
    if obstacle or runtime == "torch":
        return TorchRuntime(model, device=device, precision=precision, batch_size=request.batch_size)
    from adafocus_cli.runtime.openvino import OpenVinoRuntime

    return OpenVinoRuntime(model, precision=precision)


def _check_eight_bits(model: Family, request: ModelRequest, obstacle: str) -> None:
    if obstacle:
        raise DeviceError(f"--precision int8 is for OpenVINO: {obstacle}, or use another --precision")
    if not model.int8:
        raise DeviceError(
            f"{request.name_or_file} has no ranges for --precision int8; quantize it first: adafocus models quantize "
            f"{request.name_or_file} --videos FOLDER -o FILE.safetensors"
        )


def _obstacle(model: Family, device: str) -> str:
    """Why OpenVINO cannot run this model here, and what to do about it; nothing if it can."""
    if resolve_device(device).type != "cpu":
        return "OpenVINO runs on the processor only: add --device cpu"
    if find_spec("openvino") is None:
        return 'OpenVINO is not there: pip install "adafocus-cli[openvino]"'
    for name in names_of_networks(model):
        network = getattr(model, name, None)
        if network is None:
            return f"OpenVINO is not given models of family {model.name}: take another model"
        if not isinstance(network, MobileNetV2 | EfficientNetLite | ResNet | ResNet50 | X3D):
            arch = (model.spec.focus if name == "focus_net" else model.spec.glance).arch
            return f"OpenVINO is not given networks called {arch!r}: take another model"
    return ""
