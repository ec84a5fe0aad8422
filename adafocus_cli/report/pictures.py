"""Key frames of videos as small pictures inside the page, and where the page finds the videos.

Files are only opened in decoding processes with limits; one that cannot be read has no pictures.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path, PurePath
from types import TracebackType
from typing import NamedTuple

import numpy as np
from PIL import Image

from adafocus_cli.errors import VideoError
from adafocus_cli.report.videos import Tagged, Video
from adafocus_cli.requests import default_workers
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import ProcessPool, VideoProcess
from adafocus_cli.video.remote import is_remote
from adafocus_cli.video.sampling import spread

SIDE = 320  # pixels of the long side
MOST_BYTES = 8000  # of one picture, so that a thousand videos with four of them stay below 60 MB
_QUALITIES = (72, 55, 40, 25, 10)
_LIMITS = Limits(seconds=20)


class PagePicture(NamedTuple):
    """A frame as a data address; `look` is the index of its look, -1 if there is none."""

    time: float
    look: int
    address: str


class PagePictures:
    """Decodes several videos at a time, in processes of their own."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ProcessPool(default_workers(), name="pictures", limits=_LIMITS)

    def __enter__(self) -> PagePictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def of(self, videos: Sequence[tuple[Video, Path | None]]) -> Iterator[tuple[PagePicture, ...]]:
        """The pictures of each video, in this order; none if its file was not found."""
        for pictures in [self._of_one(video, file) for video, file in videos]:
            yield pictures.result() if pictures else ()

    def _of_one(self, video: Video, file: Path | None) -> Future[tuple[PagePicture, ...]] | None:
        if file is None or not isinstance(video, Tagged) or not self._count:
            return None
        return self._pool.submit(lambda process: _taken(process, video, str(file), self._count))


def _taken(process: VideoProcess, video: Tagged, file: str, count: int) -> tuple[PagePicture, ...]:
    try:
        opened = process.open(file)
        if (opened.info.width, opened.info.height) != (video.width, video.height):
            return ()  # it has been replaced by another video
        places = _places(video, opened.info.frames, count)
        frames = process.frames(opened, [frame for frame, _ in places], framing=Framing(SIDE, squeezed=True))
    except VideoError:
        return ()
    return tuple(
        PagePicture(round(time, 3), look, _address(pixels, video))
        for pixels, time, (_, look) in zip(frames.pixels, frames.times, places, strict=True)
    )


def _places(video: Tagged, frames: int, count: int) -> list[tuple[int, int]]:
    """Frames spread evenly over the looks, each with its look; over the film where there was none."""
    looks = {look.frame: place for place, look in enumerate(video.looks) if 0 <= look.frame < frames}
    if not looks:
        return [(frame, -1) for frame in dict.fromkeys(spread(frames, count))]
    looked_at = list(looks.items())
    return [looked_at[place] for place in dict.fromkeys(spread(len(looked_at), count))]


def _address(pixels: np.ndarray, video: Tagged) -> str:
    scale = SIDE / max(video.width, video.height)
    size = (max(1, round(video.width * scale)), max(1, round(video.height * scale)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=None)
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality)
        if file.tell() <= MOST_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def find(path: str, root: Path | None) -> Path | None:
    """The file of a record: its path or, below `root`, the longest end of its path that exists."""
    if is_remote(path) or "\0" in path:
        return None
    if root is None:
        return _file(Path(path))
    parts = [part for part in PurePath(path).parts if part != os.pardir]
    tails = (root.joinpath(*parts[start:]) for start in range(bool(PurePath(path).anchor), len(parts)))
    return next(filter(None, map(_file, tails)), None)


def _file(path: Path) -> Path | None:
    try:
        return path if path.is_file() else None
    except OSError:  # such as a name that is too long
        return None
