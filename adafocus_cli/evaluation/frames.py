"""Videos that are there as folders of numbered images, without decoding; and any samples, whatever they are.

Knows of the tagger only its loop and its results.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adafocus_cli.engine.local import Options, failure_of, tag_files
from adafocus_cli.errors import VideoError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.loop import Clip, Loop
from adafocus_cli.schema import Result, VideoInfo
from adafocus_cli.tagger import Tagger
from adafocus_cli.video.clip import Geometry, preprocess

_IMAGE = re.compile(r"(.*?)(\d+)\.(jpe?g|png|webp|bmp)", re.IGNORECASE)
# Where a folder has several series, such as optical flow beside the pictures.
_USUAL_NAMES = ("img_", "image_", "frame_", "")


def tag_samples(samples: Sequence[Sample], tagger: Tagger, options: Options) -> Generator[tuple[int, Result]]:
    """Results and failures with the places of their samples: first of the video files, then of the folders."""
    videos: list[int] = []
    folders: list[int] = []
    for place, sample in enumerate(samples):
        (folders if Path(sample.path).is_dir() else videos).append(place)
    if videos:
        results = tag_files([samples[place].path for place in videos], lambda: tagger, options)
        try:
            yield from zip(videos, results, strict=True)
        finally:
            if isinstance(results, Generator):  # closing it ends the decoding processes
                results.close()
    if folders:
        yield from _tag_folders([(place, samples[place]) for place in folders], tagger, options)


def _tag_folders(
    folders: Sequence[tuple[int, Sample]], tagger: Tagger, options: Options
) -> Iterator[tuple[int, Result]]:
    loop = tagger.loop(tagger.exit_rule(options.exits, options.max_gmacs))
    waiting = deque(folders)
    with ThreadPoolExecutor(options.workers, thread_name_prefix="images") as threads:
        while waiting or len(loop):
            while waiting and len(loop) < loop.lanes + 2 * options.workers:
                place, sample = waiting.popleft()
                try:
                    loop.add(_clip(sample, loop, threads), place)
                except Exception as error:
                    yield place, failure_of(sample.path, error, "open")
            if unread := loop.waiting():
                wait(unread, return_when=FIRST_COMPLETED)
            for run in loop.step():
                try:
                    yield run.place, tagger.result(run, top_k=options.top_k, min_score=options.min_score)
                except Exception as error:
                    yield run.place, failure_of(run.clip.video.path, error, "infer")


@dataclass(frozen=True)
class FrameFolder:
    """The images of one video in their order."""

    path: str
    images: tuple[Path, ...]

    @classmethod
    def open(cls, path: str, *, frames: int | None = None) -> FrameFolder:
        """Of several series of numbered images the usual one; of that, the first `frames`."""
        series: defaultdict[str, list[tuple[int, Path]]] = defaultdict(list)
        for entry in Path(path).iterdir():
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
        width, height = self._opened(0).size
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

    def pixels(self, frame: int, size: int) -> np.ndarray:
        """A frame as the model sees it."""
        return preprocess(np.asarray(self._opened(frame).convert("RGB")), size)

    def _opened(self, frame: int) -> Image.Image:
        try:
            image: Image.Image = Image.open(self.images[frame])
            image.load()
            return image
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(
                f"{self.path}: image {self.images[frame].name} cannot be read; extract the frames again", stage="decode"
            ) from error


def _clip(sample: Sample, loop: Loop, threads: ThreadPoolExecutor) -> Clip:
    folder = FrameFolder.open(sample.path, frames=sample.frames)
    video, size = folder.info(), loop.frame_size

    def decode(clip: Clip, positions: Sequence[int]) -> Future[None]:
        return threads.submit(read, clip, positions)

    def read(clip: Clip, positions: Sequence[int]) -> None:
        started = time.perf_counter()
        for position in positions:
            frame = clip.plan.frames[position]
            clip.add(frame, folder.pixels(frame, size), float("nan"))  # images do not say when they are shown
        clip.decode_seconds += time.perf_counter() - started

    to_source = Geometry(video.width, video.height, size).to_source
    return Clip(video, loop.plan(video.frames), to_source, decode)
