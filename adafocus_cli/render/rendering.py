"""Renders an open video with its record to files, frame by frame and a part at a time, in the child process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from adafocus_cli.errors import UsageError, printable
from adafocus_cli.files import disk_full, replacing
from adafocus_cli.render.film import Film, FilmSource, Gif, SoundFilm
from adafocus_cli.render.marks import Canvas, Colours, Marks
from adafocus_cli.render.process import OutputError
from adafocus_cli.render.story import Story
from adafocus_cli.video.limits import Deadline, Limits
from adafocus_cli.video.pyav_reader import PyAVReader, open_container

_PART_SECONDS = 0.5  # of work between two answers, for the progress bar
_QUALITY = 92  # of pictures


@dataclass(frozen=True)
class RenderJob:
    """What to make of a video: a film, pictures in a folder, or both; paths are absolute."""

    record: dict[str, Any]
    film: str | None
    kind: str | None
    folder: str | None
    output: str  # how errors call the film


class Rendering:
    def __init__(self, job: RenderJob, path: str, name: str, limits: Limits, deadline: Deadline) -> None:
        self._job = job
        self._name = name
        self._story = Story.of(job.record)
        self._reader = PyAVReader(path, name=name, limits=limits, deadline=deadline)
        self._check_video()
        self._film = self._open_film(path, limits, deadline) if job.film else None
        self._looks = list(enumerate(self._story.looks, start=1)) if job.folder else []
        self._marks: Marks | None = None
        self._last = -1
        self.done = 0
        self.total = len(self._looks) + (self._reader.info.frames if self._film else 0)
        if self._film:
            self._reader.rewind(deadline)

    @property
    def over(self) -> bool:
        return not self._looks and self._film is None

    def go_on(self, deadline: Deadline) -> None:
        """Renders for about half a second."""
        until = time.monotonic() + _PART_SECONDS
        while time.monotonic() < until and not self.over:
            if self._film is not None:
                self._film_on(self._film, until, deadline)
            else:
                self._save(*self._looks.pop(0), deadline)
                self.done += 1

    def _film_on(self, film: Film, until: float, deadline: Deadline) -> None:
        for number, frame in self._reader.onwards(deadline):
            if number <= self._last:  # a damaged stream may repeat itself
                continue
            self._last = number
            canvas = self._drawn(frame, self._reader.time_of(number), film.size)
            with self._telling(self._job.output):
                film.add(canvas, self._pts(number), self._duration(number))
            self.done += 1
            if time.monotonic() > until:
                return
        with self._telling(self._job.output):
            if not film.finish():
                self._last, self.done = -1, 0
                self._reader.rewind(deadline)
                return
            film.close()
        self._film = self._marks = None

    def _save(self, count: int, look: Any, deadline: Deadline) -> None:
        """Saves the picture of one look."""
        info = self._reader.info
        number = min(max(look.frame, 0), info.frames - 1)
        canvas = self._drawn(
            self._reader.frame(number, deadline), self._reader.time_of(number), (info.width, info.height)
        )
        pixels = canvas.frame.to_ndarray(format="rgb24")[: info.height, : info.width]
        target = Path(str(self._job.folder)) / f"{Path(self._name).stem}-look-{count:02}.jpg"
        with self._telling(str(target)), replacing(target) as file:
            Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=_QUALITY)

    def _drawn(self, frame: Any, moment: float, size: tuple[int, int]) -> Canvas:
        canvas = Canvas.of(frame, self._reader.rotation, *size)
        if self._marks is None:
            self._marks = Marks(self._story, *size, Colours.of(canvas.frame))
        self._marks.draw(canvas, moment)
        return canvas

    def _check_video(self) -> None:
        """A record of another video would put boxes where nobody looked."""
        info, said = self._reader.info, self._job.record["video"]
        same_frames = info.frames == said.get("frames") or said.get("decoder") != info.decoder
        if (info.width, info.height) != (self._story.width, self._story.height) or not same_frames:
            raise UsageError(
                f"the record is of another video: it says {said['width']}×{said['height']} and {said.get('frames')} "
                f"frames, but {printable(self._name)} has {info.width}×{info.height} and {info.frames}; tag it again"
            )

    def _open_film(self, path: str, limits: Limits, deadline: Deadline) -> Film:
        info, stream = self._reader.info, self._reader.stream
        timed = self._reader.index.timed
        rate = Fraction(info.fps or 25).limit_denominator(100_000)
        sound = open_container(path, self._name, limits, deadline)
        began = Fraction(sound.start_time or 0, 1_000_000) if timed else Fraction(0)
        aspect = stream.sample_aspect_ratio or None
        if aspect and self._reader.rotation.swapped:
            aspect = 1 / aspect
        source = FilmSource(
            info.width, info.height, info.frames, rate, stream.time_base if timed else 1 / rate, began, aspect
        )
        with self._telling(self._job.output):
            film, kind = str(self._job.film), str(self._job.kind)
            return Gif(film, kind, source) if kind == "gif" else SoundFilm(film, kind, source, sound)

    def _pts(self, number: int) -> int:
        index = self._reader.index
        return int(index.times[number]) if index.timed else number

    def _duration(self, number: int) -> int:
        """The last frame is shown as long as the one before it."""
        if self._reader.info.frames == 1:
            return 0
        number = min(number, self._reader.info.frames - 2)
        return self._pts(number + 1) - self._pts(number)

    @contextmanager
    def _telling(self, output: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot write to {output}: {error.strerror or error}; check the folder and the disk"
            raise OutputError(disk_full(error, output) or reason) from None
        except av.FFmpegError as error:
            raise OutputError(f"cannot write {output}: {error}; give a file with another ending") from None
