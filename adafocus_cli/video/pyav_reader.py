"""Exact frames by PyAV: every frame is found by its packet, never by its time times a frame rate.

Wanted frames are decoded from the last keyframe that serves, leaving out frames that no other needs. Where the stream
does not keep its promises, the reader grows more careful, for good: first no seeking, then no leaving out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from fractions import Fraction
from itertools import zip_longest
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from adafocus_cli.errors import printable
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.framing import USUAL, Framing
from adafocus_cli.video.limits import Deadline, Limits, check_picture, problem
from adafocus_cli.video.packet_index import PacketIndex, build_index
from adafocus_cli.video.pictures import Rotation, preprocess
from adafocus_cli.video.pyav_cursor import Cursor
from adafocus_cli.video.reading import Picture, Reading

# Only in these does a seek land on the packet that it names.
SEEKABLE = ("mov", "matroska")
# These store no presentation times; what FFmpeg makes up for them is wrong where frames are reordered.
UNTIMED = ("avi",)
# Packets decoded to learn whether every packet is a frame, where that is in doubt.
TRIAL_PACKETS = 48
PROGRESSIVE = 1  # the last value of a decoder's `field_order` that does not mean fields
UNDECODABLE = "no frame of it can be decoded; re-encode it, for instance as H.264"


class Care(IntEnum):
    """How little of what the file says of itself is believed."""

    SEEK = 0
    FORWARD = 1  # from the start, without seeking
    EVERY = 2  # and without leaving out any frame


class PyAVReader:
    """One open video. Not thread-safe."""

    decoder = "pyav"

    def __init__(self, path: str, *, name: str, limits: Limits, deadline: Deadline) -> None:
        self._name, self._limits = name, limits
        self._cursor = Cursor(path, name=name, limits=limits, deadline=deadline)
        self._last: tuple[int, Any] | None = None  # the last frame taken
        self._later: frozenset[int] = frozenset()  # frames that may be asked for next
        self._kept: dict[tuple[int, Framing], Picture] = {}  # their pictures, by number and form
        self._framing = USUAL
        self._rotation = Rotation()
        self._reformatter: Any = VideoReformatter()
        self.warnings: tuple[str, ...] = ()
        try:
            self.index = self._build_index(deadline)
            self._set_care(self._first_care())
            self._restart(deadline)
            self.info = self._describe(self._first_frame(deadline))
            self.warnings = self._missing_frames()
        except BaseException:
            self.close()
            raise

    @property
    def kind(self) -> str:
        """The container's first name: mov, matroska, mpegts…"""
        return self._cursor.kind

    def close(self) -> None:
        self._last = None
        self._cursor.close()

    def read(
        self,
        wanted: Sequence[int],
        *,
        framing: Framing,
        deadline: Deadline,
        later: Sequence[int] = (),
    ) -> Reading:
        self._framing = framing
        pictures = {n: self._kept.pop((n, self._framing)) for n in wanted if (n, self._framing) in self._kept}
        missing = [number for number in wanted if number not in pictures]
        self._later = frozenset(later) - frozenset(wanted)
        self._cursor.wanted = self._later | frozenset(missing)
        for number, following in zip_longest(missing, missing[1:]):
            pictures[number] = self._picture(*self._find(number, following, deadline))
        return Reading(pictures=pictures, damaged=frozenset(self._cursor.damaged))

    def time_of(self, number: int) -> float:
        if self.index.timed:
            return float(int(self.index.times[number] - self.index.times[0]) * self._cursor.stream.time_base)
        return number / self.info.fps if self.info.fps else 0.0

    @property
    def stream(self) -> Any:
        """What the container says of the video."""
        return self._cursor.stream

    @property
    def rotation(self) -> Rotation:
        """What makes its decoded frames upright."""
        return self._rotation

    def frame(self, number: int, deadline: Deadline) -> Any:
        """One frame as it is decoded, not turned, or the nearest to it that can be had."""
        self._later, self._cursor.wanted = frozenset(), frozenset((number,))
        return self._find(number, None, deadline)[1]

    def rewind(self, deadline: Deadline) -> None:
        """Before the first frame, to read on from there."""
        self._cursor.leave_out = False
        self._restart(deadline)

    def onwards(self, deadline: Deadline) -> Iterator[tuple[int, Any]]:
        """The frames from where it is, with their numbers, as they are decoded, not turned."""
        return self._cursor.frames(deadline)

    def keyframe_near(self, number: int) -> int:
        return self.index.keyframe_near(number) if self._care == Care.SEEK else number

    def _build_index(self, deadline: Deadline) -> PacketIndex:
        cursor = self._cursor
        index = build_index(cursor.container, cursor.stream, name=self._name, limits=self._limits, deadline=deadline)
        if not index.frames:
            raise problem(self._name, "there is no frame in it; it may be cut off: copy or download it again")
        if cursor.kind in UNTIMED:
            index = index.counted(index.frames)
        if index.timed and not self._is_doubtful(index):
            return index
        cursor.reopen(deadline)
        trial = [frame.pts for _, frame in cursor.frames(deadline, until=TRIAL_PACKETS)]
        if len(trial) <= 0.75 * min(index.frames, TRIAL_PACKETS):
            # Two packets may make one frame, or a packet none: only decoding everything counts.
            cursor.reopen(deadline)
            return index.counted(sum(1 for _ in cursor.frames(deadline)) or index.frames)
        if index.timed and (None in trial or trial != sorted(trial)):
            return index.counted(index.frames)
        return index

    def _is_doubtful(self, index: PacketIndex) -> bool:
        """Fields may come as packets of their own; times may be those of storing, where the decoder reorders."""
        context = self._cursor.stream.codec_context
        reordered_unsaid = bool(context.has_b_frames) and not index.reorders
        return reordered_unsaid or getattr(context, "field_order", 0) > PROGRESSIVE

    def _first_care(self) -> Care:
        if not self.index.timed:
            return Care.EVERY
        return Care.SEEK if self._cursor.kind in SEEKABLE else Care.FORWARD

    def _set_care(self, care: Care) -> None:
        self._care = care
        self._cursor.index = self.index
        self._cursor.leave_out = care != Care.EVERY

    def _first_frame(self, deadline: Deadline) -> Any:
        """Decoded to learn what only pictures tell, and kept for the first request."""
        self._cursor.wanted = frozenset((0,))
        for number, frame in self._cursor.frames(deadline):
            self._cursor.put_back(number, frame)
            return frame
        raise problem(self._name, UNDECODABLE)

    def _describe(self, frame: Any) -> VideoInfo:
        check_picture(frame.width, frame.height, self._name, self._limits)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            self._rotation = Rotation.from_matrix(bytes(matrix))
        width, height = self._rotation.size(frame.width, frame.height)
        fps = self._average_rate()
        codec = self._cursor.stream.codec_context.codec
        return VideoInfo(
            path=self._name,
            width=width,
            height=height,
            fps=fps,
            frames=self.index.frames,
            duration=self.index.frames / fps if fps else None,
            codec=str(getattr(codec, "canonical_name", codec.name)),
            rotation=self._rotation.degrees,
            decoder=self.decoder,
        )

    def _missing_frames(self) -> tuple[str, ...]:
        """A file that was cut off behind its table of contents still names all its frames there."""
        said, there = int(self._cursor.stream.frames), self.index.frames + self.index.discarded
        if said <= there:
            return ()
        return (f"{printable(self._name)}: only {there} of its {said} frames are in the file; it may be cut off",)

    def _average_rate(self) -> float | None:
        """What the file says, unless its frames say otherwise (variable frame rate)."""
        said: Fraction | None = self._cursor.stream.average_rate or None
        if not self.index.timed or self.index.frames < 2:
            return float(said) if said else None
        span = int(self.index.times[-1] - self.index.times[0]) * self._cursor.stream.time_base
        found = (self.index.frames - 1) / span
        return float(said) if said and abs(said - found) <= found / 200 else float(found)

    def _upright(self, frame: Any) -> np.ndarray:
        check_picture(frame.width, frame.height, self._name, self._limits, "decode")
        try:
            rgb = self._to_rgb(frame)
        except MemoryError:
            raise
        except av.FFmpegError:
            try:  # the file names colours that FFmpeg does not know
                rgb = self._to_rgb(frame, src_colorspace="DEFAULT", dst_colorspace="DEFAULT")
            except av.FFmpegError as error:
                text = "its colours cannot be converted; re-encode it, for instance as H.264"
                raise problem(self._name, text, "decode") from error
        return self._rotation.apply(rgb)

    def _to_rgb(self, frame: Any, **colours: str) -> np.ndarray:
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1, **colours)
        return np.asarray(rgb.to_ndarray())

    def _picture(self, number: int, frame: Any) -> Picture:
        return Picture(number=number, pixels=preprocess(self._upright(frame), self._framing))

    def _find(self, number: int, following: int | None, deadline: Deadline) -> tuple[int, Any]:
        """The frame, or the nearest to it that can be had, with its number."""
        while True:
            self._approach(number, deadline)
            frame = self._decode_to(number, deadline, until=self._end_of_run(number, following))
            if frame is not None:
                return number, frame
            if self._care == Care.EVERY:
                return self._nearest(number)
            self._set_care(Care(self._care + 1))
            self._restart(deadline)

    def _approach(self, number: int, deadline: Deadline) -> None:
        """Goes on from here, or jumps to a keyframe, whichever decodes less."""
        key = self.index.keyframe_before(number) if self._care == Care.SEEK else 0
        if self._is_ahead(number) and key <= self._cursor.position:
            return
        self._last = None
        if self._care == Care.SEEK:
            if self._cursor.seek(key, number):
                return
            self._set_care(Care.FORWARD)
        self._restart(deadline)

    def _is_ahead(self, number: int) -> bool:
        """The frame is still to come, and was not left out."""
        if number in self._cursor.inside:
            return True
        if self._last is not None and number <= self._last[0]:
            return False
        if self._care == Care.EVERY:
            return True
        return not self._cursor.ended and int(self.index.order[number]) >= self._cursor.position

    def _restart(self, deadline: Deadline) -> None:
        self._last = None
        self._cursor.reopen(deadline)

    def _end_of_run(self, number: int, following: int | None) -> int | None:
        """Where the decoder is emptied rather than fed, as the frame asked for next is decoded from a later keyframe.

        What comes after the last frame is not known; coming back costs nothing only where that is a keyframe.
        """
        if self._care != Care.SEEK:
            return None
        position = int(self.index.order[number])
        if following is None:
            is_last = bool(self.index.key[position])
        else:
            is_last = self.index.keyframe_before(following) > position
        return position + 1 if is_last else None

    def _decode_to(self, number: int, deadline: Deadline, *, until: int | None) -> Any:
        """The frame itself, or None once it is clear that it does not come; keeps those on the way that come later."""
        for found, frame in self._cursor.frames(deadline, until=until):
            if found > number:
                self._cursor.put_back(found, frame)
                return None
            self._last = found, frame
            if found == number:
                return frame
            if found in self._later:
                self._kept[found, self._framing] = self._picture(found, frame)
        return None

    def _nearest(self, number: int) -> tuple[int, Any]:
        around = [self._last, *list(self._cursor.ready)[:1]]
        candidates = [each for each in around if each is not None]
        if not candidates:
            raise problem(self._name, UNDECODABLE, "decode")
        return min(candidates, key=lambda each: abs(each[0] - number))
