"""Exact frames by PyAV: every frame is found by its packet, never by its time times a frame rate.

`PacketIndex` knows the packets of a stream, `Cursor` decodes onwards from one of them, and `PyAVReader` goes with it
from the last keyframe that serves to the wanted frames, leaving out frames that no other needs. Where the stream does
not keep its promises, the reader grows more careful, for good: first no seeking, then no leaving out.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from adafocus_cli.video.limits import Deadline, LimitError, Limits, check_picture, problem
from adafocus_cli.video.pictures import Rotation, preprocess
from adafocus_cli.video.reading import Keep, Picture, Reading, nearest

# Stands for a missing time; no real one is this small.
NO_TIME = -(1 << 63)
# Real streams keep a frame back by at most 16 others; more means that the clock was set back.
MAX_REORDER = 64
# After so many errors in a row the rest of the file is taken as lost.
MAX_READ_ERRORS = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class PacketIndex:
    """Packets by their place in the file (`position`), frames by their place on the screen (`number`)."""

    pts: np.ndarray  # of each packet
    dts: np.ndarray
    key: np.ndarray  # whether it is a keyframe
    order: np.ndarray  # position of the packet of each frame
    times: np.ndarray  # presentation time of each frame, ascending; empty where only counting tells frames apart
    discarded: int  # packets that an edit list leaves out

    @property
    def frames(self) -> int:
        return len(self.order)

    @property
    def timed(self) -> bool:
        """Every frame has a presentation time of its own."""
        return len(self.times) > 0

    def number_of(self, pts: int | None) -> int | None:
        """The frame with this presentation time."""
        if pts is None:
            return None
        number = int(np.searchsorted(self.times, pts))
        return number if number < len(self.times) and self.times[number] == pts else None

    def keyframe_before(self, number: int) -> int:
        """Position of the last keyframe from which a frame can be decoded, or 0.

        A frame shown before a keyframe but stored after it needs the keyframe before that one (open GOP).
        """
        until = int(self.order[number])
        candidates = np.flatnonzero(self.key[: until + 1] & (self.pts[: until + 1] <= self.times[number]))
        return int(candidates[-1]) if len(candidates) else 0

    def keyframe_near(self, number: int) -> int:
        """The frame nearest to this one that is a keyframe; itself where there is none."""
        return nearest(np.flatnonzero(self.key[self.order]), number)

    def position_of(self, pts: int | None) -> int | None:
        """The one packet with this presentation time."""
        if pts is None:
            return None
        found = np.flatnonzero(self.pts == pts)
        return int(found[0]) if len(found) == 1 else None

    def keyframe_below(self, position: int) -> int:
        """Position of the keyframe before `position`, or 0."""
        candidates = np.flatnonzero(self.key[:position])
        return int(candidates[-1]) if len(candidates) else 0

    @property
    def open_gop(self) -> bool:
        """Some packet is stored after a keyframe and shown before it."""
        latest_key = np.maximum.accumulate(np.where(self.key, self.pts, NO_TIME))
        return bool(np.any(self.pts < latest_key))

    @property
    def reorders(self) -> bool:
        """Frames are stored in another order than they are shown in."""
        return bool(np.any(self.order[1:] < self.order[:-1]))

    def counted(self, frames: int) -> PacketIndex:
        """The same packets, but `frames` frames that only counting tells apart."""
        return replace(self, order=np.arange(frames), times=np.empty(0, np.int64))


def build_index(container: Any, stream: Any, *, name: str, limits: Limits, deadline: Deadline) -> PacketIndex:
    """Reads every packet of `stream` once."""
    pts, dts, flags = array("q"), array("q"), bytearray()
    hidden = _hidden_test(stream)
    for position, packet in enumerate(packets(container, stream)):
        if position % 64 == 0:
            deadline.check()
        if position >= limits.max_packets:
            text = f"it has more than the {limits.max_packets} packets allowed; cut it into parts"
            raise LimitError(f"{printable(name)}: {text}")
        pts.append(NO_TIME if packet.pts is None else packet.pts)
        dts.append(NO_TIME if packet.dts is None else packet.dts)
        flags.append(bool(packet.is_keyframe) | 2 * bool(packet.is_discard or hidden(packet)))
    return _arrange(pts, dts, flags)


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of `stream` from where the container is; empty ones are left out, unreadable places skipped."""
    in_a_row = 0
    while in_a_row < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                in_a_row = 0
                if packet.size:
                    yield packet
        except av.FFmpegError:
            in_a_row += 1
        except IndexError:  # PyAV's at the end of a file in which more streams turned up on the way
            return
        else:
            return


def _arrange(pts: array[int], dts: array[int], flags: bytearray) -> PacketIndex:
    times, bits = np.frombuffer(pts, np.int64), np.frombuffer(bytes(flags), np.uint8)
    shown = np.flatnonzero((bits & 2) == 0)
    order = shown[np.argsort(times[shown], kind="stable")]
    index = PacketIndex(
        pts=times,
        dts=np.frombuffer(dts, np.int64),
        key=(bits & 1).astype(bool),
        order=order,
        times=times[order],
        discarded=len(times) - len(shown),
    )
    return index if _has_own_times(index, shown) else index.counted(len(shown))


def _has_own_times(index: PacketIndex, shown: np.ndarray) -> bool:
    if not index.frames or index.times[0] == NO_TIME or np.any(index.times[1:] == index.times[:-1]):
        return False
    return bool(np.all(np.abs(index.order - shown) <= MAX_REORDER))


def _hidden_test(stream: Any) -> Any:
    """Tells packets that only serve others: VP8 stores its hidden reference frames as packets of their own."""
    if stream.codec_context.name in ("vp8", "libvpx"):
        return lambda packet: not memoryview(packet)[0] & 0x10
    return lambda packet: False


# A playlist among these could name other files or the network, so it is not.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,live_flv,asf,gif,ogg,rm,mxf,gxf,wtv,dv,nut,"
    "ivf,obu,h264,hevc,vvc,m4v,vc1,av1,mjpeg,yuv4mpegpipe"
)
NO_VIDEO = "there is no video in it; name a video file"
NOT_A_VIDEO = "not a video that can be read, or damaged; check that it plays, or copy or download it again"
ATTACHED_PICTURE = 0x400  # of a stream's disposition


def open_container(path: str, name: str, limits: Limits, deadline: Deadline) -> Any:
    """A file to demux, and nothing that it may name."""
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "max_pixels": str(limits.max_pixels)}
    try:
        # The prefix keeps names like `concat:a|b` from being taken for addresses.
        return av.open(f"file:{path}", options=options, timeout=deadline.seconds_left + 1.0)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        deadline.check()
        raise problem(name, NOT_A_VIDEO) from error


def video_stream(container: Any, name: str, limits: Limits, threads: int = 1) -> Any:
    """The stream to decode, ready for that; no other is read."""
    stream: Any = container.streams.best("video")
    if stream is None or int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE:
        raise problem(name, NO_VIDEO)
    if stream.codec_context is None:
        raise problem(name, "no decoder here knows its video codec; re-encode it, for instance as H.264")
    if stream.codec_context.width:
        check_picture(stream.codec_context.width, stream.codec_context.height, name, limits)
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    prepare_decoder(stream.codec_context, limits, threads)
    return stream


def prepare_decoder(context: Any, limits: Limits, threads: int = 1) -> None:
    """With threads, PyAV's logging has to stay off: it asks FFmpeg's threads, which closing waits for, for the GIL."""
    context.thread_type = "FRAME" if threads > 1 else "NONE"
    context.thread_count = threads
    context.options = {"max_pixels": str(limits.max_pixels)}


class Cursor:
    """Decodes one stream from `position`, the place of the next packet in the file.

    `ready` holds frames that are decoded and not yet taken, `inside` the numbers of frames whose packets were decoded
    and that are not yet taken: those still come out without going back. After `ended` nothing else does.
    """

    def __init__(self, path: str, *, name: str, limits: Limits, deadline: Deadline) -> None:
        self._path, self._name, self._limits = path, name, limits
        self._source: Iterator[Any] | None = None
        self.threads = 1  # from the next `reopen` on
        self.ended = False
        self.container: Any = None
        self.stream: Any = None
        self.ready: deque[tuple[int, Any]] = deque()
        self.inside: set[int] = set()
        self.index: PacketIndex | None = None
        self.wanted: frozenset[int] = frozenset()
        self.leave_out = False  # frames that neither anyone wants nor another frame needs
        self.damaged: set[int] = set()
        try:
            self.reopen(deadline)
        except BaseException:
            self.close()
            raise

    @property
    def kind(self) -> str:
        """The container's first name: mov, matroska, mpegts…"""
        return str(self.container.format.name).split(",")[0]

    def close(self) -> None:
        self._stop_reading()
        if self.container is not None:
            self.ready.clear()
            self.stream = None
            self.container.close()
            self.container = None

    def reopen(self, deadline: Deadline) -> None:
        """To the first packet, with a fresh decoder."""
        self.close()
        deadline.check()
        self.container = open_container(self._path, self._name, self._limits, deadline)
        self.stream = video_stream(self.container, self._name, self._limits, self.threads)
        self._has_decoded = False
        self._start(0, packets(self.container, self.stream))

    def begin(self, deadline: Deadline) -> None:
        """The same; without opening the file again, which takes as long as decoding two frames, where only packets were
        read and seeking lands on the first."""
        if not self._has_decoded:
            prepare_decoder(self.stream.codec_context, self._limits, self.threads)
            if self.seek(0, 0):
                return
        self.reopen(deadline)

    def seek(self, key: int, number: int) -> bool:
        """To the packet of a keyframe on the way to a frame, or a keyframe before it; False if that fails.

        Whether a container looks for times of storing or of showing differs with it, its edits and FFmpeg's version.
        """
        index = self._known_index()
        below = index.keyframe_below(key)
        aims = [(key, index.pts[key]), (key, index.times[number]), (key, index.dts[key]), (below, index.pts[below])]
        for least, time in aims:
            if time == NO_TIME:
                continue
            self._stop_reading()
            with contextlib.suppress(av.FFmpegError):
                self.container.seek(int(time), stream=self.stream)
                source = packets(self.container, self.stream)
                first = next(source, None)
                landed = index.position_of(first.pts) if first is not None else None
                if landed is not None and least <= landed <= key and index.key[landed]:
                    self._start(landed, source, first)
                    return True
        return False

    def frames(self, deadline: Deadline, *, until: int | None = None) -> Iterator[tuple[int, Any]]:
        """Frames and their numbers from here on, or those of the packets before position `until`."""
        while True:
            while self.ready:
                number, frame = self.ready.popleft()
                self.inside = {later for later in self.inside if later > number}  # they come in order, or never
                yield number, frame
            if self.ended:
                return
            deadline.check()
            packet = None if self.position == until else self._next_packet()
            self.ended = packet is None
            for frame in self._decode(packet):
                number_or_none = self._number_of(frame)
                if number_or_none is not None:
                    self._note_damage(number_or_none, frame)
                    self.ready.append((number_or_none, frame))

    def put_back(self, number: int, frame: Any) -> None:
        self.ready.appendleft((number, frame))
        self.inside.add(number)

    def _start(self, position: int, source: Iterator[Any], first: Any = None) -> None:
        self.position = self._started = position
        self._source, self._first = source, first
        self.ended = False
        self._emitted = 0
        self.ready.clear()
        self.inside.clear()

    def _stop_reading(self) -> None:
        """Ends the running demuxer, which otherwise ends at some later time and resets the container's time limit."""
        if self._source is not None:
            self._source.close()  # type: ignore[attr-defined]
            self._source = None

    def _next_packet(self) -> Any:
        first, self._first = self._first, None
        return first if first is not None or self._source is None else next(self._source, None)

    def _decode(self, packet: Any) -> list[Any]:
        """What comes out when one packet goes in; None flushes."""
        self._has_decoded = True
        context = self.stream.codec_context
        if packet is not None:
            number = self._known_index().number_of(packet.pts) if self.index and self.index.timed else None
            skip = "NONREF" if self._may_leave_out(number) else "DEFAULT"
            if context.skip_frame != skip:
                context.skip_frame = skip
            if skip == "DEFAULT" and number is not None:
                self.inside.add(number)
            self.position += 1
        try:
            return list(context.decode(packet))
        except MemoryError:
            raise
        except av.FFmpegError:
            self.damaged.add(self.position - (packet is not None))
            return []

    def _may_leave_out(self, number: int | None) -> bool:
        # Some decoders take the setting only when they start, so the first packet decides nothing.
        return (
            self.leave_out
            and number not in self.wanted
            and (number is None or number < max(self.wanted, default=0))  # those after may be wanted next
            and self.position != self._started
            and self.wanted.isdisjoint(self.inside)
        )

    def _number_of(self, frame: Any) -> int | None:
        self._emitted += 1
        if self.index is not None and self.index.timed:
            return self.index.number_of(frame.pts)
        return self._emitted - 1

    def _note_damage(self, number: int, frame: Any) -> None:
        """Counts the packet of a frame whose gaps FFmpeg painted over, which is no error to it."""
        if frame.is_corrupt:
            self.damaged.add(int(self.index.order[number]) if self.index and self.index.timed else number)

    def _known_index(self) -> PacketIndex:
        if self.index is None:
            raise RuntimeError("the packets are not indexed yet")
        return self.index


class FramePictures:
    """Makes upright pictures of decoded frames, as large as the stream has them."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._reformatter: Any = VideoReformatter()
        self.rotation = Rotation()

    def learn(self, frame: Any) -> tuple[int, int]:
        """Which way is up, from the first frame; the width and height of that, upright."""
        check_picture(frame.width, frame.height, self._name, self._limits)
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            self.rotation = Rotation.from_matrix(bytes(matrix))
        return self.rotation.size(frame.width, frame.height)

    def upright(self, frame: Any) -> np.ndarray:
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
        return self.rotation.apply(rgb)

    def _to_rgb(self, frame: Any, **colours: str) -> np.ndarray:
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1, **colours)
        return np.asarray(rgb.to_ndarray())


def codec_of(stream: Any) -> str:
    """As FFmpeg calls it."""
    codec = stream.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))


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
    """One open video, decoded on so many threads. Not thread-safe."""

    decoder = "pyav"

    def __init__(self, path: str, *, name: str, limits: Limits, deadline: Deadline, threads: int = 1) -> None:
        self._name, self._limits = name, limits
        self._cursor = Cursor(path, name=name, limits=limits, deadline=deadline)
        self._last: tuple[int, Any] | None = None  # the last frame taken
        self._later: frozenset[int] = frozenset()  # frames that may be asked for next
        self._kept: dict[tuple[int, Framing], Picture] = {}  # their pictures, by number and form
        self._framing = USUAL
        self._keep: Keep | None = None
        self._answered: list[tuple[Sequence[int], Framing, Sequence[int], Keep | None]] = []  # since a jump, on threads
        self._pictures = FramePictures(name, limits)
        self.warnings: tuple[str, ...] = ()
        try:
            self.index = self._build_index(deadline)
            self._set_care(self._first_care())
            self._cursor.threads = 1 if self._cursor.damaged else threads
            if self._care == Care.SEEK:
                self._cursor.begin(deadline)
            else:
                self._cursor.reopen(deadline)
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
        keep: Keep | None = None,
    ) -> Reading:
        request = wanted, framing, later, keep
        reading = self._read(*request, deadline)
        if self._cursor.threads > 1:
            self._answered.append(request)
            if reading.damaged:
                return self._read_on_one_thread(deadline)
        return reading

    def _read_on_one_thread(self, deadline: Deadline) -> Reading:
        """Again what was asked for since the last jump, where FFmpeg forgets: what it paints over gaps depends on
        threads, and on what was decoded before."""
        self._cursor.threads = 1
        self._cursor.damaged.clear()
        self._kept.clear()
        self._set_care(self._first_care())
        self._restart(deadline)
        self._first_frame(deadline)
        for request in tuple(self._answered):
            reading = self._read(*request, deadline)  # only the last is kept: one is many pictures
        return reading

    def _read(
        self, wanted: Sequence[int], framing: Framing, later: Sequence[int], keep: Keep | None, deadline: Deadline
    ) -> Reading:
        self._framing, self._keep = framing, keep
        pictures = {n: self._kept.pop((n, self._framing)) for n in wanted if (n, self._framing) in self._kept}
        missing = [number for number in wanted if number not in pictures]
        self._later = frozenset(later) - frozenset(wanted)
        self._cursor.wanted = self._later | frozenset(missing)
        if missing and self._care == Care.SEEK and self._jump_to(missing[0]) is not None:
            self._answered.clear()
        for number, following in zip_longest(missing, missing[1:]):
            pictures[number] = self._picture(number, *self._find(number, following, deadline))
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
        return self._pictures.rotation

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
        width, height = self._pictures.learn(frame)
        fps = self._average_rate()
        return VideoInfo(
            path=self._name,
            width=width,
            height=height,
            fps=fps,
            frames=self.index.frames,
            duration=self.index.frames / fps if fps else None,
            codec=codec_of(self._cursor.stream),
            rotation=self.rotation.degrees,
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

    def _picture(self, wanted: int, number: int, frame: Any) -> Picture:
        picture = self._pictures.upright(frame)
        if self._keep is not None:
            self._keep(wanted, picture)
        return Picture(number=number, pixels=preprocess(picture, self._framing))

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
        key = self._jump_to(number)
        if key is None:
            return
        self._last = None
        if self._care == Care.SEEK:
            if self._cursor.seek(key, number):
                return
            self._set_care(Care.FORWARD)
        self._restart(deadline)

    def _jump_to(self, number: int) -> int | None:
        """The position of the keyframe from which the frame is decoded soonest; None: from here."""
        key = self.index.keyframe_before(number) if self._care == Care.SEEK else 0
        return None if self._is_ahead(number) and key <= self._cursor.position else key

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
                self._kept[found, self._framing] = self._picture(found, found, frame)
        return None

    def _nearest(self, number: int) -> tuple[int, Any]:
        around = [self._last, *list(self._cursor.ready)[:1]]
        candidates = [each for each in around if each is not None]
        if not candidates:
            raise problem(self._name, UNDECODABLE, "decode")
        return min(candidates, key=lambda each: abs(each[0] - number))
