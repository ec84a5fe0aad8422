"""The files that a render can be: MP4 and WebM with sound, GIF with a palette of its own.

Sound is copied where the file can hold it, else encoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.render.marks import Canvas
from adafocus_cli.video.pyav_reader import packets

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
            if last is not None and packet.dts <= last:  # some files repeat a time, which is not allowed
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


_VIDEO: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "mp4": ("libx264", {"preset": "veryfast", "crf": "20"}, {"movflags": "+faststart"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "32", "b": "0"}, {}),
}

# Of a GIF: browsers slow down what is shown for less than 2 hundredths of a second, and everything else is too large.
_LEAST_SHOWN = 2
_LONGEST_SIDE = 480
_PALETTE_FRAMES = 64


@dataclass(frozen=True)
class FilmSource:
    """What a film keeps of its video; `start` is the time of its first frame, in units of `time_base`.

    `began` is the moment, in seconds of the container, from which both pictures and sound are counted.
    """

    width: int
    height: int
    frames: int
    rate: Fraction
    time_base: Fraction
    began: Fraction
    aspect: Fraction | None


class Film(ABC):
    """A file being written: `size` is that of the pictures it wants."""

    def __init__(self, target: str, kind: str, source: FilmSource, options: dict[str, str]) -> None:
        self.source = source
        self.output: Any = av.open(target, "w", format=kind, options=options)

    @property
    def size(self) -> tuple[int, int]:
        return self.source.width, self.source.height

    @abstractmethod
    def add(self, canvas: Canvas, pts: int, duration: int) -> None: ...

    @abstractmethod
    def finish(self) -> bool:
        """Ends the file; False if it wants to see all frames once more."""

    def close(self) -> None:
        self.output.close()

    def _add_stream(self, encoder: str, options: dict[str, str], time_base: Fraction) -> Any:
        try:
            stream = self.output.add_stream(encoder, rate=self.source.rate, options=options)
        except av.codec.codec.UnknownCodecError:
            raise AdaFocusError(
                f"this PyAV has no encoder {encoder}; pip install --force-reinstall av, or write another format"
            ) from None
        stream.codec_context.time_base = time_base
        return stream

    def _encode(self, stream: Any, frame: Any, pts: int, duration: int) -> None:
        frame.pts, frame.duration, frame.time_base = pts, duration, stream.codec_context.time_base
        self.output.mux(stream.encode(frame))


class SoundFilm(Film):
    """MP4 or WebM; every frame keeps its time."""

    def __init__(self, target: str, kind: str, source: FilmSource, sound: Any) -> None:
        encoder, options, of_file = _VIDEO[kind]
        super().__init__(target, kind, source, of_file)
        self._stream = self._add_stream(encoder, options, source.time_base)
        self._sound = Sound(sound, self.output, kind, source.began)
        self._began = round(source.began / source.time_base)
        self._fresh = True

    def add(self, canvas: Canvas, pts: int, duration: int) -> None:
        if self._fresh:
            self._describe(canvas)
        self._encode(self._stream, canvas.frame, pts - self._began, duration)
        self._sound.write_until(float((pts - self._began) * self.source.time_base))

    def finish(self) -> bool:
        self.output.mux(self._stream.encode(None))
        self._sound.finish()
        return True

    def _describe(self, canvas: Canvas) -> None:
        self._fresh = False
        context, colours = self._stream.codec_context, canvas.frame
        context.width, context.height, context.pix_fmt = canvas.width, canvas.height, "yuv420p"
        context.colorspace, context.color_range = colours.colorspace, colours.color_range
        context.color_primaries, context.color_trc = colours.color_primaries, colours.color_trc
        if self.source.aspect:
            context.sample_aspect_ratio = self.source.aspect


class Gif(Film):
    """Takes all frames twice: once for the palette, once to be written."""

    def __init__(self, target: str, kind: str, source: FilmSource) -> None:
        super().__init__(target, kind, source, {})
        self._stream = self._add_stream("gif", {}, Fraction(1, 100))
        self._palette = _Filter(self.size, "palettegen")
        self._colouring: _Filter | None = None
        self._seen = 0
        self._last = -_LEAST_SHOWN
        self._began: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        shrunk = min(1.0, _LONGEST_SIDE / max(super().size))
        width, height = (max(2, 2 * round(side * shrunk / 2)) for side in super().size)
        return width, height

    def add(self, canvas: Canvas, pts: int, duration: int) -> None:
        if self._colouring is None:
            if self._seen % max(1, self.source.frames // _PALETTE_FRAMES) == 0:
                self._palette.push(canvas.frame)
            self._seen += 1
            return
        self._began = pts if self._began is None else self._began
        time = round((pts - self._began) * self.source.time_base * 100)
        if time - self._last < _LEAST_SHOWN:
            return
        self._last = time
        self._colouring.push(canvas.frame)
        shown = max(_LEAST_SHOWN, round(duration * self.source.time_base * 100))
        self._encode(self._stream, self._colouring.pull(), time, shown)

    def finish(self) -> bool:
        if self._colouring is None:
            self._palette.push(None)
            context = self._stream.codec_context
            (context.width, context.height), context.pix_fmt = self.size, "pal8"
            self._colouring = _Filter(self.size, "paletteuse", self._palette.pull())
            return False
        self.output.mux(self._stream.encode(None))
        return True


class _Filter:
    """One of FFmpeg's filters, with a second picture where it takes one."""

    def __init__(self, size: tuple[int, int], name: str, second: Any = None) -> None:
        self._graph = av.filter.Graph()
        width, height = size
        base = Fraction(1, 100)
        self._source = self._graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("yuv420p"), time_base=base
        )
        options = "" if second is None else "dither=bayer:bayer_scale=4:diff_mode=rectangle"
        wanted, self._sink = self._graph.add(name, options), self._graph.add("buffersink")
        self._source.link_to(wanted)
        if second is not None:
            other = self._graph.add_buffer(
                width=second.width, height=second.height, format=second.format, time_base=base
            )
            other.link_to(wanted, 0, 1)
        wanted.link_to(self._sink)
        self._graph.configure()
        if second is not None:
            other.push(second)
            other.push(None)

    def push(self, frame: Any) -> None:
        self._source.push(frame)

    def pull(self) -> Any:
        return self._sink.pull()
