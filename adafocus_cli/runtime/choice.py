"""Which runtime takes a model: the one that was asked for, or the faster one of those that are there.

The choice depends on the model and the machine, never on the videos: a video has the same answer alone and in a batch.
"""

from __future__ import annotations

from importlib.util import find_spec

from adafocus_cli.errors import DeviceError
from adafocus_cli.models.base import Family
from adafocus_cli.nn.backbones import EfficientNetLite, MobileNetV2, ResNet
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime import Runtime
from adafocus_cli.runtime.pytorch import TorchRuntime, resolve_device


def runtime_for(model: Family, request: ModelRequest) -> Runtime:
    """The model, ready to run: by OpenVINO where that can be and nothing else is asked for."""
    runtime, device, precision = request.runtime, request.device, request.precision
    if runtime not in ("auto", "torch", "openvino"):
        raise DeviceError(f"no runtime {runtime!r}; auto, torch, openvino are known")
    obstacle = "" if runtime == "torch" else _obstacle(model, device)
    if obstacle and runtime == "openvino":
        raise DeviceError(f"{obstacle}, or use --runtime torch")
    if obstacle or runtime == "torch":
        return TorchRuntime(model, device=device, precision=precision, batch_size=request.batch_size)
    from adafocus_cli.runtime.openvino import OpenVinoRuntime

    return OpenVinoRuntime(model, precision=precision)


def _obstacle(model: Family, device: str) -> str:
    """Why OpenVINO cannot run this model here, and what to do about it; nothing if it can."""
    if resolve_device(device).type != "cpu":
        return "OpenVINO runs on the processor only: add --device cpu"
    if find_spec("openvino") is None:
        return 'OpenVINO is not there: pip install "adafocus-cli[openvino]"'
    if not model.cuts_patches:
        return "OpenVINO is not given networks over whole clips: take another model"
    spec = model.spec
    for network, arch in ((model.glance_net, spec.glance.arch), (model.focus_net, spec.focus.arch)):
        if not isinstance(network, MobileNetV2 | EfficientNetLite | ResNet):
            return f"OpenVINO is not given networks called {arch!r}: take another model"
    return ""
