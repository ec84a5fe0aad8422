"""Tags labelled samples: video files, folders of numbered images, and scenes of synthetic worlds."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from adafocus_cli.engine.local import failure_of, tag_files
from adafocus_cli.errors import VideoError
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.loop import Clip, Loop
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Box, Result, VideoInfo
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.pictures import cut_looks, fitted, preprocess, resized
from adafocus_cli.video.sampling import LookRequest
from adafocus_cli.worlds import Scene, world

_IMAGE = re.compile(r"(.*?)(\d+)\.(jpe?g|png|webp|bmp)", re.IGNORECASE)
# Where a folder has several series, such as optical flow beside the pictures.
_USUAL_NAMES = ("img_", "image_", "frame_", "")
WORLD = "world:"
SCENES = 500
# Between the first scenes of two seeds. Training takes its scenes by hashes of 63 bits, far above such numbers.
_APART = 1_000_000


class FrameSource(Protocol):
    """The frames of one video, by their numbers."""

    def info(self) -> VideoInfo: ...

    def pixels(self, frame: int, framing: Framing) -> np.ndarray:
        """A frame as the model sees it, in bytes of RGB."""
        ...

    def source(self, frame: int) -> np.ndarray:
        """All of a frame, in its own pixels."""
        ...

    def seconds_at(self, frame: int) -> float: ...

    def to_source(self, framing: Framing) -> Callable[[Box], Box]:
        """From boxes in a frame so framed to pixels of the video."""
        ...


@dataclass(frozen=True)
class QueuedSample:
    """A sample that is opened when its turn comes; `index` is the caller's number for it."""

    index: int
    path: str
    open: Callable[[], FrameSource]


def tag_samples(samples: Sequence[Sample], tagger: ClipTagger, request: TagRequest) -> Generator[tuple[int, Result]]:
    """Results and failures with the indices of their samples: first of the video files, then of all others."""
    videos: list[int] = []
    sources: list[QueuedSample] = []
    for index, sample in enumerate(samples):
        if is_scene(sample.path):
            sources.append(QueuedSample(index, sample.path, partial(RenderedScene.open, sample.path)))
        elif Path(sample.path).is_dir():
            open_ = partial(FrameFolder.open, sample.path, frames=sample.frames)
            sources.append(QueuedSample(index, sample.path, open_))
        else:
            videos.append(index)
    if videos:
        results = tag_files([samples[index].path for index in videos], lambda: tagger, request)
        try:
            yield from zip(videos, results, strict=True)
        finally:
            if isinstance(results, Generator):  # closing it ends the decoding processes
                results.close()
    yield from tag_sources(sources, tagger, request)


def tag_sources(
    sources: Iterable[QueuedSample], tagger: ClipTagger, request: TagRequest
) -> Iterator[tuple[int, Result]]:
    """Threads open them and get their frames, ahead of the model."""
    loop = tagger.loop(tagger.exit_rule(request))
    waiting, opening = deque(sources), deque[tuple[QueuedSample, Future[FrameSource]]]()
    with ThreadPoolExecutor(request.workers, thread_name_prefix="frames") as threads:
        while waiting or opening or len(loop):
            while waiting and len(opening) + len(loop) < loop.lanes + 2 * request.workers:
                source = waiting.popleft()
                opening.append((source, threads.submit(source.open)))
            while opening and (opening[0][1].done() or not len(loop)):
                source, opened = opening.popleft()
                try:
                    loop.add(_clip(opened.result(), loop, threads), source.index)
                except Exception as error:
                    yield source.index, failure_of(source.path, error, "open")
            if unread := loop.waiting():
                due: list[Future[Any]] = [*unread, *(opened for _, opened in opening)]
                wait(due, return_when=FIRST_COMPLETED)
            for run in loop.step():
                try:
                    yield run.key, tagger.result(run, top_k=request.top_k, min_score=request.min_score)
                except Exception as error:
                    yield run.key, failure_of(run.clip.video.path, error, "infer")


@dataclass(frozen=True)
class FrameFolder:
    """The images of one video in their order."""

    path: str
    images: tuple[Path, ...]

    @classmethod
    def open(cls, path: str, *, frames: int | None = None) -> FrameFolder:
        """Of several series of numbered images the usual one; of that, the first `frames`."""
        if frames == 0:
            raise VideoError(f"{path}: the list gives it 0 frames; say how many it has, or take it out of the list")
        series: defaultdict[str, list[tuple[int, Path]]] = defaultdict(list)
        try:
            entries = [*Path(path).iterdir()]
        except OSError as error:
            raise VideoError(f"{path}: {error.strerror}; check that the folder may be read") from error
        for entry in entries:
            if match := _IMAGE.fullmatch(entry.name):
                series[match[1]].append((int(match[2]), entry))
        names = list(series) if len(series) == 1 else [name for name in _USUAL_NAMES if name in series]
        if not names:
            raise VideoError(
                f"{path}: there are no numbered images in the folder, such as img_00001.jpg; "
                "check that --root is the folder of the extracted frames"
            )
        return cls(path, tuple(image for _, image in sorted(series[names[0]])[:frames]))

    def info(self) -> VideoInfo:
        width, height = self._sides
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            fps=None,
            frames=len(self.images),
            duration=None,
            codec=self.images[0].suffix[1:].lower(),
            rotation=0,
            decoder="pillow",
        )

    def pixels(self, frame: int, framing: Framing) -> np.ndarray:
        """A frame as the model sees it."""
        same_shape = framing.whole or framing.area is not None
        return preprocess(self.source(frame) if same_shape else self._picture(frame), framing)

    def source(self, frame: int) -> np.ndarray:
        """All of it, as large as the first, of which boxes tell."""
        return fitted(self._picture(frame), *self._sides)

    def seconds_at(self, frame: int) -> float:
        return float("nan")  # images do not say when they are shown

    def to_source(self, framing: Framing) -> Callable[[Box], Box]:
        return framing.geometry(*self._sides).to_source

    def _picture(self, frame: int) -> np.ndarray:
        return np.asarray(self._opened(frame).convert("RGB"))

    @cached_property
    def _sides(self) -> tuple[int, int]:
        return self._opened(0).size

    def _opened(self, frame: int) -> Image.Image:
        try:
            image: Image.Image = Image.open(self.images[frame])
            image.load()
            return image
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(
                f"{self.path}: image {self.images[frame].name} cannot be read; extract the frames again", stage="decode"
            ) from error


def scenes(data: str, count: int, seed: int) -> Dataset:
    """`world:NAME#N` for every scene, with the same share of each label; another seed has other scenes."""
    labels = world(data.removeprefix(WORLD)).labels
    numbers = range(seed * _APART, seed * _APART + count)
    return Dataset(tuple(Sample(f"{data}#{number}", labels[number % len(labels)]) for number in numbers), data)


def is_scene(path: str) -> bool:
    return path.startswith(WORLD)


@dataclass(frozen=True)
class RenderedScene:
    """A scene of a synthetic world, of the kind that training never shows."""

    path: str
    scene: Scene

    @classmethod
    def open(cls, path: str) -> RenderedScene:
        """One of those that `scenes` names."""
        name, _, number = path.removeprefix(WORLD).partition("#")
        unseen = world(name, unseen=True)
        return cls(path, unseen.scene(int(number), label=int(number) % len(unseen.labels)))

    def info(self) -> VideoInfo:
        return VideoInfo(
            path=self.path,
            width=self.scene.side,
            height=self.scene.side,
            fps=self.scene.fps,
            frames=self.scene.count,
            duration=self.scene.count / self.scene.fps,
            codec="none",
            rotation=0,
            decoder="rendered",
        )

    def pixels(self, frame: int, framing: Framing) -> np.ndarray:
        """As in training: all of the frame, not its middle; squares, so that all crops are the same."""
        if framing.area is not None:
            return preprocess(self.source(frame), framing)
        picture: np.ndarray = resized(self.scene.frames([frame]), framing.size)[0]
        return np.tile(picture, (1, framing.crops, 1))

    def source(self, frame: int) -> np.ndarray:
        picture: np.ndarray = self.scene.frames([frame])[0]
        return picture

    def seconds_at(self, frame: int) -> float:
        return frame / self.scene.fps

    def to_source(self, framing: Framing) -> Callable[[Box], Box]:
        if framing.area is not None:
            return framing.geometry(self.scene.side, self.scene.side).to_source

        def to_scene(box: Box) -> Box:
            left, top, right, bottom = (value * self.scene.side / framing.size for value in box)
            return left, top, right, bottom

        return to_scene


def _clip(frames: FrameSource, loop: Loop, threads: ThreadPoolExecutor) -> Clip:
    video, framing = frames.info(), loop.framing

    def decode(clip: Clip, request: LookRequest) -> Future[None]:
        return threads.submit(read, clip, request)

    def read(clip: Clip, request: LookRequest) -> None:
        started = time.perf_counter()
        if any(look.box is not None for look in request.due):
            for look, pixels in zip(request.due, cut_looks(request.due, frames.source), strict=True):
                clip.add_cut(look, pixels)
        else:
            for look in request.due:
                clip.add(look.frame, frames.pixels(look.frame, framing), frames.seconds_at(look.frame))
        clip.decode_seconds += time.perf_counter() - started

    return Clip(video, loop.plan(video.frames), frames.to_source(framing), decode)
