"""Paths → decoding processes → batches → results, on one machine.

Each decoding thread owns one child process; the caller's thread runs the model. Knows nothing of output formats, and
of the tagger only that it plans frames and tags clips. Importing it loads neither torch nor a decoder.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from adafocus_cli.schema import Failure, Result, Stage, VideoResult
from adafocus_cli.video.clip import Geometry
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import VideoProcess

if TYPE_CHECKING:
    from adafocus_cli.tagger import Clip, Tagger


logger = logging.getLogger("adafocus")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run goes."""

    # Decoding.
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    limits: Limits = field(default_factory=Limits)
    workers: int = max(1, (os.cpu_count() or 2) // 2)

    # Answers.
    top_k: int = 5
    min_score: float = 0.0


def tag_files(
    paths: Iterable[str], load: Callable[[], Tagger], options: Options | None = None
) -> Iterator[VideoResult | Failure]:
    """Results and failures, one a path and in their order.

    Decoding starts at once and `load` is called meanwhile. Closing the iterator ends all child processes.
    """
    options = options or Options()
    with _Decoding(options) as decoding:
        decoding.start(paths)
        tagger = load()
        decoding.tagger_is(tagger)
        for batch in decoding.batches():
            yield from _tag(tagger, batch, options)


def tag_one(tagger: Tagger, path: str, *, top_k: int, min_score: float) -> VideoResult:
    """The result for one file, or its `VideoError`."""
    with VideoProcess() as process:
        clip = _read(process, path, lambda: tagger)
    return tagger.tag([clip], top_k=top_k, min_score=min_score)[0]


def _tag(tagger: Tagger, batch: Sequence[Clip | Failure], options: Options) -> Iterator[Result]:
    """A batch's results in its order; if the tagger fails on the whole of it, it is tried clip by clip."""
    clips = [item for item in batch if not isinstance(item, Failure)]
    try:
        results: Iterator[Result] = iter(tagger.tag(clips, top_k=options.top_k, min_score=options.min_score))
    except Exception as error:
        if len(clips) > 1:
            for item in batch:
                yield from _tag(tagger, [item], options)
            return
        results = iter([failure_of(clip.video.path, error, "infer") for clip in clips])
    for item in batch:
        yield item if isinstance(item, Failure) else next(results)


def _read(process: VideoProcess, path: str, tagger: Callable[[], Tagger]) -> Clip:
    """Opens a video, asks the model which frames it wants, and decodes each of them once."""
    from adafocus_cli.tagger import Clip

    video = process.open(path)
    for warning in video.warnings:
        logger.warning("%s", warning)
    model = tagger()
    plan = model.family.plan(video.info.frames)
    distinct = sorted(set(plan.frames))
    frames = process.frames(video, distinct, size=model.spec.frame_size)
    position = {frame: i for i, frame in enumerate(distinct)}
    order = [position[frame] for frame in plan.frames]
    info = replace(video.info, decoder=frames.decoder, frames_replaced=frames.replaced, packets_damaged=frames.damaged)
    return Clip(
        info,
        plan,
        frames.pixels[order],
        times=tuple(frames.times[i] for i in order),
        to_source=Geometry(info.width, info.height, model.spec.frame_size).to_source,
        decode_seconds=frames.seconds,
    )


def failure_of(path: str, error: Exception, stage: Stage) -> Failure:
    """The record of an error; one that nobody foresaw says at least its kind."""
    message = " ".join(str(error).split()) or f"{type(error).__name__} without a reason; please report it"
    return Failure(path=path, stage=getattr(error, "stage", stage), type=type(error).__name__, message=message)


class _Decoding:
    """Threads that decode ahead of the tagger, each with its own child process; bounded, in order, always ended."""

    def __init__(self, options: Options) -> None:
        self._processes = [
            VideoProcess(decoder=options.decoder, limits=options.limits) for _ in range(max(1, options.workers))
        ]
        self._idle = deque(self._processes)
        self._threads = ThreadPoolExecutor(len(self._processes), thread_name_prefix="decode")
        self._stopping = threading.Event()
        self._room = threading.Semaphore(2 * len(self._processes))
        self._batch_size = 1
        self._pending: queue.Queue[Future[Clip | Failure] | Exception | None] = queue.Queue()
        self._tagger: Future[Tagger] = Future()

    def __enter__(self) -> _Decoding:
        self._processes[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every child, whatever it is doing; a thread that was between two requests may start one more."""
        self._stopping.set()
        self._tagger.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        while any(thread.is_alive() for thread in self._threads._threads):
            self._close_processes()
            time.sleep(0.01)
        self._close_processes()

    def start(self, paths: Iterable[str]) -> None:
        """Begins to read the paths, which may themselves come slowly, and to open the videos."""
        threading.Thread(target=self._feed, args=(paths,), name="paths", daemon=True).start()

    def tagger_is(self, tagger: Tagger) -> None:
        """Lets the threads go on from opening videos to decoding the frames that this tagger wants."""
        self._batch_size = tagger.runtime.lanes
        self._room.release(self._batch_size)
        self._tagger.set_result(tagger)

    def batches(self) -> Iterator[list[Clip | Failure]]:
        """What is ready, in the order of the paths; never waits to fill a batch up."""
        while (first := self._pending.get()) is not None:
            batch = [self._take(first)]
            while len(batch) < self._batch_size and self._next_is_ready():
                batch.append(self._take(self._pending.get()))
            yield batch

    def _feed(self, paths: Iterable[str]) -> None:
        try:
            for path in paths:
                self._room.acquire()
                if self._stopping.is_set():
                    return
                self._pending.put(self._threads.submit(self._read, path))
        except Exception as error:  # the paths could not be read to their end; the consumer's thread shall know
            self._pending.put(error)
        self._pending.put(None)

    def _next_is_ready(self) -> bool:
        with self._pending.mutex:
            upcoming = self._pending.queue[0] if self._pending.queue else None
        return isinstance(upcoming, Future) and upcoming.done()

    def _take(self, item: Future[Clip | Failure] | Exception | None) -> Clip | Failure:
        if not isinstance(item, Future):
            raise item or AssertionError("nothing to take")
        self._room.release()
        return item.result()

    def _read(self, path: str) -> Clip | Failure:
        process = self._idle.popleft()
        try:
            return _read(process, path, self._tagger.result)
        except Exception as error:
            return failure_of(path, error, "decode")
        finally:
            self._idle.append(process)

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()
