"""Plain grey clips with sound, records to draw into them, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.clips import _rotate

Box = tuple[float, float, float, float]

# From the left to the right, then down: where to look, and when.
BOXES: tuple[Box, ...] = ((20, 20, 80, 80), (120, 20, 180, 80), (120, 40, 180, 100))
TIMES = (0.2, 1.0, 1.8)
_SAMPLES = 1024


def grey_clip(
    path: Path,
    *,
    size: tuple[int, int] = (240, 160),
    frames: int = 50,
    fps: int = 25,
    times: Sequence[int] | None = None,
    sound: str | None = None,
    rotation: int = 0,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> Path:
    """Every pixel is (128, 128, 128); `times` are milliseconds of each frame, `rotation` is for MP4."""
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream(codec, rate=fps, options={"preset": "ultrafast"} if "264" in codec else {})
        (video.width, video.height), video.pix_fmt = size, pixel_format
        base = video.codec_context.time_base = Fraction(1, 1000 if times else fps)
        audio: Any = output.add_stream(sound, rate=48_000, layout="mono") if sound else None
        picture = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 128, np.uint8), format="rgb24")
        for number in range(frames):
            frame = picture.reformat(format=pixel_format)
            frame.pts, frame.time_base = times[number] if times else number, base
            output.mux(video.encode(frame))
        if audio:
            noise = np.random.default_rng(0).normal(0, 0.1, 48_000 * frames // fps).astype(np.float32)
            for start in range(0, len(noise), _SAMPLES):
                part = av.AudioFrame.from_ndarray(noise[None, start : start + _SAMPLES], format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
                output.mux(audio.encode(part))
            output.mux(audio.encode(None))
        output.mux(video.encode(None))
    if rotation:
        _rotate(path, rotation)
    return path


def record_of(
    path: Path | str, *, size: tuple[int, int] = (240, 160), frames: int = 50, fps: float = 25, **more: Any
) -> dict[str, Any]:
    looks = [
        {"step": step, "frame": round(time * fps), "time": time, "box": list(box)}
        for step, (time, box) in enumerate(zip(TIMES, BOXES, strict=True))
    ]
    return {
        "schema": "adafocus/1",
        "status": "ok",
        "video": {
            **{"path": str(path), "width": size[0], "height": size[1], "frames": frames, "decoder": "pyav"},
            **{"fps": fps, "duration": frames / fps, "codec": "h264"},
        },
        "model": {"name": "made-up"},
        "labels": [{"label": "Sumo", "index": 4, "score": 0.5}],
        "cost": {"gmacs": 3.0, "stages": {"glance": 0.6, "focus": 2.4}, "full_frame_gmacs": 6.0},
        "trajectory": looks,
        "exit": {"step": 3, "of": 4},
        **more,
    }


def pictures_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Times and RGB frames."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def duration_of(path: Path) -> float:
    """Of the pictures, in seconds."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        last = max(packets, key=lambda packet: packet.pts)
        return float((last.pts + last.duration - min(packet.pts for packet in packets)) * last.time_base)


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    """Times and packets of the first track."""
    with av.open(str(path)) as container:
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(audio=0) if p.size]


def box_in(picture: np.ndarray, near: Box) -> Box:
    """The box that is drawn, looked for along the middles of one that it should be, a little beyond its edges."""
    row, column = round((near[1] + near[3]) / 2), round((near[0] + near[2]) / 2)
    left, right = _edges(picture[row], near[0], near[2])
    top, bottom = _edges(picture[:, column], near[1], near[3])
    return left, top, right, bottom


def _edges(line: np.ndarray, first: float, last: float) -> tuple[float, float]:
    """Where the white lines of the box cross a row or a column of pixels."""
    start = max(0, round(first) - 10)
    white = start + np.flatnonzero(line[start : round(last) + 10].min(axis=-1) > 175)
    assert len(white), "no white on this line"
    low, high = white[white < (first + last) / 2], white[white >= (first + last) / 2]
    return float(low.mean() + 0.5), float(high.mean() + 0.5)
