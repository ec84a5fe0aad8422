"""The stages on PyTorch: devices, number formats, and what makes a network fast that no longer learns.

The two backbones may run in half precision; policy and classifier stay in full, for they decide.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import ClassVar, Concatenate, ParamSpec, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from adafocus_cli.errors import DeviceError
from adafocus_cli.models.base import Family, Gaze, Memory, Turn
from adafocus_cli.nn.backbones import Backbone
from adafocus_cli.nn.x3d import X3D, align_channels
from adafocus_cli.requests import Precision
from adafocus_cli.runtime.cuda import Graphs, Uploads

logger = logging.getLogger("adafocus")

# TF32 is how tensor cores may multiply float32: numbers keep their range, but 10 bits of them are multiplied.
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A processor is busy with the frames of one clip, and slower with more of them, which leave its caches; and one by
# one, a clip's answer cannot depend on the others.
CPU_LANES = 1
ACCELERATOR_LANES = 16
# While one waits for its answers, the frames of the other are gathered and copied.
CUDA_LOOPS = 2
# Of one channel of the frames of a piece: what lies between the layers of a MobileNetV2 then stays in a core's caches.
CPU_BYTES = 1 << 20
# That a core with AVX2 computes at once; X3D's blocks have 54 and 108, and take 3 to 8 % less time with 56 and 112.
CPU_CHANNELS = 8
# Of a turn, in multiply-adds. Below that, threads that share each layer wait for one another longer than they work, and
# on a busy machine they spin meanwhile.
SHARED_FROM = 2_000_000_000

# The stages that are a network; others decide, and calculate in full.
_NETWORKS = ("glance", "focus")

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _OneThreadEach:
    """While anybody is in it, torch calculates on one thread; before and afterwards on as many as it gives."""

    def __init__(self) -> None:
        self._access = threading.Lock()
        self._inside = 0
        self._threads = 0

    def __enter__(self) -> int:
        with self._access:
            if not self._inside:
                self._threads = torch.get_num_threads()
                torch.set_num_threads(1)  # of threads that are yet to start, too
            self._inside += 1
            return self._threads

    def __exit__(self, *error: object) -> None:
        with self._access:
            self._inside -= 1
            if not self._inside:
                torch.set_num_threads(self._threads)


_ONE_THREAD_EACH = _OneThreadEach()


def _stage(function: Callable[Concatenate[TorchRuntime, _P], _R]) -> Callable[Concatenate[TorchRuntime, _P], _R]:
    """Without gradients, and reproducibly: no reduced-precision multiplication unless asked for, no autotuning."""

    @functools.wraps(function)
    def run(self: TorchRuntime, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        tf32 = self.precision == "tf32" and function.__name__ in _NETWORKS
        with (
            self.launching,
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
        ):
            return function(self, *args, **kwargs)

    return run


class TorchRuntime:
    name = "torch"
    computes_networks: ClassVar[bool] = True
    """Whether torch runs the backbones, and their weights lie as its convolutions like them."""

    def __init__(
        self, model: Family, *, device: str = "auto", precision: str = "auto", batch_size: int | None = None
    ) -> None:
        self._device = resolve_device(device)
        self.device = str(self._device)
        self.precision = resolve_precision(precision, self._device)
        on_processor = self._device.type == "cpu"
        self.lanes = CPU_LANES if on_processor else batch_size or ACCELERATOR_LANES
        # torch's flags are those of all threads, and nothing else may run on a device while a graph is captured.
        self.launching: AbstractContextManager[object] = nullcontext()
        self._uploads: Uploads | None = None
        self._graphs: Graphs | None = None
        if self._device.type == "cuda":
            self.launching, self._uploads = threading.RLock(), Uploads(self._device)
        self.model: Family = model.to(device=self._device).eval()
        if on_processor:
            slice_large_layers(self.model)
        for part in self.model.modules():
            if isinstance(part, Backbone):
                fold(part)
                if self.computes_networks:
                    part.to(memory_format=torch.channels_last)
                if on_processor and not model.clip_wise:
                    part.pixels_at_once = CPU_BYTES // PRECISIONS[self.precision].itemsize
                if PRECISIONS[self.precision] != torch.float32:
                    cast_convolutions(part, PRECISIONS[self.precision])
            elif isinstance(part, X3D):
                self._prepare_x3d(part)

    def _prepare_x3d(self, network: X3D) -> None:
        fold(network)
        if self._device.type == "cpu":
            align_channels(network, CPU_CHANNELS)
            if self.computes_networks:  # convolutions of one channel each take half the time so
                network.to(memory_format=torch.channels_last_3d)

    def halve_lanes(self) -> bool:
        if self.lanes == 1:
            return False
        logger.warning("%s is out of memory with %d videos at a time; going on with half", self.device, self.lanes)
        self.lanes //= 2
        if self._graphs is not None:
            self._graphs.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    @contextmanager
    def spread(self) -> Iterator[int]:
        """A processor does most with one clip on each core: a clip on all cores leaves them waiting for one another.

        Where many videos go the same way, a CUDA device captures it.
        """
        if self._device.type == "cuda":
            self._graphs = self._graphs or Graphs(self._device)
            yield CUDA_LOOPS
            return
        if self._device.type != "cpu":
            yield 1
            return
        with _ONE_THREAD_EACH as cores:
            yield cores

    def small(self, macs: int) -> bool:
        """Whether clips whose turns cost no more are calculated on one thread."""
        return self._device.type == "cpu" and macs < SHARED_FROM

    @contextmanager
    def one_by_one(self, macs: int) -> Iterator[None]:
        with _ONE_THREAD_EACH if self.small(macs) else nullcontext():
            yield

    @torch.inference_mode()
    def upload(self, clips: Sequence[np.ndarray]) -> Tensor:
        if self._uploads is not None:
            return self._uploads.copy(clips)
        return torch.from_numpy(np.stack(clips)).to(self._device)

    @_stage
    def glance(self, pixels: Tensor) -> Tensor:
        return self._network("glance", lambda some: self.model.glance(self.model.normalised(some)), pixels)

    @_stage
    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        return self.model.locate(turn, glance_maps, memory)

    @_stage
    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        return self.model.patches(pixels, boxes)

    @_stage
    def focus(self, patches: Tensor) -> Tensor:
        return self._network("focus", self.model.focus, patches)

    @_stage
    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        return self.model.classify(turn, glance_maps, focused, memory)

    def _network(self, name: str, network: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        if self._graphs is None:
            return network(given).float()
        return self._graphs.run(name, lambda some: network(some).float(), given)


def resolve_device(name: str) -> torch.device:
    """The device of that name, if this machine has it; `auto` prefers a CUDA device to the processor."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"{name!r} is not a device; give auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise DeviceError(
            f"device {name} is not there: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu, or see `adafocus doctor`"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not there; use --device cpu, or see `adafocus doctor`")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """The number format of that name, if torch computes in it on the device; `auto` is full precision."""
    if name == "auto":
        return "fp32"
    if name == "int8":
        raise DeviceError("int8 is for models that OpenVINO runs; use another --precision")
    if name not in PRECISIONS:
        raise DeviceError(f"{name!r} is not a precision; give {', '.join(get_args(Precision))}")
    if name == "tf32" and not _has_tf32(device):
        raise DeviceError(f"device {device} has no tf32, which NVIDIA GPUs have since Ampere; use --precision fp32")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"device {device} does not compute in bf16; use --precision fp16 or fp32")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is fifty times slower on a CPU; use --precision bf16 or fp32")
    return name


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def names_of_networks(model: Family) -> tuple[str, ...]:
    """Of the networks that see: two, or one over whole clips."""
    return ("glance_net", "focus_net") if model.cuts_patches else ("net",)


# Fewer layers, and weights in one number format.


def fold(network: nn.Module) -> None:
    """Every norm that is declared right after a convolution becomes part of its weights."""
    for before, after in pairwise(name for name, _ in network.named_children()):
        (at, name), (norm_at, norm_name) = _end(network, before, -1), _end(network, after, 0)
        layer, norm = at.get_submodule(name), norm_at.get_submodule(norm_name)
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            # Not `fuse_conv_bn_eval`, which copies the layer first.
            layer.weight, layer.bias = fuse_conv_bn_weights(
                layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            setattr(norm_at, norm_name, nn.Identity())
    for child in network.children():
        fold(child)


def _end(network: nn.Module, name: str, place: int) -> tuple[nn.Module, str]:
    """The first or last layer that a child runs, as where it is and its name there."""
    child = network.get_submodule(name)
    if isinstance(child, nn.Sequential) and len(child):
        return _end(child, [inner for inner, _ in child.named_children()][place], place)
    return network, name


def cast_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Convolutions calculate in `dtype`, with weights that are cast once; what they are given is cast as needed.

    What lies between them keeps the format that it comes in, so that a layer may stay in full precision.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(dtype)
            layer.register_forward_pre_hook(_like_weights)


def _like_weights(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> Tensor:
    return inputs[0].to(layer.weight.dtype)


# Large linear layers and GRUs in slices, so that all cores of a processor read their weights.
#
# With the few rows that one video has, such a layer waits for memory, and a plain product of matrices reads on one
# core. Each slice is calculated by one core: the same bits, however many there are.

SLICES = 8
# More than a core's cache holds; smaller ones are no faster for it.
_LARGE = 1 << 19


def slice_large_layers(model: nn.Module) -> None:
    """Replaces them. Those without a bias are left: where there are some, in SFC, they see many rows."""
    for name, layer in model.named_children():
        if isinstance(layer, nn.GRU) and _is_plain(layer) and _is_large(layer.get_parameter("weight_hh_l0")):
            setattr(model, name, SlicedGRU(layer))
        elif isinstance(layer, nn.Linear) and layer.bias is not None and _is_large(layer.weight):
            setattr(model, name, SlicedLinear(layer.weight, layer.bias))
        else:
            slice_large_layers(layer)


def _is_plain(gru: nn.GRU) -> bool:
    return gru.num_layers == 1 and gru.batch_first and gru.bias and not gru.bidirectional


def _is_large(weight: Tensor) -> bool:
    return weight.numel() >= _LARGE and len(weight) % SLICES == 0


class SlicedLinear(nn.Module):
    """As `nn.Linear`. The slices are views of its weights, which stay where they are."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weight.detach().view(SLICES, -1, weight.shape[1]), requires_grad=False)
        self.biases = nn.Parameter(bias.detach().view(SLICES, -1, 1), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(0, -2)
        if len(flat) == 1:  # as a row it is multiplied as fast as weights are read, as a column in twice the time
            out = torch.baddbmm(self.biases.mT, flat.expand(SLICES, -1, -1), self.weights.mT)
            return out.reshape(*rows.shape[:-1], -1)
        outs = torch.baddbmm(self.biases, self.weights, flat.mT.expand(SLICES, -1, -1))
        return outs.flatten(0, 1).mT.reshape(*rows.shape[:-1], -1)


class SlicedGRU(nn.Module):
    """As an `nn.GRU` of one layer with `batch_first`."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.inputs = SlicedLinear(gru.get_parameter("weight_ih_l0"), gru.get_parameter("bias_ih_l0"))
        self.hidden = SlicedLinear(gru.get_parameter("weight_hh_l0"), gru.get_parameter("bias_hh_l0"))
        self.width = gru.hidden_size

    def forward(self, steps: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        state = steps.new_zeros(len(steps), self.width) if hidden is None else hidden[0]
        states = []
        for given in self.inputs(steps).unbind(1):
            reset, update, new = given.chunk(3, dim=-1)
            by_reset, by_update, by_new = self.hidden(state).chunk(3, dim=-1)
            new = (new + (reset + by_reset).sigmoid() * by_new).tanh()
            state = new + (update + by_update).sigmoid() * (state - new)
            states.append(state)
        return torch.stack(states, dim=1), state[None]
