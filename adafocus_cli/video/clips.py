"""The child's side of cutting: a part of a video as a file of its own, its packets copied and nothing encoded again.

A clip begins at the last keyframe that is shown at its start or before it, for nothing later can be decoded alone. It
has the picture, and all sound and subtitles that its kind of file can hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from adafocus_cli.video.limits import Deadline, problem
from adafocus_cli.video.pyav_reader import packets

# What a clip is written as, by the ending of its video; everything else becomes Matroska, which holds almost all.
KINDS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".qt": "mov", ".webm": "webm"},
    **{".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts", ".mkv": "matroska"},
}
ENDINGS = {"mp4": ".mp4", "mov": ".mov", "webm": ".webm", "mpegts": ".ts", "matroska": ".mkv"}
_OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}}
# How far before the start a keyframe is looked for, in seconds: what a file says of its keyframes is not always so.
_BACK = (0, 2, 10, 60, None)
# Sound may lie this much behind the picture in a file.
_INTERLEAVED = 5


def write_clip(path: str, target: str, *, name: str, start: float, end: float | None, deadline: Deadline) -> str:
    """Writes it into `target`; the ending of its kind. Times are seconds from the first frame."""
    kind = KINDS.get(Path(path).suffix.lower(), "matroska")
    try:
        _write(path, target, kind, start, end, deadline)
    except (av.FFmpegError, ValueError):  # not all that this video has can be in a file of its own kind
        if kind == "matroska":
            raise
        kind = "matroska"
        _write(path, target, kind, start, end, deadline)
    if not Path(target).stat().st_size:
        raise problem(name, "nothing is shown then; check the times", "decode")
    return ENDINGS[kind]


def _write(path: str, target: str, kind: str, start: float, end: float | None, deadline: Deadline) -> None:
    with av.open(path) as source, av.open(target, "w", format=kind, options=_OPTIONS.get(kind, {})) as output:
        video = source.streams.video[0]
        streams = {video.index: output.add_stream_from_template(video)}
        for stream in (*source.streams.audio, *source.streams.subtitles):
            with suppress(av.FFmpegError, ValueError):  # a track that this kind of file cannot hold is left out
                streams[stream.index] = output.add_stream_from_template(stream)
        first = Fraction(video.start_time or 0) * video.time_base
        last = None if end is None else first + Fraction(end)
        chosen = [source.streams[index] for index in streams]
        began, newest = None, Fraction(0)
        for packet in _from_keyframe(source, video, chosen, first, first + Fraction(start)):
            deadline.check()
            shown, decoded = _times(packet)
            began = shown if began is None else began
            is_due = last is None or decoded <= last
            if packet.stream.index == video.index:
                if last is not None and decoded > last + _INTERLEAVED:
                    break
                is_due = is_due or shown < newest  # between frames that are in the clip
            # What is shown before the keyframe needs packets from before it.
            if shown < began or not is_due:
                continue
            newest = max(newest, shown) if packet.stream.index == video.index else newest
            output.mux(_moved(packet, began, streams[packet.stream.index]))


def _times(packet: Any) -> tuple[Fraction, Fraction]:
    """When a packet is shown and when it is decoded; not all containers say the second."""
    if packet.pts is None:
        raise ValueError("a packet without a time")
    shown = packet.pts * packet.time_base
    return shown, shown if packet.dts is None else packet.dts * packet.time_base


def _moved(packet: Any, began: Fraction, stream: Any) -> Any:
    shift = round(began / packet.time_base)
    packet.pts -= shift
    if packet.dts is not None:
        packet.dts -= shift
    packet.stream = stream
    return packet


def _from_keyframe(source: Any, video: Any, streams: list[Any], first: Fraction, wanted: Fraction) -> Iterator[Any]:
    """Packets from the last keyframe that is shown at a time or before it; that comes first."""
    for back in _BACK:
        at = first if back is None else max(first, wanted - back)
        source.seek(int(at / video.time_base), stream=video, backward=True, any_frame=False)
        waiting: list[Any] = []
        found = packets(source, streams)
        for packet in found:
            shown, decoded = _times(packet)
            is_video = packet.stream.index == video.index
            if is_video and packet.is_keyframe and (shown <= wanted or (back is None and not waiting)):
                waiting = [packet, *(each for each in waiting if each.stream.index != video.index)]
            elif not is_video or waiting:
                waiting.append(packet)
            if is_video and decoded > wanted:
                break
        if any(packet.stream.index == video.index for packet in waiting):
            yield from waiting
            yield from found
            return
