"""Batches of clips in the order of an epoch, read ahead by worker processes.

The order follows from the seed, the stage and the epoch; how many workers there are changes nothing but the speed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.training.clips import Clip, Clips, Moment
from adafocus_cli.training.settings import mix


@dataclass(frozen=True, eq=False)
class Batch:
    frames: Tensor
    """uint8 (b, n, s, s, 3), in the order of the model's plan."""
    targets: Tensor
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.targets)


_Request = tuple[int, Moment]


class _ClipSet(Dataset[Clip]):
    def __init__(self, training: Clips, validation: Clips) -> None:
        self._training, self._validation = training, validation

    def __getitem__(self, request: _Request) -> Clip:
        index, moment = request
        return (self._training if moment else self._validation).read(index, moment)


class Loader:
    """The share of one process (`rank` of `size`) in every batch."""

    def __init__(
        self,
        training: Clips,
        validation: Clips,
        *,
        seed: int,
        batch_size: int,
        accumulate: int,
        workers: int,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self._training, self._validation = training, validation
        self._seed, self._batch_size, self._rank, self._size = seed, batch_size, rank, size
        self.steps = accumulate * max(1, len(training) // (batch_size * accumulate))
        self._batches: list[list[_Request]] = []  # what the workers read next
        self._workers = DataLoader(
            _ClipSet(training, validation),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collated,
            worker_init_fn=_begin,
            # A copy of this process would hold locks of threads that it does not have.
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # leaves torch's own chance alone
        )

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._workers  # ends them
        for clips in (self._training, self._validation):
            clips.close()

    def training(self, stage: int, epoch: int) -> Iterator[Batch]:
        """Whole batches only, of clips in a new order; what is left over has its turn in another epoch."""
        chance = np.random.default_rng(mix("order", self._seed, stage, epoch))
        order = np.resize(chance.permutation(len(self._training)), self.steps * self._batch_size)
        batches = order.reshape(self.steps, self._batch_size)[:, self._rank :: self._size]
        for batch in self._read(batches, (stage, epoch)):
            if len(batch) < batches.shape[1]:
                reason = next(iter(batch.unreadable.values()))
                raise AdaFocusError(f"none of the {len(self._training)} videos can be read; such as: {reason}")
            yield batch

    def validation(self) -> Iterator[Batch]:
        """All clips once; unreadable ones are left out."""
        share = np.arange(self._rank, len(self._validation), self._size)
        each = max(1, self._batch_size // self._size)
        yield from self._read([share[start : start + each] for start in range(0, len(share), each)], ())

    def _read(self, batches: Iterable[np.ndarray], moment: Moment) -> Iterator[Batch]:
        self._batches[:] = [[(int(index), moment) for index in batch] for batch in batches]
        with _deaf_children():
            read = iter(self._workers)
        yield from read


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal at once; those that begin in this block leave it to this one, which
    hears of it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # not of every system

    resource_tracker.ensure_running()  # it would listen again when it begins by itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collated(clips: Sequence[Clip]) -> Batch:
    there = [(clip.pixels, clip.target) for clip in clips if clip.pixels is not None]
    frames = torch.from_numpy(np.stack([pixels for pixels, _ in there])) if there else torch.empty(0, dtype=torch.uint8)
    unreadable = {path: reason for clip in clips for path, reason in clip.unreadable.items()}
    return Batch(frames, torch.tensor([target for _, target in there], dtype=torch.int64), unreadable)


def _begin(number: int) -> None:
    """In a worker: the processor is shared with the others."""
    torch.set_num_threads(1)
