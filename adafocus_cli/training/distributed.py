"""The processes that train one model together, as `torchrun` starts them; most often there is only one.

Every process takes its share of each batch; gradients are averaged, and only the first process writes and shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")


@dataclass(frozen=True)
class Team:
    rank: int = 0
    size: int = 1
    local: int = 0
    """The number of this process on its machine."""

    @classmethod
    def of_environment(cls) -> Team:
        """As torchrun says it."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ[name]) for name in names)) if all(map(os.environ.get, names)) else cls()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Each process its own of several."""
        return torch.device(device.type, self.local) if self.size > 1 and device.type == "cuda" else device

    @contextmanager
    def together(self, device: torch.device) -> Iterator[None]:
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            distributed.destroy_process_group()

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The others wait until it is done."""
        if not self.first:
            self.all_of(None)
        yield
        if self.first:
            self.all_of(None)

    def sharing(self, learner: nn.Module) -> nn.Module:
        """The learner with gradients averaged over all processes; whatever can learn has one in every step."""
        return learner if self.size == 1 else DistributedDataParallel(learner)

    def without_sharing(self, learner: nn.Module) -> AbstractContextManager[None]:
        """For steps whose gradients wait for those of the next."""
        if isinstance(learner, DistributedDataParallel):
            return cast("AbstractContextManager[None]", learner.no_sync())
        return nullcontext()

    def align(self, module: nn.Module) -> None:
        """Batch norms as the first process has them: each has seen other clips."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def all_of(self, thing: _T) -> list[_T]:
        """That of every process."""
        if self.size == 1:
            return [thing]
        things: list[_T | None] = [None] * self.size
        distributed.all_gather_object(things, thing)
        return cast("list[_T]", things)
