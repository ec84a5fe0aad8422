"""The two networks on OpenVINO, compiled for each shape when it first comes; all else is torch's.

Nothing is kept on disk: to write a ResNet down and compile it takes a third of a second, and what OpenVINO would keep
saves little of that.
"""

from __future__ import annotations

import threading
from functools import cache

import openvino
import torch
from openvino import CompiledModel, Core
from torch import Tensor

from adafocus_cli.errors import DeviceError
from adafocus_cli.models.base import Family
from adafocus_cli.nn.backbones import Backbone
from adafocus_cli.runtime.openvino_graph import graph_of, make_writing
from adafocus_cli.runtime.pytorch import TorchRuntime, resolve_precision

_FORMATS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


@cache
def the_core() -> Core:
    """One for the life of the process. A core gives the thread that it compiles on a stack for signals and frees it
    when it goes: beside another core, or from another thread, that leaves a freed one, and the next signal kills."""
    return Core()


class OpenVinoRuntime(TorchRuntime):
    name = "openvino"

    def __init__(self, model: Family, *, precision: str = "auto") -> None:
        super().__init__(model, device="cpu", precision="fp32")
        self.precision = resolve_precision(precision, self._device)
        if self.precision == "bf16" and "BF16" not in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("this processor does not calculate in bf16; use --precision fp32")
        self._networks = [CompiledNetwork(net, self.precision) for net in (model.glance_net, model.focus_net)]
        model.glance_net, model.focus_net = self._networks

    def spread(self) -> int:
        cores = super().spread()
        for network in self._networks:
            network.serve(cores)
        return cores


class CompiledNetwork(Backbone):
    """A backbone that OpenVINO runs."""

    def __init__(self, network: Backbone, precision: str) -> None:
        super().__init__()
        make_writing(network)
        self.channels, self.stride, self.smooth = network.channels, network.stride, network.smooth
        self._network, self._precision = network, precision
        self._threads = 1
        self._by_shape: dict[tuple[int, ...], CompiledModel] = {}
        self._compiling = threading.Lock()

    def serve(self, threads: int) -> None:
        """Makes ready for so many threads that ask at the same time."""
        self._threads = threads
        self._by_shape.clear()

    def forward(self, frames: Tensor) -> Tensor:
        request = self._compiled(tuple(frames.shape)).create_infer_request()
        answer = request.infer([frames.contiguous().numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(answer[0].copy())

    def _compiled(self, shape: tuple[int, ...]) -> CompiledModel:
        with self._compiling:
            if shape not in self._by_shape:
                self._by_shape[shape] = the_core().compile_model(
                    graph_of(self._network, shape),
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": _FORMATS[self._precision],
                        "NUM_STREAMS": self._threads,
                        "INFERENCE_NUM_THREADS": max(self._threads, torch.get_num_threads()),
                        "ENABLE_CPU_PINNING": False,  # other processes decode on the same cores
                    },
                )
            return self._by_shape[shape]
