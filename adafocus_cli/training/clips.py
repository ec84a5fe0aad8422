"""Labelled clips as a model sees them, uint8, and batches of them that worker processes read ahead.

What a clip looks like follows from its index and the epoch, and the order of clips from the seed, the stage and the
epoch: the number of workers changes nothing but the speed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adafocus_cli.errors import AdaFocusError, VideoError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import FrameFolder
from adafocus_cli.models import build
from adafocus_cli.models.base import Family
from adafocus_cli.schema import VideoInfo
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.pictures import cut_looks, resized
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import Look
from adafocus_cli.worlds import World, world

Moment = tuple[int, ...]
"""A stage and an epoch; in validation, nothing: its clips never change."""


def seed_for(*parts: object) -> int:
    """A seed that is different wherever any part is.

    >>> seed_for("order", 0, 1) == seed_for("order", 0, 1), seed_for("order", 0, 1) == seed_for("order", 1, 0)
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """The frames of the model's plan (n, s, s, 3), in its order; None if the video cannot be read."""

    pixels: np.ndarray | None
    target: int
    unreadable: dict[str, str] = field(default_factory=dict)
    """Videos that could not be read meanwhile, and why."""
    cuts: np.ndarray | None = None
    """What is seen of the source (looks, p, p, 3), if there are looks."""


class ClipSet(Protocol):
    def __len__(self) -> int: ...

    def read(self, index: int, moment: Moment) -> TrainingClip: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class PlannedFrames:
    """The frames of a video that a model of these sizes needs."""

    spec: ModelSpec

    @cached_property
    def _family(self) -> Family:
        with torch.device("meta"):
            return build(self.spec)

    def numbers(self, count: int) -> tuple[int, ...]:
        return self._family.plan(count).frames

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers(1)), *self.spec.framing.shape)


@dataclass(frozen=True)
class SceneClips:
    """Scenes of a synthetic world: new ones in every epoch of training, always the same ones in validation."""

    name: str
    unseen: bool
    count: int
    planned: PlannedFrames
    seed: int
    balanced: bool = False
    """Whether every class has its share in training too, and not by chance."""

    def __len__(self) -> int:
        return self.count

    @cached_property
    def _world(self) -> World:
        return world(self.name, unseen=self.unseen)

    def read(self, index: int, moment: Moment) -> TrainingClip:
        label = None if moment and not self.balanced else index % len(self._world.labels)
        scene = self._world.scene(seed_for("scene", self.seed, moment, index), label=label)
        numbers = self.planned.numbers(scene.count)
        distinct = sorted(set(numbers))
        pixels = resized(scene.frames(distinct), self.planned.spec.frame_size)
        return TrainingClip(pixels[np.searchsorted(distinct, numbers)], scene.label)

    def close(self) -> None:
        pass


class FrameCache:
    """Decoded frames in a file that all workers map into memory."""

    def __init__(self, path: Path, clips: int, shape: tuple[int, ...]) -> None:
        self._path, self._clips, self._shape = path, clips, shape

    def __reduce__(self) -> tuple[type[FrameCache], tuple[Path, int, tuple[int, ...]]]:
        return FrameCache, (self._path, self._clips, self._shape)

    @property
    def bytes(self) -> int:
        return self._clips * (1 + int(np.prod(self._shape)))

    def create(self) -> None:
        with self._path.open("wb") as file:
            file.truncate(self.bytes)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    @cached_property
    def _filled(self) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
        return np.memmap(self._path, np.uint8, "r+", 0, (self._clips,))

    @cached_property
    def _frames(self) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
        return np.memmap(self._path, np.uint8, "r+", self._clips, (self._clips, *self._shape))

    def get(self, index: int) -> np.ndarray | None:
        return np.asarray(self._frames[index]) if self._filled[index] else None

    def put(self, index: int, pixels: np.ndarray) -> None:
        self._frames[index] = pixels
        self._filled[index] = 1


@dataclass(frozen=True)
class Augmentation:
    """Random crop and mirroring, the same for all frames of a clip."""

    seed: int
    flips: bool
    smallest: float = 0.6

    def __call__(self, pixels: np.ndarray, index: int, moment: Moment) -> np.ndarray:
        rng = np.random.default_rng(seed_for("augmentation", self.seed, moment, index))
        size = pixels.shape[1]
        side = round(size * sqrt(rng.uniform(self.smallest, 1.0)))
        left, top = map(int, rng.integers(0, size - side + 1, 2))
        part = resized(pixels[:, top : top + side, left : left + side], size)
        return part[:, :, ::-1] if self.flips and rng.random() < 0.5 else part


@dataclass(frozen=True, eq=False)
class FileClips:
    """Labelled videos. One that cannot be read is reported; in training the next one in the list replaces it."""

    samples: Sequence[Sample]
    targets: Sequence[int]
    planned: PlannedFrames
    cache: FrameCache | None = None
    augmentation: Augmentation | None = None
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    limits: Limits = field(default_factory=Limits)
    looks: Callable[[VideoInfo], Sequence[Look]] | None = None
    """What else is wanted of the source of a video; not kept in the cache."""
    _failed: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, moment: Moment) -> TrainingClip:
        unreadable: dict[str, str] = {}
        for candidate in self._candidates(index, moment):
            found = self._pixels(candidate)
            if found is None:
                unreadable[self.samples[candidate].path] = self._failed[candidate]
                continue
            pixels, cuts = found
            if moment and self.augmentation:
                pixels = self.augmentation(pixels, index, moment)
            return TrainingClip(pixels, self.targets[candidate], unreadable, cuts)
        return TrainingClip(None, self.targets[index], unreadable)

    def close(self) -> None:
        if "_process" in self.__dict__:
            self._process.close()

    def _candidates(self, index: int, moment: Moment) -> Iterable[int]:
        return ((index + step) % len(self) for step in range(len(self) if moment else 1))

    def _pixels(self, candidate: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        if candidate in self._failed:
            return None
        pixels = self.cache.get(candidate) if self.cache else None
        if pixels is not None:
            return pixels, None
        try:
            pixels, cuts = self._decoded(self.samples[candidate])
        except VideoError as error:
            self._failed[candidate] = str(error)
            return None
        if self.cache:
            self.cache.put(candidate, pixels)
        return pixels, cuts

    def _decoded(self, sample: Sample) -> tuple[np.ndarray, np.ndarray | None]:
        """Decodes each frame once, however often the plan has it."""
        framing, cuts = self.planned.spec.framing, None
        if os.path.isdir(sample.path):  # noqa: PTH112 - the path as it was given
            folder = FrameFolder.open(sample.path, frames=sample.frames)
            numbers = self.planned.numbers(len(folder.images))
            distinct = sorted(set(numbers))
            pixels = np.stack([folder.pixels(number, framing) for number in distinct])
            if looks := self.looks and self.looks(folder.info()):
                cuts = cut_looks(looks, folder.source)
        else:
            video = self._process.open(sample.path)
            numbers = self.planned.numbers(video.info.frames)
            distinct = sorted(set(numbers))
            looks = self.looks and self.looks(video.info)
            pixels = self._process.frames(video, distinct, framing=framing, keep_source=bool(looks)).pixels
            if looks:
                cuts, _ = self._process.cuts(video, looks)
        return pixels[np.searchsorted(distinct, numbers)], cuts

    @cached_property
    def _process(self) -> VideoProcess:
        process = VideoProcess(decoder=self.decoder, limits=self.limits)
        Finalize(self, process.close, exitpriority=1)  # a worker process ends without leaving any context
        return process


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    frames: Tensor
    """uint8 (b, n, s, s, 3), in the order of the model's plan."""
    targets: Tensor
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.targets)


_Request = tuple[int, Moment]


class _ClipDataset(Dataset[TrainingClip]):
    def __init__(self, training: ClipSet, validation: ClipSet) -> None:
        self._training, self._validation = training, validation

    def __getitem__(self, request: _Request) -> TrainingClip:
        index, moment = request
        return (self._training if moment else self._validation).read(index, moment)


class Loader:
    """Batches of clips; of each, the share of one process (`rank` of `size`)."""

    def __init__(
        self,
        training: ClipSet,
        validation: ClipSet,
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
            _ClipDataset(training, validation),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=limit_threads,
            # A forked process would hold locks of threads that it does not have.
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # leaves torch's own generator alone
        )

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._workers  # ends them
        for clips in (self._training, self._validation):
            clips.close()

    def training(self, stage: int, epoch: int, pieces: int = 1) -> Iterator[TrainingBatch]:
        """Full batches only, each in `pieces`, of clips in a new order; what is left over comes in another epoch."""
        rng = np.random.default_rng(seed_for("order", self._seed, stage, epoch))
        order = np.resize(rng.permutation(len(self._training)), self.steps * self._batch_size)
        shares = order.reshape(self.steps, self._batch_size)[:, self._rank :: self._size]
        batches = shares.reshape(self.steps * pieces, -1)
        for batch in self._read(batches, (stage, epoch)):
            if len(batch) < batches.shape[1]:
                reason = next(iter(batch.unreadable.values()))
                raise AdaFocusError(f"none of the {len(self._training)} videos can be read; such as: {reason}")
            yield batch

    def validation(self, pieces: int = 1) -> Iterator[TrainingBatch]:
        """All clips once; unreadable ones are left out."""
        share = np.arange(self._rank, len(self._validation), self._size)
        each = max(1, self._batch_size // self._size // pieces)
        yield from self._read([share[start : start + each] for start in range(0, len(share), each)], ())

    def _read(self, batches: Iterable[np.ndarray], moment: Moment) -> Iterator[TrainingBatch]:
        self._batches[:] = [[(int(index), moment) for index in batch] for batch in batches]
        with without_interrupts():
            read = iter(self._workers)
        yield from read


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that start in this block ignore Ctrl-C, which reaches all processes of a terminal at once; this process
    gets it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # missing on some systems

    resource_tracker.ensure_running()  # started later, it would not ignore it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collate(clips: Sequence[TrainingClip]) -> TrainingBatch:
    there = [(clip.pixels, clip.target) for clip in clips if clip.pixels is not None]
    frames = torch.from_numpy(np.stack([pixels for pixels, _ in there])) if there else torch.empty(0, dtype=torch.uint8)
    unreadable = {path: reason for clip in clips for path, reason in clip.unreadable.items()}
    return TrainingBatch(frames, torch.tensor([target for _, target in there], dtype=torch.int64), unreadable)


def limit_threads(number: int) -> None:
    """In a worker process: all of them share the processor."""
    torch.set_num_threads(1)
