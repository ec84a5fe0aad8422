"""The frames of a video stream, from one pass over its packets without decoding.

The packets' presentation times in order are the frames; where each packet stands in the file, and which are keyframes,
says from where a frame can be decoded. Knows nothing of pixels, and does not move the container but forwards.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

from adafocus_cli.errors import printable
from adafocus_cli.video.limits import Deadline, LimitError, Limits
from adafocus_cli.video.reading import nearest

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
