"""From files to answers: the pace of a batch once it runs, and of the plain path with one video after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice

import torch

from adafocus_cli.benchmark.interleaved import Entrant, Parts, whole
from adafocus_cli.benchmark.reference import PlainPath
from adafocus_cli.engine.local import Options, tag_as_they_come
from adafocus_cli.errors import AdaFocusError
from adafocus_cli.schema import Failure, Result
from adafocus_cli.tagger import Tagger
from adafocus_cli.video.process import VideoProcess


class Batch:
    """As `adafocus batch` tags. Of an endless row of videos a part is timed: those before it have filled what stands
    between decoding and model, and those after it keep it full, so that nothing is had for free.
    """

    def __init__(self, tagger: Tagger, paths: Sequence[str], options: Options) -> None:
        lanes = tagger.runtime.lanes
        self._videos = lanes * -(-len(paths) // lanes)
        self._before = lanes * -(-2 * options.workers // lanes)
        self._tagger, self._paths, self._options = tagger, paths, options

    def entrant(self, name: str) -> Entrant:
        return Entrant(name, self._run, self._videos)

    def _run(self) -> Parts:
        threads = torch.get_num_threads()
        try:
            with closing(tag_as_they_come(cycle(self._paths), self._tagger, self._options)) as results:
                _take(results, self._before)
                started = time.perf_counter()
                _take(results, self._videos)
                return {"all": time.perf_counter() - started}
        finally:
            torch.set_num_threads(threads)  # a batch has its own idea of how many


def _take(results: Iterator[Result], count: int) -> None:
    for result in islice(results, count):
        if isinstance(result, Failure):
            raise AdaFocusError(f"{result.message} (what cannot be tagged has no speed; leave it out)")


class PlainWay:
    """The plain path behind a decoder that works while nothing else does."""

    def __init__(self, process: VideoProcess, path: PlainPath, paths: Sequence[str]) -> None:
        self._process, self._path, self._paths = process, path, paths

    def entrant(self, name: str) -> Entrant:
        return Entrant(name, whole(self._run), len(self._paths))

    def _run(self) -> None:
        model = self._path.model
        for path in self._paths:
            video = self._process.open(path)
            plan = model.plan(video.info.frames)
            frames = self._process.frames(video, plan.frames, framing=model.spec.framing)
            self._path.answer(frames.pixels, plan)
