"""Videos to measure with: made ones, what decoding takes, and what it takes from file to answer.

A made video shows a moving scene, with the size and the compression of common data sets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from adafocus_cli.benchmark.interleaved import SecondsByPart, TimedTask, in_one_part
from adafocus_cli.benchmark.reference import ReferenceModel
from adafocus_cli.diagnose.checks import DECODERS
from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.errors import AdaFocusError
from adafocus_cli.models.base import Family
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, Result
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.worlds import world

_FPS, _SIZE = 25, (340, 256)
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_MODULES = {"pyav": "av", "decord": "decord"}


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


def readers(paths: Sequence[str], family: Family, stack: ExitStack) -> list[TimedTask]:
    """A task for every installed decoder, in a process that ends with the stack."""
    there = [decoder for decoder in DECODERS if find_spec(_MODULES[decoder])]
    return [_reader(stack.enter_context(VideoProcess(decoder=decoder)), decoder, paths, family) for decoder in there]


def _reader(process: VideoProcess, name: str, paths: Sequence[str], family: Family) -> TimedTask:
    """Opens videos and decodes the frames of a model's first turn."""
    (turn, *_), framing = family.turns(), family.spec.framing

    def read() -> None:
        for path in paths:
            video = process.open(path)
            plan = family.plan(video.info.frames)
            first = {plan.frames[position] for position in family.frames_of(turn, plan)}
            process.frames(video, sorted(first), framing=framing)

    return TimedTask(name, in_one_part(read), len(paths))


class BatchPipeline:
    """Tags as `adafocus batch` does, with the videos repeated endlessly. Only a part is timed: the videos before it
    fill the queues between decoding and model, those after it keep them full.
    """

    def __init__(self, tagger: ClipTagger, paths: Sequence[str], request: TagRequest) -> None:
        lanes = tagger.runtime.lanes
        self._videos = lanes * -(-len(paths) // lanes)
        self._before = lanes * -(-2 * request.workers // lanes)
        self._tagger, self._paths, self._request = tagger, paths, request

    def task(self, name: str) -> TimedTask:
        return TimedTask(name, self._run, self._videos)

    def _run(self) -> SecondsByPart:
        threads = torch.get_num_threads()
        try:
            with closing(tag_as_they_come(cycle(self._paths), self._tagger, self._request)) as results:
                _take(results, self._before)
                started = time.perf_counter()
                _take(results, self._videos)
                return {"all": time.perf_counter() - started}
        finally:
            torch.set_num_threads(threads)  # the batch sets its own


def _take(results: Iterator[Result], count: int) -> None:
    for result in islice(results, count):
        if isinstance(result, Failure):
            raise AdaFocusError(f"{result.message} (only videos that can be tagged can be measured; leave it out)")


class ReferencePipeline:
    """Decoding and the reference model in turn, one video after the other."""

    def __init__(self, process: VideoProcess, path: ReferenceModel, paths: Sequence[str]) -> None:
        self._process, self._path, self._paths = process, path, paths

    def task(self, name: str) -> TimedTask:
        return TimedTask(name, in_one_part(self._run), len(self._paths))

    def _run(self) -> None:
        model = self._path.model
        for path in self._paths:
            video = self._process.open(path)
            plan = model.plan(video.info.frames)
            frames = self._process.frames(video, plan.frames, framing=model.spec.framing)
            self._path.answer(frames.pixels, plan)
