"""The child's side of live tagging: reads one stream at its pace, and hands over its windows when they have passed.

Run as `python -m adafocus_cli.video.live_server PARENT_PID MEMORY_BYTES`, with the limits and the protocol of the child
that decodes. One thread reads and decodes every frame, and keeps the pictures that a window is likely to be asked for.
Which frames a window has is known only when it is over; those that were not kept are then decoded again, from packets,
which are kept as far back as a window reaches. All that is kept is bounded.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, NamedTuple

import av
import numpy as np

from adafocus_cli.errors import AdaFocusError, printable
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.decode import KEPT_BYTES
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import LimitError, Limits, problem
from adafocus_cli.video.pictures import cut_looks, fitted, preprocess
from adafocus_cli.video.pyav_reader import (
    CONTAINERS,
    MAX_READ_ERRORS,
    UNDECODABLE,
    FramePictures,
    codec_of,
    prepare_decoder,
    video_stream,
)
from adafocus_cli.video.reading import nearest
from adafocus_cli.video.sampling import Look
from adafocus_cli.video.server import DecodeServer, serve
from adafocus_cli.video.windows import PassingWindows, Window, Windowing

_FORMATS = f"{CONTAINERS},rtsp,sdp,rtp,hls,mpjpeg"
# What is read of a stream before the first frame, to learn what is in it.
_LEARN_MICROSECONDS = "1000000"
# Of packets that are kept: at 20 Mbit/s, 25 seconds.
RING_BYTES = 64 << 20
# Of the frames of a window.
MOST_FRAMES = 1 << 17
# A source that can wait does so while so many windows have passed and are not taken.
_MOST_WAITING = 2
# A frame that is shown so little before the last one is left out; one still earlier means that the clock was set back.
_JITTER_SECONDS = 1.0
# A reader that waits for its source for less than this share of the time has no time left.
_IDLE_SHARE = 0.05
_GLANCE_SECONDS = 0.05
_NO_CLOCK = ("mpjpeg",)  # its pictures are shown as they come


class _Group(NamedTuple):
    """A keyframe and what follows it: when it is shown, which packet of the stream it is, and the packets."""

    key: int
    position: int
    packets: list[Any]

    def serves(self, pts: int, position: int) -> bool:
        """A frame that is shown then, and came out when so many packets had come. Clocks may be set back."""
        return self.key <= pts and self.position < position


class PacketRing:
    """The last packets of a stream, from a keyframe on."""

    def __init__(self, most_bytes: int = RING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._groups: deque[_Group] = deque()
        self.nbytes = 0
        self.count = 0
        """How many have come."""

    def add(self, packet: Any) -> None:
        if packet.is_keyframe and packet.pts is not None:
            self._groups.append(_Group(packet.pts, self.count, []))
        self.count += 1
        if not self._groups:
            return  # nothing can be decoded from here
        self._groups[-1].packets.append(packet)
        self.nbytes += packet.size
        while self.nbytes > self._most_bytes and self._groups:
            self._drop_first()

    def prune(self, pts: int, position: int) -> None:
        """Drops what this frame, and all after it, can be decoded without."""
        while len(self._groups) > 1 and self._groups[1].serves(pts, position):
            self._drop_first()

    def since(self, pts: int, position: int) -> list[Any]:
        """The packets that a frame can be decoded from, and all that follow; none if they are gone."""
        groups = [*self._groups]
        begins = max((n for n, group in enumerate(groups) if group.serves(pts, position)), default=len(groups))
        return [packet for group in groups[begins:] for packet in group.packets]

    def _drop_first(self) -> None:
        self.nbytes -= sum(packet.size for packet in self._groups.popleft().packets)


class StreamPace:
    """How the clock of a stream goes beside that of the machine, and whether the reader keeps up with it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, float] | None = None  # by the machine, by the stream
        self._least_lag = math.inf
        self._lag = 0.0
        self._idle = 0.0
        self._checked: tuple[float, float] = (clock(), 0.0)
        self._busy = False

    def waited(self, seconds: float) -> None:
        """For the source, or for somebody who takes windows."""
        self._idle += seconds

    def note(self, stream_seconds: float) -> None:
        now = self._clock()
        self._began = self._began or (now, stream_seconds)
        self._lag = (now - self._began[0]) - (stream_seconds - self._began[1])
        self._least_lag = min(self._least_lag, self._lag)
        since, idle = self._checked
        if now - since >= 1.0:
            self._busy = self._idle - idle < _IDLE_SHARE * (now - since)
            self._checked = now, self._idle

    @property
    def is_ahead(self) -> bool:
        """More of the stream has come than time has passed, so that waiting loses nothing."""
        return self._lag < 0

    @property
    def behind(self) -> float:
        """How many seconds of the stream wait to be read, as far as that is the fault of the reader."""
        return self._lag - self._least_lag if self._busy else 0.0


@dataclass(frozen=True)
class _Note:
    """Of a frame that came: when it is shown, by its packet and in seconds; when, and after how many packets."""

    pts: int | None
    time: float
    wall: float
    position: int


@dataclass(frozen=True, eq=False)
class _Kept:
    pixels: np.ndarray
    frame: Any
    """As it was decoded, where looks into the source may be asked for."""

    @property
    def nbytes(self) -> int:
        planes = self.frame.planes if self.frame is not None else ()
        return int(self.pixels.nbytes + sum(plane.buffer_size for plane in planes))


@dataclass(frozen=True)
class _Passed:
    """A window that has passed; its frames count from `base`, the first of its piece."""

    window: Window
    base: int
    header: Mapping[str, Any]

    @property
    def end(self) -> float:
        """In seconds from the first frame of the connection."""
        return float(self.header["offset"]) + self.window.end


@dataclass
class _Piece:
    """A part of the stream whose clock goes on without a break."""

    number: int
    base: int
    first_pts: int | None
    wall: float
    offset: float
    windows: PassingWindows


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the parent asks for when it connects."""

    source: Mapping[str, Any]
    windowing: Windowing
    framing: Framing
    keep_sources: bool
    seconds: float
    silent: float


def _opened(request: _Request, name: str, limits: Limits) -> Any:
    source = request.source
    options = {
        "format_whitelist": _FORMATS,
        "max_pixels": str(limits.max_pixels),
        "analyzeduration": _LEARN_MICROSECONDS,
    }
    options |= source["options"]
    if source["kind"] == "camera":
        del options["format_whitelist"]
    silent = None if source["kind"] == "stdin" else (request.seconds, request.silent)
    try:
        return av.open(source["address"], format=source["format"], options=options, timeout=silent)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise problem(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Without the address, which may have a password in it."""
    if isinstance(error, av.error.ExitError):
        return "nothing came from it for too long"
    if isinstance(error, av.error.InvalidDataError):
        return (
            "what comes from it is not a video that can be read as it passes, as MPEG-TS can; a file in a pipe, "
            "such as MP4, is for adafocus classify --stdin"
        )
    if getattr(error, "errno", None) == errno.EIO:
        return "the connection broke off"
    return str(getattr(error, "strerror", None) or type(error).__name__)


class StreamReader:
    """One connection to a stream, read by a thread of its own from `next` on."""

    def __init__(self, request: _Request, name: str, limits: Limits) -> None:
        self._request, self._name, self._limits = request, name, limits
        self._pictures, self._again = FramePictures(name, limits), FramePictures(name, limits)
        self._pace = StreamPace()
        self._heard = time.monotonic()  # when the thread that reads last came on
        self._asks_source = True
        self._skipping = False
        self._thread: threading.Thread | None = None

        self._changed = threading.Condition()  # and the lock of all that follows
        self._ring = PacketRing()
        self._count = 0
        self._piece: _Piece | None = None
        self._last_piece: _Piece | None = None
        self._notes: dict[int, _Note] = {}
        self._kept: dict[int, _Kept] = {}
        self._kept_bytes = 0
        self._likely: frozenset[int] = frozenset()
        self._waiting: deque[_Passed] = deque()
        self._taken: _Passed | None = None
        # Of the frames of the window that was taken, once they are asked for.
        self._sources: dict[int, Any] | None = None
        self._windows_dropped = self._frames_dropped = 0
        self._over: str | None = None
        self._is_over = False

        self._container = _opened(request, name, limits)
        self._stream = video_stream(self._container, name, limits)
        source = self._decoded()
        try:
            first = next(source, None)
        except av.FFmpegError as error:
            raise problem(name, _reason(error)) from error
        if first is None:
            raise problem(name, UNDECODABLE)
        self._source = chain([first], source)
        self.info, self.ends = self._describe(first)
        self._shape = request.framing.shape_of(self.info.width, self.info.height)

    # The thread that answers.

    def next(self, likely: Iterable[int], wait: float) -> dict[str, Any]:
        until = time.monotonic() + wait
        with self._changed:
            self._likely = frozenset(likely)
            self._taken = self._sources = None
            if self._thread is None:
                self._heard = time.monotonic()
                self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
                self._thread.start()
            while not (self._waiting or self._is_over):
                self._check_silence()
                left = until - time.monotonic()
                if left <= 0:
                    return {"state": "waiting"}
                self._changed.wait(min(left, 4 * _GLANCE_SECONDS))
            if not self._waiting:
                return {"state": "over", "reason": self._over}
            self._taken = self._waiting.popleft()
            self._changed.notify_all()
            frames = self._taken.window.frames
            counts = {"windows_dropped": self._windows_dropped, "frames_dropped": self._frames_dropped}
            self._windows_dropped = self._frames_dropped = 0
            return {"state": "window", "first": frames.start, "stop": frames.stop, **self._taken.header, **counts}

    def frames(self, numbers: Sequence[int]) -> tuple[dict[str, Any], bytes]:
        """Frames of the window that was taken, by their numbers in its piece."""
        with self._changed:
            base = self._taken_base()
            wanted = sorted({base + number for number in numbers})
            kept = {number: self._kept[number] for number in wanted if number in self._kept}
            notes = {number: self._notes[number] for number in wanted if number in self._notes}
            missing = {note.pts: n for n, note in notes.items() if n not in kept and note.pts is not None}
            packets = self._ring.since(min(missing), notes[min(missing.values())].position) if missing else []
        kept |= self._decoded_again(packets, missing)
        if not kept:
            raise problem(self._name, "none of the frames of a window could be kept; give a shorter --window", "decode")
        at_hand = np.array(sorted(kept))
        stand_ins = {number: nearest(at_hand, number) for number in wanted}
        self._sources = {number - base: kept[stand_ins[number]].frame for number in wanted}
        pixels = np.stack([kept[stand_ins[base + number]].pixels for number in numbers])
        header = {
            "times": [notes[base + number].time if base + number in notes else 0.0 for number in numbers],
            "replaced": sum(number != found for number, found in stand_ins.items()),
            "damaged": [],
            "decoder": self.info.decoder,
        }
        return header, pixels.tobytes()

    def source_of(self, number: int) -> np.ndarray:
        """All of a frame that was asked for before, as large as the first one of the connection."""
        if not (self._sources and self._request.keep_sources):
            raise problem(self._name, "the frames of a window that has gone cannot be looked into", "decode")
        found = nearest(np.array(sorted(self._sources)), number)
        return fitted(self._again.upright(self._sources[found]), self.info.width, self.info.height)

    def _taken_base(self) -> int:
        if self._taken is None:
            raise problem(self._name, "no window was taken", "decode")
        return self._taken.base

    def _check_silence(self) -> None:
        """Neither a source nor a decoder may hang for ever; only a pipe may be silent for as long as it likes."""
        quiet = time.monotonic() - self._heard
        if not self._asks_source and quiet > self._limits.clean_seconds:
            self._over, self._is_over = f"decoding took longer than {self._limits.seconds:g} seconds", True
        elif self._asks_source and quiet > 1.5 * self._request.silent and self._request.source["kind"] != "stdin":
            self._over, self._is_over = f"nothing came for {self._request.silent:g} seconds", True

    def _decoded_again(self, packets: list[Any], missing: Mapping[int, int]) -> dict[int, _Kept]:
        """Frames by their numbers, as far as they can be had."""
        found: dict[int, _Kept] = {}
        for frame in self._frames_of(packets) if packets else ():
            if frame.pts in missing and missing[frame.pts] not in found:
                found[missing[frame.pts]] = self._keepable(frame, self._again)
            if len(found) == len(missing):
                break
        return found

    def _frames_of(self, packets: list[Any]) -> Iterator[Any]:
        """What a decoder of its own makes of packets that begin with a keyframe."""
        own = self._stream.codec_context
        context: Any = av.CodecContext.create(own.codec.name, "r")
        context.extradata = own.extradata
        if own.width:
            context.width, context.height = own.width, own.height
        if own.pix_fmt:
            context.pix_fmt = own.pix_fmt
        prepare_decoder(context, self._limits)
        for packet in [*packets, None]:
            with suppress(av.FFmpegError):
                yield from context.decode(packet)

    # The thread that reads.

    def _read(self) -> None:
        reason: str | None = None
        try:
            for frame in self._source:
                self._take(frame)
        except AdaFocusError as error:
            reason = str(error).removeprefix(f"{printable(self._name)}: ")
        except MemoryError:
            reason = "it needs more memory than is allowed; allow more with --decode-memory GIB"
        except av.FFmpegError as error:
            reason = _reason(error)
        except Exception as error:  # a decoder may raise anything
            reason = f"the decoder failed ({type(error).__name__}: {str(error)[:200]})"
        with self._changed:
            self._end_piece()
            self._over, self._is_over = reason, True
            self._changed.notify_all()

    def _decoded(self) -> Iterator[Any]:
        context = self._stream.codec_context
        damaged = 0
        for packet in self._packets():
            if self._must_skip(packet):
                continue
            if packet is not None:
                with self._changed:
                    self._ring.add(packet)
            try:
                yield from context.decode(packet)
                damaged = 0
            except MemoryError:
                raise
            except av.FFmpegError:
                damaged += 1
                self._frames_dropped += 1
                if damaged > 100 * MAX_READ_ERRORS:
                    raise problem(self._name, UNDECODABLE, "decode") from None

    def _packets(self) -> Iterator[Any]:
        """Up to the end, which None stands for; unreadable ones are skipped."""
        in_a_row = 0
        while True:
            source = self._container.demux(self._stream)
            try:
                began, self._asks_source = time.monotonic(), True
                for packet in source:
                    self._heard, self._asks_source = time.monotonic(), False
                    self._pace.waited(self._heard - began)
                    in_a_row = 0
                    if packet.size:
                        yield packet
                    began, self._asks_source = time.monotonic(), True
            except (av.error.InvalidDataError, av.error.BlockingIOError):
                in_a_row += 1
                if in_a_row > MAX_READ_ERRORS:
                    raise
                continue
            except IndexError:  # PyAV's where more streams turned up on the way
                pass
            except av.FFmpegError:
                yield None  # what the decoder still has came before it
                raise
            yield None
            return

    def _must_skip(self, packet: Any) -> bool:
        """Whether a packet is left out, for there is no time to decode it: on to a keyframe of now."""
        limit = self._request.windowing.seconds
        if packet is None or packet.pts is None or (not self._skipping and self._pace.behind <= limit):
            return False
        self._skipping = True
        last = self._last_piece
        if last is not None and last.first_pts is not None:
            self._pace.note(last.offset + self._between(last.first_pts, packet.pts))
        if not packet.is_keyframe or self._pace.behind > limit / 4:
            self._frames_dropped += 1
            return True
        self._stream.codec_context.flush_buffers()
        with self._changed:
            self._abandon_piece()
        self._skipping = False
        return False

    def _take(self, frame: Any) -> None:
        """Another frame: windows that are over before it, its picture if it is likely to be asked for."""
        wall = time.time()
        with self._changed:
            seconds = self._seconds_of(frame.pts)
            if self._piece and self._piece.windows.count and seconds <= self._piece.windows.seconds:
                if seconds > self._piece.windows.seconds - _JITTER_SECONDS:
                    self._frames_dropped += 1
                    return
                self._end_piece()
                self._piece = None
            if self._piece is None:
                self._piece, seconds = self._next_piece(frame.pts, wall), 0.0
            piece, number = self._piece, self._count
            self._pace.note(piece.offset + seconds)
            for window in piece.windows.add(seconds):
                self._passed(window)
            self._notes[number] = _Note(frame.pts, seconds, wall, self._ring.count)
            self._count += 1
            if len(self._notes) > MOST_FRAMES:
                text = f"{printable(self._name)}: more than {MOST_FRAMES} frames in a window; give a shorter --window"
                raise LimitError(text, stage="decode")
            is_likely = any(number - piece.base - first in self._likely for first in piece.windows.firsts)
        if is_likely:
            kept = self._keepable(frame, self._pictures)
            with self._changed:
                self._kept[number] = kept
                self._kept_bytes += kept.nbytes
                while self._kept_bytes > KEPT_BYTES:
                    self._forget(next(iter(self._kept)))
        self._hold_back()

    def _seconds_of(self, pts: int | None) -> float:
        """When a frame is shown, from the first one of its piece."""
        if self._piece is None:
            return 0.0
        if pts is not None and self._piece.first_pts is not None:
            return self._between(self._piece.first_pts, pts)
        count, rate = self._count - self._piece.base, self.info.fps
        if rate and self._container.format.name not in _NO_CLOCK:
            return count / rate
        return time.time() - self._piece.wall

    def _between(self, first_pts: int, pts: int) -> float:
        return float((pts - first_pts) * self._stream.time_base)

    def _next_piece(self, pts: int | None, wall: float) -> _Piece:
        last, windows = self._last_piece, PassingWindows(self._request.windowing)
        if last is None:
            piece = _Piece(0, self._count, pts, wall, 0.0, windows)
        else:
            offset = last.offset + last.windows.seconds
            if pts is not None and last.first_pts is not None:
                left_out = max(0.0, last.offset + self._between(last.first_pts, pts) - offset)
                self._windows_dropped += int(left_out / self._request.windowing.stride)
                offset += left_out
            piece = _Piece(last.number + 1, self._count, pts, wall, offset, windows)
        self._last_piece = piece
        return piece

    def _end_piece(self) -> None:
        """With the window that ends with it."""
        if self._piece is not None:
            for window in self._piece.windows.end():
                self._passed(window)

    def _abandon_piece(self) -> None:
        """Without the windows that are passing, for frames of them will be missing."""
        if self._piece is not None:
            self._windows_dropped += len(self._piece.windows.firsts)
            self._piece = None

    def _passed(self, window: Window) -> None:
        piece = self._piece
        assert piece is not None
        first, last = (self._notes.get(piece.base + n) for n in (window.frames[0], window.frames[-1]))
        header = {
            "start": window.start,
            "end": window.end,
            "piece": piece.number,
            "offset": piece.offset,
            "since": first.wall if first else time.time(),
            "until": last.wall if last else time.time(),
            "frames": piece.windows.count,
            "lasted": piece.windows.seconds,
        }
        self._waiting.append(_Passed(window, piece.base, header))
        self._thin()
        self._changed.notify_all()

    def _thin(self) -> None:
        """Leaves out every other window while the first has waited for half a window of the stream's time."""
        if self._request.source["can_wait"] and self._pace.is_ahead:
            return
        allowed = self._request.windowing.seconds / 2
        while len(self._waiting) > 1 and self._waiting[-1].end - self._waiting[0].end > allowed:
            rest = [*self._waiting][::-1][::2][::-1]
            self._windows_dropped += len(self._waiting) - len(rest)
            self._waiting = deque(rest)

    def _hold_back(self) -> None:
        """Has a source that can wait do so while windows are not taken, and forgets what is behind all windows."""
        began = time.monotonic()
        with self._changed:
            while self._request.source["can_wait"] and len(self._waiting) >= _MOST_WAITING and self._pace.is_ahead:
                self._heard = time.monotonic()
                self._changed.wait(_GLANCE_SECONDS)
                self._pace.note(self._piece.offset + self._piece.windows.seconds if self._piece else 0.0)
            self._pace.waited(time.monotonic() - began)
            self._prune()

    def _prune(self) -> None:
        piece = self._piece
        needed = self._count if piece is None else piece.base + piece.windows.oldest
        for passed in (self._taken, *self._waiting):
            if passed is not None and (passed is not self._taken or self._sources is None):
                needed = min(needed, passed.base + passed.window.frames.start)
        while self._notes and (oldest := next(iter(self._notes))) < needed:
            del self._notes[oldest]
        while self._kept and (oldest := next(iter(self._kept))) < needed:
            self._forget(oldest)
        note = self._notes.get(needed)
        if note is not None and note.pts is not None:
            self._ring.prune(note.pts, note.position)

    def _forget(self, number: int) -> None:
        self._kept_bytes -= self._kept.pop(number).nbytes

    def _keepable(self, frame: Any, pictures: FramePictures) -> _Kept:
        height, width, _ = self._shape
        pixels = fitted(preprocess(pictures.upright(frame), self._request.framing), width, height)
        return _Kept(pixels, frame if self._request.keep_sources else None)

    def _describe(self, frame: Any) -> tuple[VideoInfo, bool]:
        width, height = self._pictures.learn(frame)
        self._again.rotation = self._pictures.rotation
        rate = self._stream.average_rate or self._stream.guessed_rate
        is_playlist = self._container.format.name == "hls"
        has_end = bool(self._container.duration) or (not is_playlist and self._container.size > 0)
        info = VideoInfo(
            path=self._name,
            width=width,
            height=height,
            fps=float(rate) if rate else None,
            frames=1,
            duration=None,
            codec=codec_of(self._stream),
            rotation=self._pictures.rotation.degrees,
            decoder="pyav",
        )
        return info, self._request.source["kind"] == "stdin" or (self._request.source["can_wait"] and has_end)


class LiveServer(DecodeServer):
    """Answers for one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._reader: StreamReader | None = None

    def _answer(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        if request["do"] == "open":
            names = ("source", "keep_sources", "seconds", "silent")
            asked = _Request(
                windowing=Windowing(**request["windowing"]),
                framing=Framing(**request["framing"]),
                **{name: request[name] for name in names},
            )
            self._reader = StreamReader(asked, request["name"], limits)
            return {"info": asdict(self._reader.info), "ends": self._reader.ends}, b""
        reader = self._reader
        if reader is None:
            raise problem(request["name"], "not connected", "decode")
        if request["do"] == "next":
            return reader.next(request["likely"], request["wait"]), b""
        if request["do"] == "frames":
            return reader.frames(request["indices"])
        if request["do"] == "picture":
            return {}, reader.source_of(request["index"]).tobytes()
        looks = [Look(frame, (*box,), request["size"]) for frame, *box in request["looks"]]
        return {}, cut_looks(looks, reader.source_of).tobytes()


if __name__ == "__main__":
    serve(LiveServer())
