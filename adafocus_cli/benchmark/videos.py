"""Made-up videos to measure with: a moving scene, with the size and the compression of common data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from adafocus_cli.worlds import world

_FPS, _SIZE = 25, (340, 256)
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


def make_video(path: Path, *, seconds: int) -> str:
    """A video of a scene that is played forwards and backwards in a loop."""
    scene = world("motion").scene(0)
    there = scene.frames(range(scene.count))
    both_ways = [*there, *there[-2:0:-1]]
    encode(path, islice(cycle(both_ways), seconds * _FPS), fps=_FPS, size=_SIZE)
    return str(path)


def encode(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    fps: float,
    size: tuple[int, int],
    options: Mapping[str, str] | None = None,
) -> None:
    """Writes pictures of any size as a video of the given size; `options` are the encoder's."""
    encoder = next(name for name in _ENCODERS if _is_there(name))
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt, stream.options = "yuv420p", dict(options or {})
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(*size, format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _is_there(encoder: str) -> bool:
    try:
        return bool(av.codec.Codec(encoder, "w"))
    except av.error.FFmpegError:
        return False
