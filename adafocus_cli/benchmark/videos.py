"""Videos to measure with, and what decoding them takes.

A video that is made here shows a moving scene, at the size and with the compression of what data sets hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from adafocus_cli.benchmark.interleaved import Entrant, whole
from adafocus_cli.diagnose.decoding import DECODERS
from adafocus_cli.models.base import Family
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.worlds import world

_FPS, _SIZE = 25, (340, 256)
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_MODULES = {"pyav": "av", "decord": "decord"}


def make(path: Path, *, seconds: int) -> str:
    """A video of a scene that is shown forwards and backwards, again and again."""
    scene = world("motion").scene(0)
    there = scene.frames(range(scene.count))
    both_ways = [*there, *there[-2:0:-1]]
    encode(path, islice(cycle(both_ways), seconds * _FPS), fps=_FPS, size=_SIZE)
    return str(path)


def encode(path: Path, pictures: Iterable[np.ndarray], *, fps: float, size: tuple[int, int]) -> None:
    """Pictures of any size, as a video of this one."""
    encoder = next(name for name in _ENCODERS if _is_there(name))
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(*size, format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _is_there(encoder: str) -> bool:
    try:
        return bool(av.codec.Codec(encoder, "w"))
    except av.error.FFmpegError:
        return False


def readers(paths: Sequence[str], family: Family, stack: ExitStack) -> list[Entrant]:
    """Every decoder that is there, in a process that ends with the stack."""
    there = [decoder for decoder in DECODERS if find_spec(_MODULES[decoder])]
    return [_reader(stack.enter_context(VideoProcess(decoder=decoder)), decoder, paths, family) for decoder in there]


def _reader(process: VideoProcess, name: str, paths: Sequence[str], family: Family) -> Entrant:
    """Opens videos and decodes what a model looks at first."""
    (turn, *_), framing = family.turns(), family.spec.framing

    def read() -> None:
        for path in paths:
            video = process.open(path)
            plan = family.plan(video.info.frames)
            first = {plan.frames[position] for position in family.frames_of(turn, plan)}
            process.frames(video, sorted(first), framing=framing)

    return Entrant(name, whole(read), len(paths))
