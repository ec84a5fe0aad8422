"""Paths → decoding processes → the loop → results, on one machine.

Each decoding thread owns one child process. The caller's thread runs the model, or several threads do, each with a loop
of its own. Knows nothing of output formats, and of the tagger only its loop and its results. Importing it loads neither
torch nor a decoder.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from adafocus_cli.engine.decoding import Decoding, default_workers
from adafocus_cli.engine.windows import Watch
from adafocus_cli.errors import UsageError
from adafocus_cli.schema import Failure, Result, Stage
from adafocus_cli.video.decode import DECODES, Decode, Decoder
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.windows import Windowing

if TYPE_CHECKING:
    from adafocus_cli.exits import ExitRule
    from adafocus_cli.loop import Loop, Run
    from adafocus_cli.tagger import Tagger

_T = TypeVar("_T")


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
        with (
            tagger.runtime.spread() as loops,
            closing(_tagged(decoding, tagger, options, rule, loops=loops, watch=watch)) as results,
        ):
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
    """Results as they come, with the indices of their paths."""
    all_loops = [tagger.loop(rule) for _ in range(loops)]
    decoding.feed(all_loops[0], loops=loops)
    return merge_iterators([_completed(decoding, loop, tagger, options, watch) for loop in all_loops], decoding.close)


def _completed(
    decoding: Decoding, loop: Loop, tagger: Tagger, options: Options, watch: Watch | None
) -> Iterator[tuple[int, Result]]:
    from adafocus_cli.timeline import joined

    join = partial(joined, labels=tagger.labels, top_k=options.top_k, min_score=options.min_score)
    while True:
        # The loop always has what it can take, and nobody waits for more than that.
        while len(loop) < loop.lanes + options.workers and (opened := decoding.next_opened(wait=not len(loop))):
            video, clip = opened.video, opened.clip
            if not isinstance(clip, BaseException):
                if not video.results.failed:
                    loop.add(clip, video)
            elif failure := video.results.fail(failure_of(video.path, clip, "decode")):
                yield video.index, failure
        if decoding.is_closed or not len(loop):
            return
        if waiting := loop.waiting():
            wait(waiting, timeout=_GLANCE_SECONDS, return_when=FIRST_COMPLETED)
        for run in loop.step():
            video = run.key
            if decoding.retry_with_other_decoder(video, run.error):
                continue
            if result := video.results.add(run.clip, _result(run, tagger, options), join=join, watch=watch):
                decoding.finish(video)
                yield video.index, result


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
    for index, result in completed:
        early[index] = result
        while upcoming in early:
            yield early.pop(upcoming)
            upcoming += 1


class _End:
    """An iterator's last word."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def merge_iterators(sources: Sequence[Iterator[_T]], wake: Callable[[], None]) -> Generator[_T]:
    """What they yield, as it comes, each in a thread of its own; a lone one stays in the caller's thread.

    An error of one is raised when the others are through. Closing the iterator calls `wake`, which ends what a source
    may be waiting for, and returns when each has yielded or ended.
    """
    if len(sources) == 1:
        yield from sources[0]
        return
    items: queue.Queue[_T | _End] = queue.Queue(maxsize=len(sources))
    closing = threading.Event()
    threads = [threading.Thread(target=_run, args=(source, items, closing), name="model") for source in sources]
    for thread in threads:
        thread.start()
    try:
        yield from _until_all_end(items, len(sources))
    finally:
        closing.set()
        if any(thread.is_alive() for thread in threads):
            wake()
        while any(thread.is_alive() for thread in threads):
            _drain(items)
            threads[0].join(0.01)


def _run(source: Iterator[_T], items: queue.Queue[_T | _End], closing: threading.Event) -> None:
    end = _End(None)
    try:
        for item in source:
            items.put(item)
            if closing.is_set():
                break
    except BaseException as error:
        end.error = error
    items.put(end)


def _until_all_end(items: queue.Queue[_T | _End], count: int) -> Iterator[_T]:
    errors: list[BaseException] = []
    while count:
        item = items.get()
        if not isinstance(item, _End):
            yield item
            continue
        count -= 1
        if item.error is not None:
            errors.append(item.error)
    if errors:
        raise errors[0]


def _drain(items: queue.Queue[_T | _End]) -> None:
    while True:
        try:
            items.get_nowait()
        except queue.Empty:
            return
