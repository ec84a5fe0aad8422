"""A CUDA device that is not there: tensors on it have shapes and a device but no numbers, and whatever mixes devices
fails.

What crosses to the processor is zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from adafocus_cli.runtime import cuda, pytorch

DEVICE = torch.device("cuda:0")
_COPIES = ("to", "copy_")
_NUMBERS = {torch.float32: np.float32, torch.int64: np.int64}


class OneDevice(TorchFunctionMode):
    """Also what torch would move by itself, and wait for: indices on the processor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        if len(given) > 1 and getattr(func, "__name__", "") not in _COPIES:
            devices = {str(tensor.device) for tensor in given if tensor.ndim}
            if len(devices) > 1:
                raise RuntimeError(f"{func.__name__} was given tensors on {' and '.join(sorted(devices))}")
        return func(*args, **(kwargs or {}))


class Stream:
    """One that does nothing; it notes what was asked of it."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.asked: list[str] = []

    def record_event(self) -> str:
        self.asked.append("record")
        return "copied"

    def wait_event(self, event: str) -> None:
        self.asked.append(f"wait until {event}")


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While it lasts, `cuda` names that device, for whatever is built (on `meta`) and run."""
    monkeypatch.setattr(pytorch, "resolve_device", lambda name: torch.device("cpu" if name == "cpu" else DEVICE))
    monkeypatch.setattr(nn.Module, "to", _to)
    monkeypatch.setattr(FakeTensor, "__deepcopy__", _copy, raising=False)
    monkeypatch.setattr(Tensor, "cpu", _cpu)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(cuda, "_gathered", lambda clips: torch.from_numpy(np.stack(clips)))
    # Without torch's dispatcher in Python, a GRU would ask cuDNN what the device can do.
    with FakeTensorMode(allow_non_fake_inputs=True), OneDevice(), enable_python_dispatcher():
        yield


def _to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """As `nn.Module.to`, which puts new numbers into old tensors; these have none."""
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    for part in module.modules():
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            number = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            moved = torch.empty(tensor.shape, device=device or tensor.device, dtype=number)
            setattr(part, name, _as(tensor, moved))
    return module


def _copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """torch's own would copy the mode as well, and crash."""
    return _as(tensor, tensor.detach().clone())


def _as(tensor: Tensor, other: Tensor) -> Tensor:
    return nn.Parameter(other, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else other


def _cpu(tensor: Tensor) -> Tensor:
    assert tensor.device == DEVICE, "what the loop takes back was calculated elsewhere"
    with _disable_current_modes():
        return torch.from_numpy(np.zeros(tuple(tensor.shape), _NUMBERS[tensor.dtype]))
