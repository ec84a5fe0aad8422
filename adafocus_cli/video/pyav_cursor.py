"""A place in a video stream, from which PyAV decodes onwards.

Opens the file, feeds packets to the decoder, says which frame came out. Which place to go to is for `pyav_reader`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import av

from adafocus_cli.video.limits import Deadline, Limits, check_picture, problem
from adafocus_cli.video.packet_index import NO_TIME, PacketIndex, packets

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


class Cursor:
    """Decodes one stream from `position`, the place of the next packet in the file.

    `ready` holds frames that are decoded and not yet taken, `inside` the numbers of frames whose packets were decoded
    and that are not yet taken: those still come out without going back. After `ended` nothing else does.
    """

    def __init__(self, path: str, *, name: str, limits: Limits, deadline: Deadline) -> None:
        self._path, self._name, self._limits = path, name, limits
        self._source: Iterator[Any] | None = None
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
        self.stream = self._best_stream()
        self._prepare_decoder()
        self._start(0, packets(self.container, self.stream))

    def seek(self, key: int, number: int) -> bool:
        """To the packet of a keyframe on the way to a frame, or a keyframe before it; False if that fails.

        Whether a container looks for times of storing or of showing differs with it, its edits and FFmpeg's version.
        """
        index = self._known_index()
        below = index.keyframe_below(key)
        aims = [(key, index.pts[key]), (key, index.times[number]), (key, index.dts[key]), (below, index.pts[below])]
        for nearest, time in aims:
            if time == NO_TIME:
                continue
            self._stop_reading()
            with contextlib.suppress(av.FFmpegError):
                self.container.seek(int(time), stream=self.stream)
                source = packets(self.container, self.stream)
                first = next(source, None)
                landed = index.position_of(first.pts) if first is not None else None
                if landed is not None and nearest <= landed <= key and index.key[landed]:
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

    def _best_stream(self) -> Any:
        stream: Any = self.container.streams.best("video")
        if stream is None or int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE:
            raise problem(self._name, NO_VIDEO)
        if stream.codec_context is None:
            raise problem(self._name, "no decoder here knows its video codec; re-encode it, for instance as H.264")
        if stream.codec_context.width:
            check_picture(stream.codec_context.width, stream.codec_context.height, self._name, self._limits)
        return stream

    def _prepare_decoder(self) -> None:
        for other in self.container.streams:
            if other.index != self.stream.index:
                other.discard = av.stream.Discard.all
        context = self.stream.codec_context
        context.thread_type = "NONE"  # several videos are decoded at once instead
        context.thread_count = 1
        context.options = {"max_pixels": str(self._limits.max_pixels)}

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
