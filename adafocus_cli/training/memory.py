"""Fits the steps of a run to the memory of the machine, before that memory is taken.

A step with the fewest clips is tried in every stage while its tensors are counted; the trial ends where they become too
large. From its peak follows into how many pieces a batch is cut: the gradients of the pieces add up to that of the
batch. What cannot fit is refused.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.training.clips import PlannedFrames, seed_for
from adafocus_cli.training.learner import Learner
from adafocus_cli.training.recipes import DENSE, SKIP, Stage, TrainingSettings

DEFAULT_GB = 4.0
"""What a run takes at most of a processor's memory, so that the same command is the same run on most machines."""

# What stays free, and what kernels and the allocator take besides the tensors.
_SHARE_OF_FREE = 0.9
_OVERHEAD = 1.2
# A process that reads clips, and its decoder; batches that each has ready (torch's default).
_WORKER_BYTES = 550_000_000
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Room:
    """Bytes that the steps of one process may take besides what it has already.

    `most` is for the smallest pieces, if they fit into nothing less.
    """

    bytes: float
    most: float
    by_option: bool
    """Whether --memory, given or not, is what limits the bytes."""

    @classmethod
    def of(cls, device: torch.device, memory_gb: float | None, *, workers: int, processes: int) -> Room:
        """For one of the `processes` of this machine; each has `workers` that read clips."""
        if device.type == "cuda":
            free, others = torch.cuda.mem_get_info(device)[0] * _SHARE_OF_FREE, 0
            own = float("inf") if memory_gb is None else memory_gb * 1e9 - torch.cuda.memory_allocated(device)
        else:
            free, others = free_memory() * _SHARE_OF_FREE / processes, workers * _WORKER_BYTES
            own = (DEFAULT_GB if memory_gb is None else memory_gb) * 1e9 / processes - _resident()
        room = min(free, own) - others
        return cls(room, free - others if memory_gb is None else room, by_option=own < free)


def free_memory(root: Path = Path("/")) -> float:
    """Bytes that this process may still take: of the machine, its control groups and its own limit."""
    return min([_available(root), *_left_in_groups(root), _left_in_limit(root)])


def _available(root: Path) -> float:
    with suppress(OSError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return float("inf")


def _left_in_groups(root: Path) -> Iterator[float]:
    """Of each control group that this process is in, from its own up to the first: version 2, and version 1."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, names = (
                ("sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
                if controllers
                else ("sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file"))
            )
            own = Path(group.lstrip("/"))
            for folder in (own, *own.parents):
                with suppress(OSError, ValueError):
                    yield _left_in_group(root / top / folder, *names)


def _left_in_group(folder: Path, limit: str, usage: str, reclaimable: str) -> float:
    """Raises ValueError for a group without a limit, which says `max`."""
    most = int((folder / limit).read_text())
    found = re.search(rf"^{reclaimable} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    return most - int((folder / usage).read_text()) + (int(found[1]) if found else 0)


def _left_in_limit(root: Path) -> float:
    """Of the address space, where `ulimit -v` has set a limit."""
    with suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return limit - float((root / "proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _resident() -> float:
    with suppress(OSError):
        return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0.0


# Trials.


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Cuts the batches of a run so that they fit into the room of this process."""

    settings: TrainingSettings
    device: torch.device
    precision: torch.dtype | None
    room: Room
    workers: int
    notify: Callable[[str], None]

    def pieces(self, model: Family, at_least: Sequence[int] = ()) -> tuple[int, ...]:
        """Into how many pieces each stage cuts its batches; raises if the smallest possible one does not fit."""
        stages = self.settings.stages
        return tuple(
            self._pieces(number, stage, model, least)
            for number, (stage, least) in enumerate(zip(stages, at_least or [1] * len(stages), strict=True))
        )

    def _pieces(self, number: int, stage: Stage, model: Family, least: int) -> int:
        share = self.settings.batch_size // self.settings.processes
        fewest = min(share, fewest_clips(model))
        torch.manual_seed(seed_for("trial", self.settings.seed, number))
        model.requires_grad_(True)
        learner = stage.learner_of(model).to(self.device).train()
        shape = PlannedFrames(model.spec).shape
        fixed = self._bytes_of_learning(stage, learner)
        try:
            peak = self._peak(learner, (fewest, *shape), self.room.most - fixed)
        except (_TooLargeError, torch.OutOfMemoryError):
            raise AdaFocusError(self._refusal(stage, fewest)) from None
        except ValueError as error:
            if share > 1 or "more than 1 value per channel" not in str(error):
                raise
            settings = self.settings
            raise UsageError(
                f"--batch-size {settings.batch_size} gives each process 1 clip, and norms of {settings.recipe} need "
                f"two; give {2 * settings.processes} or more"
            ) from error
        ahead = 0 if self.device.type == "cuda" else 1 + _BATCHES_AHEAD * self.workers
        of_clip = _OVERHEAD * peak / fewest + ahead * prod(shape)
        counts = [n for n in range(least, share // fewest + 1) if share % n == 0]
        fitting = [n for n in counts if fixed + of_clip * share / n <= self.room.bytes]
        if not fitting and fixed + of_clip * share / counts[-1] > self.room.most:
            raise AdaFocusError(self._refusal(stage, fewest))
        count = fitting[0] if fitting else counts[-1]
        if count > least:
            self.notify(
                f"stage {stage.name}: {share} clips at a time would take {_gb(fixed + of_clip * share)} of memory, and "
                f"there is room for {_gb(self.room.bytes)}; a step takes {share // count} at a time and adds up their "
                f"gradients, and batch norms see only these{self._more}"
            )
        return count

    @property
    def _more(self) -> str:
        return "; --memory GB allows more" if self.room.by_option else ""

    def _bytes_of_learning(self, stage: Stage, learner: Learner) -> int:
        """Gradients, the same again while processes average them, and what the optimizer remembers."""
        copies = 2 if stage.optimizer == "sgd" else 3
        learning = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        return sum(p.numel() * p.element_size() for p in learning) * (copies + (self.settings.processes > 1))

    def _peak(self, learner: Learner, shape: tuple[int, ...], limit: float) -> float:
        """The most that the tensors of a step take."""
        frames = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        targets = torch.zeros(shape[0], dtype=torch.int64, device=self.device)
        buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}

        def step() -> None:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                result = torch.func.functional_call(learner, buffers, (frames, targets))
            result.loss.backward()

        try:
            if self.device.type == "cuda":
                return self._peak_on_cuda(step)
            meter = _Meter([*learner.parameters(), *buffers.values(), frames], limit / _OVERHEAD)
            with meter:
                step()
            return meter.peak
        finally:
            learner.zero_grad()

    def _peak_on_cuda(self, step: Callable[[], None]) -> float:
        """Kernels' own memory comes from torch, too, and so is counted."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        try:
            step()
            return torch.cuda.max_memory_allocated(self.device) - before
        finally:
            torch.cuda.empty_cache()

    def _refusal(self, stage: Stage, clips: int) -> str:
        more = "allow more with --memory" if self.room.by_option else "make some free"
        return (
            f"stage {stage.name} needs more memory for {'one clip' if clips == 1 else f'{clips} clips'} than the "
            f"{_gb(self.room.most)} that there is room for; {more}, {smaller_model(self.settings)}"
        )


def fewest_clips(model: Family) -> int:
    """That a step may take at a time: norms over clips need two of them."""
    return 2 if model.clip_wise and model.cuts_patches else 1


def smaller_model(settings: TrainingSettings) -> str:
    """What to give, that a clip takes less memory."""
    if settings.recipe == SKIP:  # its networks are those of a file
        return "give a smaller model after --init"
    fewer = "give fewer --frames"
    return fewer if settings.recipe in ("sfc", DENSE) else f"{fewer}, or smaller networks with --glance and --focus"


class _TooLargeError(Exception):
    pass


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that live at the same time, without those that are known; raises at the limit."""

    def __init__(self, known: Sequence[Tensor], limit: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._living: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._limit = limit
        self._bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._living:
            return
        self._living[key] = weakref.ref(storage, lambda _: self._forget(key)), size
        self._bytes += size
        self.peak = max(self.peak, self._bytes)
        if self.peak > self._limit:
            raise _TooLargeError

    def _forget(self, key: int) -> None:
        self._bytes -= self._living.pop(key)[1]


def _gb(count: float) -> str:
    return f"{max(0.0, count) / 1e9:.1f} GB"
