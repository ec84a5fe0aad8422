"""Opens a video with the reader that is asked for, and answers requests for its frames.

`auto` is PyAV, and decord where PyAV is missing or cannot open or decode a file. Runs in the child process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video import DECODERS, Decoder, is_installed
from adafocus_cli.video.framing import USUAL, Framing
from adafocus_cli.video.limits import Deadline, DecoderError, LimitError, Limits, check_file, problem
from adafocus_cli.video.pictures import fitted
from adafocus_cli.video.reading import Keep, Reader, Reading

# Of sources that are kept for looks into them: forty frames of 1080p.
KEPT_BYTES = 256 << 20
_SMALL = Framing(32)  # for frames of which only the source is wanted


@dataclass(frozen=True, eq=False)
class Pictures:
    """Frames in the order asked for; see `process.DecodedFrames`."""

    pixels: np.ndarray
    times: tuple[float, ...]
    replaced: int
    damaged: frozenset[int]
    decoder: str


class KeptSources:
    """Frames of any videos, in their own pixels: up to a bound, those that were wanted longest ago go first."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Hashable, int], np.ndarray] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(picture.nbytes for picture in self._kept.values())

    def add(self, video: Hashable, frame: int, picture: np.ndarray) -> None:
        self._kept.pop((video, frame), None)
        self._kept[video, frame] = picture
        while self.nbytes > self._most_bytes:
            self._kept.popitem(last=False)

    def get(self, video: Hashable, frame: int) -> np.ndarray | None:
        if (video, frame) in self._kept:
            self._kept.move_to_end((video, frame))
        return self._kept.get((video, frame))

    def clear(self) -> None:
        self._kept.clear()

    def forget(self, video: Hashable) -> None:
        for key in [key for key in self._kept if key[0] == video]:
            del self._kept[key]


class Video:
    """An open video, whichever reader has it."""

    def __init__(
        self, path: str, *, name: str, decoder: Decoder, limits: Limits, deadline: Deadline, threads: int
    ) -> None:
        self._path, self._name, self._limits = path, name, limits
        self._threads = threads
        self._may_change = False
        check_file(path, name)
        if decoder == "auto":
            self._reader = self._open_any(deadline)
        else:
            self._reader = self._open_pyav(deadline) if decoder == "pyav" else self._open_decord(deadline)

    @property
    def info(self) -> VideoInfo:
        return self._reader.info

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._reader.warnings

    def close(self) -> None:
        self._reader.close()

    def times(self) -> np.ndarray:
        """When each frame is shown, in seconds from the first."""
        return np.array([self._reader.time_of(number) for number in range(self.info.frames)], np.float64)

    def frames(
        self,
        indices: Sequence[int],
        *,
        framing: Framing = USUAL,
        deadline: Deadline | None = None,
        later: Sequence[int] = (),
        keep: Keep | None = None,
    ) -> Pictures:
        """Frames by number, in any order, any of them more than once; see `process.VideoProcess.frames`."""
        deadline = deadline or Deadline(self._name, self._limits, "decode")
        for index in indices:
            if not 0 <= index < self.info.frames:
                raise problem(
                    self._name, f"frame {index} is not one of its {self.info.frames}; open it again", "decode"
                )
        size = self.info.width, self.info.height
        as_info = None if keep is None else lambda number, picture: keep(number, fitted(picture, *size))
        reading = self._read(tuple(sorted(set(indices))), framing, deadline, later, as_info)
        height, width, _ = shape = framing.shape_of(*size)
        pixels = np.empty((len(indices), *shape), np.uint8)
        for position, index in enumerate(indices):
            pixels[position] = fitted(reading.pictures[index].pixels, width, height)
        return Pictures(
            pixels=pixels,
            times=tuple(self._reader.time_of(index) for index in indices),
            replaced=reading.replaced,
            damaged=reading.damaged,
            decoder=self.info.decoder,
        )

    def source(self, index: int, *, deadline: Deadline) -> np.ndarray:
        """All of a frame, upright, in its own pixels."""
        found: dict[int, np.ndarray] = {}
        self.frames([index], framing=_SMALL, deadline=deadline, keep=found.__setitem__)
        return found[index]

    def keyframes_near(self, indices: Sequence[int]) -> list[int]:
        return [self._reader.keyframe_near(index) for index in indices]

    def _read(
        self,
        wanted: tuple[int, ...],
        framing: Framing,
        deadline: Deadline,
        later: Sequence[int],
        keep: Keep | None,
    ) -> Reading:
        try:
            return self._reader.read(wanted, framing=framing, deadline=deadline, later=later, keep=keep)
        except (LimitError, DecoderError):
            raise
        except VideoError as error:
            if not self._may_change:
                raise
            self._may_change = False
            try:
                second = self._open_decord(deadline)
            except VideoError:
                raise error from None
        # The numbers asked for are PyAV's; decord may know fewer frames.
        last = second.info.frames - 1
        shifted = {number: min(number, last) for number in wanted}
        distinct = tuple(sorted(set(shifted.values())))

        def keep_all(found: int, picture: np.ndarray) -> None:
            for number, stand_in in shifted.items():
                if keep is not None and stand_in == found:
                    keep(number, picture)

        reading = second.read(distinct, framing=framing, deadline=deadline, keep=keep_all)
        self._reader.close()
        self._reader = second
        return Reading({n: reading.pictures[s] for n, s in shifted.items()}, damaged=reading.damaged)

    def _open_any(self, deadline: Deadline) -> Reader:
        if not is_installed("av"):
            return self._open_decord(deadline)
        try:
            reader = self._open_pyav(deadline)
        except (LimitError, DecoderError):
            raise
        except VideoError as error:
            try:
                return self._open_decord(deadline)
            except VideoError:
                raise error from None
        self._may_change = is_installed("decord")
        return reader

    def _open_pyav(self, deadline: Deadline) -> Reader:
        if not is_installed("av"):
            text = "the decoder pyav is not installed; pip install av, or use --decoder decord"
            raise problem(self._name, text)
        from adafocus_cli.video.pyav_reader import PyAVReader

        limits, threads = self._limits, self._threads
        return PyAVReader(self._path, name=self._name, limits=limits, deadline=deadline, threads=threads)

    def _open_decord(self, deadline: Deadline) -> Reader:
        if not is_installed("decord"):
            text = "the decoder decord is not installed; pip install decord (x86-64 only) or use --decoder pyav"
            raise problem(self._name, text)
        from adafocus_cli.video.decord_reader import DecordReader

        return DecordReader(self._path, name=self._name, limits=self._limits, deadline=deadline)


def open_video(
    path: str,
    *,
    name: str | None = None,
    decoder: Decoder = "auto",
    limits: Limits | None = None,
    deadline: Deadline | None = None,
    threads: int = 1,
) -> Video:
    """Opens `path`; errors call it `name`. It is decoded on so many threads, where the reader can."""
    if decoder not in DECODERS:
        raise UsageError(f"{decoder!r} is not a decoder; give one of {', '.join(DECODERS)}")
    name = path if name is None else name
    limits = limits or Limits()
    deadline = deadline or Deadline(name, limits, "open")
    return Video(path, name=name, decoder=decoder, limits=limits, deadline=deadline, threads=threads)
