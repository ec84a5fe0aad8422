"""The sound of a video on its way into another file: its packets as they are where the file takes them, else encoded.

Knows nothing of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from adafocus_cli.video.packet_index import packets

# What players of a kind of file know; FFmpeg would put more into it.
COPIED = {
    "mp4": frozenset(("aac", "mp3", "ac3", "eac3", "alac", "opus")),
    "webm": frozenset(("opus", "vorbis")),
}
_ENCODERS = {"mp4": ("aac", None), "webm": ("libopus", 48_000)}

# Seconds that are missing in the sound, rather than a time that is not exact.
_GAP = Fraction(1, 10)


class Sound:
    """All tracks of a container that can be read, written up to a moment each time."""

    def __init__(self, source: Any, output: Any, kind: str, start: Fraction) -> None:
        """`start` is the moment of the source, in seconds, that is 0 in the output."""
        self._start = start
        self._tracks = {
            stream.index: _track(stream, output, kind)
            for stream in source.streams.audio
            if stream.codec_context is not None
        }
        self._packets = iter(packets(source, [source.streams[index] for index in self._tracks]) if self._tracks else ())
        self._next: Any = next(self._packets, None)
        self._output = output

    def write_until(self, seconds: float) -> None:
        """Sound and pictures go into the file side by side."""
        while self._next is not None and _time_of(self._next) - self._start <= seconds:
            self._write(self._tracks[self._next.stream.index](self._shifted(self._next)))
            self._next = next(self._packets, None)

    def finish(self) -> None:
        self.write_until(float("inf"))
        for track in self._tracks.values():
            self._write(track(None))

    def _shifted(self, packet: Any) -> Any:
        shift = round(self._start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        return packet

    def _write(self, ready: Iterable[Any]) -> None:
        for packet in ready:
            self._output.mux(packet)


_Track = Callable[[Any], Iterable[Any]]
"""From a packet, or None at the end, to what is written for it."""


def _track(stream: Any, output: Any, kind: str) -> _Track:
    codec = stream.codec_context.codec
    if getattr(codec, "canonical_name", codec.name) in COPIED[kind]:
        return _copied(stream, output)
    return _encoded(stream, output, *_ENCODERS[kind])


def _copied(stream: Any, output: Any) -> _Track:
    target = output.add_stream_from_template(stream)
    last: int | None = None

    def write(packet: Any) -> Iterator[Any]:
        nonlocal last
        if packet is None:
            return
        if packet.dts is not None:
            if last is not None and packet.dts <= last:  # some files repeat a time, which no file may
                packet.dts = last + 1
                packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else None
            last = packet.dts
        packet.stream = target
        yield packet

    return write


def _encoded(stream: Any, output: Any, encoder: str, rate: int | None) -> _Track:
    context = stream.codec_context
    target = output.add_stream(encoder, rate=rate or context.rate)
    target.layout = "mono" if context.channels == 1 else "stereo"
    due: Fraction | None = None

    def timed(frame: Any) -> Any:
        """To the sample: times in some files are coarse, or run backwards."""
        nonlocal due
        said = frame.pts * frame.time_base if frame.pts is not None else due or Fraction(0)
        time = due if due is not None and said < due + _GAP else said
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(time / frame.time_base)
        due = time + frame.samples * frame.time_base
        return frame

    def write(packet: Any) -> Iterator[Any]:
        with suppress(av.error.InvalidDataError):  # a damaged packet is a gap in the sound
            for frame in stream.decode(packet):
                yield from target.encode(timed(frame))
        if packet is None:
            yield from target.encode(None)

    return write


def _time_of(packet: Any) -> float:
    """A packet without a time follows the one before it."""
    time = packet.dts if packet.dts is not None else packet.pts
    return float(time * packet.time_base) if time is not None else float("-inf")
