"""Paths → decoding processes → the loop → results, on one machine.

Each decoding thread owns one child process; the caller's thread runs the model. Knows nothing of output formats, and
of the tagger only its loop and its results. Importing it loads neither torch nor a decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adafocus_cli.engine.decoding import Decoding, default_workers
from adafocus_cli.errors import UsageError
from adafocus_cli.schema import Failure, Result, Stage
from adafocus_cli.video.limits import Limits

if TYPE_CHECKING:
    from adafocus_cli.loop import Loop
    from adafocus_cli.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run goes."""

    # Decoding.
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    limits: Limits = field(default_factory=Limits)
    workers: int = field(default_factory=default_workers)

    # Answers.
    top_k: int = 5
    min_score: float = 0.0

    # When a video may be left: a file of thresholds, a cap on its cost.
    exits: str | Path | None = None
    max_gmacs: float | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}; it is how many labels to give at most, 1 or more")


def tag_files(paths: Iterable[str], load: Callable[[], Tagger], options: Options | None = None) -> Iterator[Result]:
    """Results and failures, one a path and in their order.

    Decoding starts at once and `load` is called meanwhile. Closing the iterator ends all child processes.
    """
    options = options or Options()
    with Decoding(decoder=options.decoder, limits=options.limits, workers=options.workers) as decoding:
        decoding.start(paths)
        tagger = load()
        loop = tagger.loop(tagger.exit_rule(options.exits, options.max_gmacs))
        decoding.feed(loop)
        yield from _in_order(_completed(decoding, loop, tagger, options))


def failure_of(path: str, error: Exception, stage: Stage) -> Failure:
    """The record of an error; one that nobody foresaw says at least its kind."""
    message = " ".join(str(error).split()) or f"{type(error).__name__} without a reason; please report it"
    return Failure(path=path, stage=getattr(error, "stage", stage), type=type(error).__name__, message=message)


def _completed(decoding: Decoding, loop: Loop, tagger: Tagger, options: Options) -> Iterator[tuple[int, Result]]:
    """Results as they come, with the places of their paths."""
    room = loop.lanes + options.workers
    while True:
        # The loop always has what it can take, and nobody waits for more than that.
        while len(loop) < room and (opened := decoding.next_opened(wait=not len(loop))) is not None:
            place, path, clip = opened
            if isinstance(clip, Exception):
                yield place, failure_of(path, clip, "decode")
            else:
                loop.add(clip, place)
        if not len(loop):
            return
        if waiting := loop.waiting():
            wait(waiting, timeout=_GLANCE_SECONDS, return_when=FIRST_COMPLETED)
        for run in loop.step():
            path = run.clip.video.path
            try:
                yield run.place, tagger.result(run, top_k=options.top_k, min_score=options.min_score)
            except Exception as error:
                yield run.place, failure_of(path, error, "infer")


# How often, while all clips wait for frames, new ones are let in.
_GLANCE_SECONDS = 0.05


def _in_order(completed: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    early: dict[int, Result] = {}
    upcoming = 0
    for place, result in completed:
        early[place] = result
        while upcoming in early:
            yield early.pop(upcoming)
            upcoming += 1
