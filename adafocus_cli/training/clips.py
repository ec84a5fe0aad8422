"""Labelled clips as a model sees them, uint8, and batches of them that worker processes read ahead.

In training a clip is seen as the published models saw theirs: other frames, another part of them and another of its
labels at every look. All of that follows from the seed, the epoch and the clip's index, and the order of clips from the
seed, the stage and the epoch: the number of workers changes nothing but the speed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from math import prod
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adafocus_cli.errors import AdaFocusError, VideoError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import FrameFolder
from adafocus_cli.models import build
from adafocus_cli.models.base import Family
from adafocus_cli.schema import VideoInfo
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.frame_cache import QUALITY, CacheError, FrameCache, as_jpeg, as_png, decoded
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.pictures import cut_looks, resized
from adafocus_cli.video.process import OpenVideo, VideoProcess
from adafocus_cli.video.sampling import FramePlan, Look
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
    shown: tuple[int, ...]
    """All classes that it shows; the target is one of them."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Videos that could not be read meanwhile, and why."""
    refusal: str = ""
    """Why the run cannot go on."""
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

    def drawn(self, count: int, chance: np.random.Generator) -> FramePlan:
        """Others at every look."""
        return self._family.plan(count, chance)

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
        return TrainingClip(pixels[np.searchsorted(distinct, numbers)], scene.label, (scene.label,))

    def close(self) -> None:
        pass


# Which parts of a picture training shows: sides as shares of the shorter one, height and width at most one share apart;
# places as quarters of the way from left or top to the far end.
_SHARES = (1.0, 0.875, 0.75, 0.66)
_QUARTERS = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)
_NEARLY = 3  # pixels: a side that is so near to what the model sees is made the same


@dataclass(frozen=True)
class CropSize:
    """A size in which parts are cut out of a picture, and the 13 places (left, top) for it."""

    width: int
    height: int
    places: tuple[tuple[int, int], ...]

    @classmethod
    def all_of(cls, width: int, height: int, size: int) -> list[CropSize]:
        """The ten sizes for a picture of which the model sees squares of `size`."""
        sides = [max(1, int(min(width, height) * share)) for share in _SHARES]
        sides = [size if abs(side - size) < _NEARLY else side for side in sides]
        near = [(down, across) for i, down in enumerate(sides) for across in sides[max(0, i - 1) : i + 2]]
        return [cls._of(width, height, across, down) for down, across in near]

    @classmethod
    def _of(cls, width: int, height: int, across: int, down: int) -> CropSize:
        quarter, below = (width - across) // 4, (height - down) // 4
        return cls(across, down, tuple((x * quarter, y * below) for x, y in _QUARTERS))


def random_part(width: int, height: int, size: int, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of one of these parts; each size and each place is as likely."""
    sizes = CropSize.all_of(width, height, size)
    crop = sizes[int(chance.integers(len(sizes)))]
    left, top = crop.places[int(chance.integers(len(crop.places)))]
    return left, top, left + crop.width, top + crop.height


def random_target(shown: Sequence[int], chance: np.random.Generator) -> int:
    """One of a clip's classes, as the authors draw it: any of three, the lowest standing in for those that lack.

    So of two classes the lower one is drawn in two of three cases.
    """
    candidates = [*shown, *[min(shown)] * (3 - len(shown))]
    return candidates[int(chance.integers(len(candidates)))]


class ClipPictures(Protocol):
    """All pictures of a clip, whole."""

    def __len__(self) -> int: ...

    def images(self, numbers: Sequence[int]) -> list[Image.Image]: ...


@dataclass(frozen=True)
class RandomViews:
    """What training shows of clips that are kept with a shorter side of `side` pixels: at every look other frames and
    another part of them; if `mirrored`, every other time as in a mirror.

    The part is the same for all frames; where glance and focus sample the video each for itself, for each of them.
    """

    seed: int
    side: int
    mirrored: bool

    def chance(self, index: int, moment: Moment) -> np.random.Generator:
        """All that is random about a look."""
        return np.random.default_rng(seed_for("view", self.seed, moment, index))

    def of(self, pictures: ClipPictures, planned: PlannedFrames, chance: np.random.Generator) -> np.ndarray:
        plan, size = planned.drawn(len(pictures), chance), planned.spec.frame_size
        distinct = sorted(set(plan.frames))
        images = dict(zip(distinct, pictures.images(distinct), strict=True))
        pixels = np.empty((len(plan.frames), size, size, 3), np.uint8)
        separate = set(plan.glance).isdisjoint(plan.focus)
        for positions in (plan.glance, plan.focus) if separate else (range(len(plan.frames)),):
            box = random_part(*images[distinct[0]].size, size, chance)
            for position in positions:
                part = images[plan.frames[position]].crop(box)
                pixels[position] = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
        return pixels[:, :, ::-1] if self.mirrored and chance.random() < 0.5 else pixels


Looks = Callable[[VideoInfo], Sequence[Look]]
"""Which looks into the source of a video are wanted."""


class _Source(Protocol):
    """The frames of a video, in a framing."""

    @property
    def at_hand(self) -> bool:
        """Whether nothing is gained by keeping them elsewhere."""
        ...

    def __len__(self) -> int: ...

    def pixels(self, numbers: Sequence[int]) -> np.ndarray:
        """Of distinct frames, in order."""
        ...

    def with_looks(self, numbers: Sequence[int], wanted: Looks) -> tuple[np.ndarray, np.ndarray | None]:
        """The same, and what looks into some of these frames see; None if none are wanted."""
        ...


@dataclass
class _VideoSource:
    """Opened when the first frame is asked for."""

    path: str
    framing: Framing
    process: VideoProcess
    at_hand = False

    @cached_property
    def _video(self) -> OpenVideo:
        return self.process.open(self.path)

    def __len__(self) -> int:
        return self._video.info.frames

    def pixels(self, numbers: Sequence[int]) -> np.ndarray:
        return self.process.frames(self._video, numbers, framing=self.framing).pixels

    def with_looks(self, numbers: Sequence[int], wanted: Looks) -> tuple[np.ndarray, np.ndarray | None]:
        looks = wanted(self._video.info)
        pixels = self.process.frames(self._video, numbers, framing=self.framing, keep_source=bool(looks)).pixels
        return pixels, self.process.cuts(self._video, looks)[0] if looks else None


@dataclass
class _FolderSource:
    folder: FrameFolder
    framing: Framing
    largest: int
    """The shorter side of pictures that are small enough to be read as they are."""

    @property
    def at_hand(self) -> bool:
        info = self.folder.info()
        return info.codec in ("jpg", "jpeg") and min(info.width, info.height) <= self.largest

    def __len__(self) -> int:
        return len(self.folder.images)

    def pixels(self, numbers: Sequence[int]) -> np.ndarray:
        return np.stack([self.folder.pixels(number, self.framing) for number in numbers])

    def with_looks(self, numbers: Sequence[int], wanted: Looks) -> tuple[np.ndarray, np.ndarray | None]:
        looks = wanted(self.folder.info())
        return self.pixels(numbers), cut_looks(looks, self.folder.source) if looks else None


@dataclass(frozen=True)
class _WithoutCache:
    """The pictures as they would come from the cache, so that it changes nothing but the speed."""

    source: _Source

    def __len__(self) -> int:
        return len(self.source)

    def images(self, numbers: Sequence[int]) -> list[Image.Image]:
        pictures = self.source.pixels(numbers)
        if self.source.at_hand:
            return [Image.fromarray(picture) for picture in pictures]
        return [decoded(as_jpeg(picture)) for picture in pictures]


_AT_ONCE = 1 << 25  # bytes of pictures that are decoded with one request


def _all_as_jpeg(source: _Source) -> Iterator[bytes]:
    done, at_once = 0, 1
    while done < len(source):
        pixels = source.pixels(range(done, min(done + at_once, len(source))))
        yield from map(as_jpeg, pixels)
        done, at_once = done + len(pixels), max(1, _AT_ONCE // prod(pixels.shape[1:]))


def _as_planned(source: _Source, planned: PlannedFrames) -> np.ndarray:
    """Decodes each frame once, however often the plan has it."""
    numbers = planned.numbers(len(source))
    distinct = sorted(set(numbers))
    return source.pixels(distinct)[np.searchsorted(distinct, numbers)]


@dataclass(frozen=True, eq=False)
class FileClips:
    """Labelled videos. One that cannot be read is reported; in training the next one in the list replaces it.

    Without `views` a clip looks the same at every look: as the model sees it when it tags.
    """

    samples: Sequence[Sample]
    shown: Sequence[tuple[int, ...]]
    """The classes of each."""
    planned: PlannedFrames
    cache: FrameCache | None = None
    views: RandomViews | None = None
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    limits: Limits = field(default_factory=Limits)
    looks: Looks | None = None
    """What else is wanted of the source of a video; not kept in the cache."""
    _failed: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, moment: Moment) -> TrainingClip:
        unreadable: dict[str, str] = {}
        for candidate in self._candidates(index, moment):
            shown = self.shown[candidate]
            try:
                if self.looks is not None:
                    pixels, cuts = self._with_looks(candidate, self.looks)
                    return TrainingClip(pixels, shown[0], shown, unreadable, cuts=cuts)
                if not moment or self.views is None:
                    return TrainingClip(self._as_tagged(candidate), shown[0], shown, unreadable)
                chance = self.views.chance(index, moment)
                pixels = self.views.of(self._pictures(candidate, self.views.side), self.planned, chance)
                return TrainingClip(pixels, random_target(shown, chance), shown, unreadable)
            except VideoError as error:
                self._failed[candidate] = unreadable[self.samples[candidate].path] = str(error)
            except CacheError as error:
                return TrainingClip(None, shown[0], shown, unreadable, refusal=str(error))
        return TrainingClip(None, self.shown[index][0], self.shown[index], unreadable)

    def close(self) -> None:
        if "_process" in self.__dict__:
            self._process.close()

    def _candidates(self, index: int, moment: Moment) -> Iterable[int]:
        return ((index + step) % len(self) for step in range(len(self) if moment else 1))

    def _with_looks(self, candidate: int, wanted: Looks) -> tuple[np.ndarray, np.ndarray | None]:
        """The frames that the model's plan names, and what looks into the source see."""
        source = self._source(candidate, self.planned.spec.framing)
        numbers = self.planned.numbers(len(source))
        distinct = sorted(set(numbers))
        pixels, cuts = source.with_looks(distinct, wanted)
        return pixels[np.searchsorted(distinct, numbers)], cuts

    def _as_tagged(self, candidate: int) -> np.ndarray:
        """The frames that the model's plan names, to the very pixel."""
        spec = self.planned.spec
        source, version = self._source(candidate, spec.framing), self._version(candidate)
        if self.cache is None or version is None or source.at_hand:
            return _as_planned(source, self.planned)
        key = repr(("as tagged", version, astuple(replace(spec, classes=0))))
        kept = self.cache.pictures(key, lambda: map(as_png, _as_planned(source, self.planned)))
        return np.stack([np.asarray(image) for image in kept.images(range(len(kept)))])

    def _pictures(self, candidate: int, side: int) -> ClipPictures:
        """All frames whole, as JPEG pictures."""
        source, version = self._source(candidate, Framing(size=side, whole=True)), self._version(candidate)
        if self.cache is None or version is None or source.at_hand:
            return _WithoutCache(source)
        return self.cache.pictures(repr(("whole", version, side, QUALITY)), lambda: _all_as_jpeg(source))

    def _source(self, candidate: int, framing: Framing) -> _Source:
        if candidate in self._failed:
            raise VideoError(self._failed[candidate])
        sample = self.samples[candidate]
        if os.path.isdir(sample.path):  # noqa: PTH112 - the path as it was given
            largest = 0 if self.views is None else self.views.side
            return _FolderSource(FrameFolder.open(sample.path, frames=sample.frames), framing, largest)
        return _VideoSource(sample.path, framing, self._process)

    def _version(self, candidate: int) -> tuple[object, ...] | None:
        """What changes with the file; None for one that cannot be found, of which its decoder will tell."""
        sample = self.samples[candidate]
        try:
            state = Path(sample.path).stat()
        except OSError:
            return None
        return os.path.abspath(sample.path), state.st_size, state.st_mtime_ns, sample.frames  # noqa: PTH100

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
    shown: tuple[tuple[int, ...], ...]
    """All classes of each clip."""
    unreadable: dict[str, str]
    refusal: str = ""
    """Why the run cannot go on."""

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Pass:
    """A pass over the clips of training, at a stage and an epoch, or of validation; its batches in so many pieces."""

    moment: Moment
    pieces: int = 1


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
        self._expected: Sequence[Pass] = ()
        self._ahead: deque[Pass] = deque()  # what the workers read, the next pass first
        self._reading: Iterator[TrainingBatch] | None = None
        self._workers = DataLoader(
            _ClipDataset(training, validation),
            batch_sampler=self,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=begin_worker,
            multiprocessing_context=worker_context() if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # leaves torch's own generator alone
        )

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading = None
        del self._workers  # ends them
        for clips in (self._training, self._validation):
            clips.close()

    def expect(self, passes: Sequence[Pass]) -> None:
        """Says what will be asked for, so that the first batches of a pass are read during the one before."""
        self._expected = passes

    def training(self, stage: int, epoch: int, pieces: int = 1) -> Iterator[TrainingBatch]:
        """Full batches only, each in `pieces`, of clips in a new order; what is left over comes in another epoch."""
        clips = self._batch_size // self._size // pieces
        for batch in self._read(Pass((stage, epoch), pieces)):
            if len(batch) < clips:
                reason = next(iter(batch.unreadable.values()))
                raise AdaFocusError(f"none of the {len(self._training)} videos can be read; such as: {reason}")
            yield batch

    def validation(self, pieces: int = 1) -> Iterator[TrainingBatch]:
        """All clips once; unreadable ones are left out."""
        yield from self._read(Pass((), pieces))

    def __iter__(self) -> Iterator[list[_Request]]:
        """Of each batch, from now on, which clips it has; asked for by the workers."""
        for each in tuple(self._ahead):
            for batch in self._batches(each):
                yield [(int(index), each.moment) for index in batch]

    def _batches(self, wanted: Pass) -> Sequence[np.ndarray]:
        if wanted.moment:
            rng = np.random.default_rng(seed_for("order", self._seed, *wanted.moment))
            order = np.resize(rng.permutation(len(self._training)), self.steps * self._batch_size)
            shares = order.reshape(self.steps, self._batch_size)[:, self._rank :: self._size]
            return list(shares.reshape(self.steps * wanted.pieces, -1))
        share = np.arange(self._rank, len(self._validation), self._size)
        each = max(1, self._batch_size // self._size // wanted.pieces)
        return [share[start : start + each] for start in range(0, len(share), each)]

    def _read(self, wanted: Pass) -> Iterator[TrainingBatch]:
        reading, self._reading = self._reading, None  # a pass that is not read to its end leaves nothing to go on with
        if reading is None or not self._ahead or self._ahead[0] != wanted:
            at = self._expected.index(wanted) if wanted in self._expected else None
            self._ahead = deque([wanted] if at is None else self._expected[at:])
            with without_interrupts():
                reading = iter(self._workers)
        for _ in self._batches(wanted):
            batch = next(reading)
            if batch.refusal:
                raise AdaFocusError(batch.refusal)
            yield batch
        self._ahead.popleft()
        self._reading = reading


def worker_context() -> BaseContext:
    """How worker processes start: forked from a process that has loaded torch for all of them, where there are such.

    Forked from this one, they would hold locks of threads that they do not have.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


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
    there = [clip for clip in clips if clip.pixels is not None]
    pixels = [clip.pixels for clip in there if clip.pixels is not None]
    return TrainingBatch(
        frames=torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8),
        targets=torch.tensor([clip.target for clip in there], dtype=torch.int64),
        shown=tuple(clip.shown for clip in there),
        unreadable={path: reason for clip in clips for path, reason in clip.unreadable.items()},
        refusal=next((clip.refusal for clip in clips if clip.refusal), ""),
    )


def begin_worker(number: int) -> None:
    """In a worker process: all of them share the processor, and none outlives the process that reads from it."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent takes nothing more from the queue, on which a worker would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker process"
    parent.join()
    os._exit(1)
