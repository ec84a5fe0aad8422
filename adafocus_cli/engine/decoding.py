"""Threads that open and decode videos ahead of the model, each with a child process of its own.

Bounded: only so many videos are open and waiting. Always ended: leaving the context kills every child. Knows the loop
only to ask which frames it wants.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from adafocus_cli.video.clip import Geometry
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import OpenVideo, VideoProcess

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop

logger = logging.getLogger("adafocus")

_T = TypeVar("_T")

Opened = tuple[int, str, "Clip | Exception"]
"""The place of a path in the list, the path, and its clip or what went wrong."""


def default_workers() -> int:
    """Half the processors: the other half is for the model."""
    return max(1, (os.cpu_count() or 2) // 2)


class Decoding:
    def __init__(self, *, decoder: Literal["auto", "pyav", "decord"], limits: Limits, workers: int) -> None:
        self._processes = [VideoProcess(decoder=decoder, limits=limits) for _ in range(max(1, workers))]
        self._idle = deque(self._processes)
        self._threads = ThreadPoolExecutor(len(self._processes), thread_name_prefix="decode")
        self._stopping = threading.Event()
        self._room = threading.Semaphore(2 * len(self._processes))
        self._pending: queue.Queue[tuple[int, str, Future[Clip]] | Exception | None] = queue.Queue()
        self._over = False
        self._broken_off: Exception | None = None
        self._loop: Future[Loop] = Future()

    def __enter__(self) -> Decoding:
        self._processes[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every child, whatever it is doing; a thread that was between two requests may start one more."""
        self._stopping.set()
        self._room.release()  # the thread of the paths may wait for it
        self._loop.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        while any(thread.is_alive() for thread in self._threads._threads):
            self._close_processes()
            time.sleep(0.01)
        self._close_processes()

    def start(self, paths: Iterable[str]) -> None:
        """Begins to read the paths, which may themselves come slowly, and to open the videos."""
        threading.Thread(target=self._feed, args=(paths,), name="paths", daemon=True).start()

    def feed(self, loop: Loop) -> None:
        """Lets the threads go on to decode what this loop looks at first; further ahead if it takes many at once."""
        self._room.release(loop.lanes)
        self._loop.set_result(loop)

    def next_opened(self, *, wait: bool) -> Opened | None:
        """The next video, in the order of the paths; None if there are no more or, without `wait`, none yet.

        If the paths broke off with an error, the last `wait` raises it.
        """
        if self._broken_off and wait:
            raise self._broken_off
        if self._over or not (wait or self._next_is_ready()):
            return None
        item = self._pending.get()
        if not isinstance(item, tuple):
            self._over, self._broken_off = True, item
            return self.next_opened(wait=wait)
        place, path, clip = item
        self._room.release()
        error = clip.exception()
        if error is None:
            return place, path, clip.result()
        if isinstance(error, Exception):
            return place, path, error
        raise error

    def _feed(self, paths: Iterable[str]) -> None:
        try:
            for place, path in enumerate(paths):
                self._room.acquire()
                if self._stopping.is_set():
                    return
                self._pending.put((place, path, self._threads.submit(self._open, path)))
        except Exception as error:  # the paths could not be read to their end; the consumer's thread shall know
            self._pending.put(error)
        self._pending.put(None)

    def _next_is_ready(self) -> bool:
        with self._pending.mutex:
            if not self._pending.queue:
                return False
            item = self._pending.queue[0]
        return not isinstance(item, tuple) or item[2].done()

    def _open(self, path: str) -> Clip:
        """Opens a video, asks the model which frames it wants, and decodes those that it looks at first."""
        return self._with_process(lambda process: self._opened(process, path))

    def _opened(self, process: VideoProcess, path: str) -> Clip:
        video = process.open(path)
        for warning in video.warnings:
            logger.warning("%s", warning)
        loop = self._loop.result()
        # Only now: torch is loaded by then, and a thread that loads it could not be ended meanwhile.
        from adafocus_cli.loop import Clip

        plan, size = loop.plan(video.info.frames), loop.frame_size

        def decode_later(clip: Clip, positions: Sequence[int]) -> Future[None]:
            return self._threads.submit(
                self._with_process, lambda process: _decode(process, video, clip, positions, size)
            )

        to_source = Geometry(video.info.width, video.info.height, size).to_source
        clip = Clip(video.info, plan, to_source, decode_later)
        _decode(process, video, clip, clip.missing(loop.first_frames(plan)), size)
        return clip

    def _with_process(self, action: Callable[[VideoProcess], _T]) -> _T:
        process = self._idle.popleft()
        try:
            return action(process)
        finally:
            self._idle.append(process)

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()


def _decode(process: VideoProcess, video: OpenVideo, clip: Clip, positions: Sequence[int], size: int) -> None:
    """Adds the frames at these positions to a clip."""
    numbers = [clip.plan.frames[position] for position in positions]
    frames = process.frames(video, numbers, size=size)
    for number, pixels, seconds in zip(numbers, frames.pixels, frames.times, strict=True):
        clip.add(number, pixels, seconds)
    clip.decode_seconds += frames.seconds
    clip.damaged_packets |= frames.damaged
    clip.video = replace(
        clip.video,
        decoder=frames.decoder,
        frames_replaced=clip.video.frames_replaced + frames.replaced,
        packets_damaged=len(clip.damaged_packets),
    )
