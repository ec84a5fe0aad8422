"""Paths → decoding processes → the loop → results, on one machine.

Each decoding thread owns one child process. The caller's thread runs the model, or several threads do, each with a loop
of its own. Knows nothing of output formats, and of the tagger only its loop and its results. Importing it loads neither
torch nor a decoder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adafocus_cli.engine.decoding import Decoding, default_workers
from adafocus_cli.engine.threads import merged
from adafocus_cli.engine.videos import Videos, Watch
from adafocus_cli.errors import UsageError
from adafocus_cli.schema import Failure, Result, Stage
from adafocus_cli.video.decode import DECODES, Decode, Decoder
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.windows import Windowing

if TYPE_CHECKING:
    from adafocus_cli.exits import ExitRule
    from adafocus_cli.loop import Loop, Run
    from adafocus_cli.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run goes."""

    # Decoding.
    decoder: Decoder = "auto"
    decode: Decode = "exact"
    limits: Limits = field(default_factory=Limits)
    workers: int = field(default_factory=default_workers)

    # Answers.
    top_k: int = 5
    min_score: float = 0.0

    # When a video may be left: a file of thresholds, a cap on its cost.
    exits: str | Path | None = None
    max_gmacs: float | None = None

    # Windows that are tagged as clips of their own.
    windows: Windowing | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}; it is how many labels to give at most, 1 or more")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min_score is {self.min_score:g}; it is the lowest score of a label to give, 0 to 1")
        if self.decode not in DECODES:
            raise UsageError(f"decode is {self.decode!r}; it is {' or '.join(DECODES)}")
        if self.decode == "fast" and self.windows is not None:
            raise UsageError("--decode fast is not for windows, which are decoded in one pass; leave out one of both")


def tag_files(
    paths: Iterable[str], load: Callable[[], Tagger], options: Options | None = None, *, watch: Watch | None = None
) -> Iterator[Result]:
    """Results and failures, one a path and in their order.

    Decoding starts at once and `load` is called meanwhile. Closing the iterator ends all child processes.
    """
    options = options or Options()
    with _decoding(options) as decoding:
        decoding.start(paths)
        tagger = load()
        rule = tagger.exit_rule(options.exits, options.max_gmacs)
        yield from _in_order(_tagged(decoding, tagger, options, rule, loops=1, watch=watch))


def tag_as_they_come(
    paths: Iterable[str],
    tagger: Tagger,
    options: Options,
    *,
    stop: threading.Event | None = None,
    rule: ExitRule | None = None,
    watch: Watch | None = None,
) -> Generator[Result]:
    """Results and failures, one a path, each as soon as it is there; for throughput, not for the first result.

    When `stop` is set, what is in flight is finished and nothing else begun. A rule that is there already takes the
    place of what the options say of exits.
    """
    with _decoding(options, stop) as decoding:
        decoding.start(paths)
        rule = rule or tagger.exit_rule(options.exits, options.max_gmacs)
        loops = tagger.runtime.spread()
        with closing(_tagged(decoding, tagger, options, rule, loops=loops, watch=watch)) as results:
            for _, result in results:
                yield result


def failure_of(path: str, error: BaseException, stage: Stage) -> Failure:
    """The record of an error; one that nobody foresaw says at least its kind."""
    message = " ".join(str(error).split()) or f"{type(error).__name__} without a reason; please report it"
    return Failure(path=path, stage=getattr(error, "stage", stage), type=type(error).__name__, message=message)


def _decoding(options: Options, stop: threading.Event | None = None) -> Decoding:
    return Decoding(
        decoder=options.decoder,
        decode=options.decode,
        limits=options.limits,
        workers=options.workers,
        windows=options.windows,
        stop=stop,
    )


def _tagged(
    decoding: Decoding, tagger: Tagger, options: Options, rule: ExitRule, *, loops: int, watch: Watch | None
) -> Generator[tuple[int, Result]]:
    """Results as they come, with the places of their paths."""
    all_loops = [tagger.loop(rule) for _ in range(loops)]
    decoding.feed(all_loops[0], loops=loops)
    videos = Videos(tagger.labels, top_k=options.top_k, min_score=options.min_score, watch=watch)
    return merged([_completed(decoding, loop, tagger, options, videos) for loop in all_loops])


def _completed(
    decoding: Decoding, loop: Loop, tagger: Tagger, options: Options, videos: Videos
) -> Iterator[tuple[int, Result]]:
    while True:
        # The loop always has what it can take, and nobody waits for more than that.
        while len(loop) < loop.lanes + options.workers and (opened := decoding.next_opened(wait=not len(loop))):
            place, path, clip, _ = opened
            if not isinstance(clip, BaseException):
                if not videos.has_failed(place):
                    loop.add(clip, place)
            elif failure := videos.fail(place, failure_of(path, clip, "decode")):
                yield place, failure
        if not len(loop):
            return
        if waiting := loop.waiting():
            wait(waiting, timeout=_GLANCE_SECONDS, return_when=FIRST_COMPLETED)
        for run in loop.step():
            path = run.clip.video.path
            if decoding.again(run.place, path, run.error):
                continue
            if result := videos.add(run, _result(run, tagger, options)):
                decoding.done(run.place)
                yield run.place, result


def _result(run: Run, tagger: Tagger, options: Options) -> Result:
    try:
        return tagger.result(run, top_k=options.top_k, min_score=options.min_score)
    except Exception as error:
        return failure_of(run.clip.video.path, error, "infer")


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
