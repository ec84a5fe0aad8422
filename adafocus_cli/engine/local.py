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
from typing import TYPE_CHECKING, TypeVar

from adafocus_cli.engine.decoding import Decoding
from adafocus_cli.engine.windows import Watch
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, Result, Stage, VideoResult

if TYPE_CHECKING:
    from adafocus_cli.exits import ExitRule
    from adafocus_cli.loop import Loop, Run
    from adafocus_cli.tagger import ClipTagger
    from adafocus_cli.timeline import Part

_T = TypeVar("_T")


def tag_files(
    paths: Iterable[str],
    load: Callable[[], ClipTagger],
    request: TagRequest | None = None,
    *,
    watch: Watch | None = None,
) -> Iterator[Result]:
    """Results and failures, one a path and in their order.

    Decoding starts at once and `load` is called meanwhile. Closing the iterator ends all child processes.
    """
    request = request or TagRequest()
    with Decoding(request, idle_cores=True) as decoding:
        decoding.start(paths)
        tagger = load()
        rule = tagger.exit_rule(request)
        with tagger.runtime.one_by_one(tagger.loop(rule).dearest_turn):
            yield from _in_order(_tagged(decoding, tagger, request, rule, loops=1, watch=watch))


def tag_as_they_come(
    paths: Iterable[str],
    tagger: ClipTagger,
    request: TagRequest,
    *,
    stop: threading.Event | None = None,
    watch: Watch | None = None,
) -> Generator[Result]:
    """Results and failures, one a path, each as soon as it is there; for throughput, not for the first result.

    When `stop` is set, what is in flight is finished and nothing else begun.
    """
    with Decoding(request, stop) as decoding:
        decoding.start(paths)
        rule = tagger.exit_rule(request)
        with (
            tagger.runtime.spread() as loops,
            closing(_tagged(decoding, tagger, request, rule, loops=loops, watch=watch)) as results,
        ):
            for _, result in results:
                yield result


def failure_of(path: str, error: BaseException, stage: Stage) -> Failure:
    """The record of an error; one that nobody foresaw says at least its kind."""
    message = " ".join(str(error).split()) or f"{type(error).__name__} without a reason; please report it"
    return Failure(path=path, stage=getattr(error, "stage", stage), type=type(error).__name__, message=message)


def _tagged(
    decoding: Decoding, tagger: ClipTagger, request: TagRequest, rule: ExitRule, *, loops: int, watch: Watch | None
) -> Generator[tuple[int, Result]]:
    """Results as they come, with the indices of their paths."""
    all_loops = [tagger.loop(rule) for _ in range(loops)]
    decoding.feed(all_loops[0], loops=loops)
    return merge_iterators([_completed(decoding, loop, tagger, request, watch) for loop in all_loops], decoding.close)


def _completed(
    decoding: Decoding, loop: Loop, tagger: ClipTagger, request: TagRequest, watch: Watch | None
) -> Iterator[tuple[int, Result]]:
    def join(parts: list[Part]) -> VideoResult:
        from adafocus_cli.timeline import joined

        min_score = tagger.min_score(request.min_score)
        return joined(parts, labels=tagger.labels, top_k=request.top_k, min_score=min_score)

    while True:
        yield from _added(decoding, loop, request.workers)
        if decoding.is_closed or not len(loop):
            return
        if waiting := loop.waiting():
            wait(waiting, timeout=_GLANCE_SECONDS, return_when=FIRST_COMPLETED)
        for run in loop.step():
            video = run.key
            if decoding.retry_with_other_decoder(video, run.error):
                continue
            if result := video.results.add(run.clip, _result(run, tagger, request), join=join, watch=watch):
                decoding.finish(video)
                yield video.index, result


def _added(decoding: Decoding, loop: Loop, spare: int) -> Iterator[tuple[int, Result]]:
    """Adds clips until the loop has what it can take; nobody waits for more than that. Failures to open are yielded."""
    while len(loop) < loop.lanes + spare and (opened := decoding.next_opened(wait=not len(loop))):
        video, clip = opened.video, opened.clip
        if isinstance(clip, BaseException):
            if failure := video.results.fail(failure_of(video.path, clip, "decode")):
                yield video.index, failure
        elif not video.results.failed:
            loop.add(clip, video)


def _result(run: Run, tagger: ClipTagger, request: TagRequest) -> Result:
    try:
        return tagger.result(run, top_k=request.top_k, min_score=request.min_score)
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
