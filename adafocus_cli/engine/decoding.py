"""Threads that open and decode videos ahead of the model, each with a child process of its own.

Bounded: only so many videos, or windows of them, are open and waiting. Always ended: leaving the context kills every
child. A decoder that was lost on a video has the other one take its place, once. Knows the loop only to ask which
frames it wants.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from adafocus_cli.engine.passes import by_keyframes, clips_of, decode
from adafocus_cli.errors import VideoError
from adafocus_cli.video.decode import Decode, Decoder, other_decoder
from adafocus_cli.video.limits import DecoderError, Limits, shown
from adafocus_cli.video.pool import ProcessPool
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.remote import Copies
from adafocus_cli.video.windows import Window, Windowing

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop

logger = logging.getLogger("adafocus")


class Opened(NamedTuple):
    """The place of a path in the list, the path, its clip or what went wrong, and whether that is all of it."""

    place: int
    path: str
    clip: Clip | BaseException
    last: bool = True


@dataclass
class _Cut:
    """A video that goes window by window, and how many of them have been given out."""

    windows: list[Window]
    given: int = 0


# How often one who waits for a video looks whether there are any more.
_GLANCE_SECONDS = 0.05


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 2


def default_workers() -> int:
    """Half the processors: the other half is for the model."""
    return max(1, cores() // 2)


class Decoding:
    """Videos on their way to a loop, or to several in threads of their own.

    When `stop` is set no more paths are taken, and those that nobody has begun to open are dropped.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        decode: Decode = "exact",
        limits: Limits,
        workers: int,
        windows: Windowing | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._decoder, self._decode = decoder, decode
        self._windows = windows
        self._cuts: dict[int, _Cut] = {}
        self._pool = ProcessPool(workers, name="decode", decoder=decoder, limits=limits)
        self._closing = threading.Event()
        self._copies = Copies(limits, self._closing)
        self._stop = stop or threading.Event()
        self._room = threading.Semaphore(2 * len(self._pool))
        self._room_for_windows = threading.Semaphore(len(self._pool))
        # Not a SimpleQueue: when a signal comes as a wait of one ends, Python waits for ever.
        self._opened: queue.Queue[Opened] = queue.Queue()
        self._count = threading.Lock()
        self._jobs: set[Future[Clip]] = set()
        self._due = 0  # how many will yet be given out, of those submitted
        self._all_in = False
        self._broken_off: Exception | None = None
        self._second_try: set[int] = set()
        self._loop: Future[Loop] = Future()

    def __enter__(self) -> Decoding:
        self._pool.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every child, whatever it is doing."""
        self._closing.set()
        self._room.release()  # the thread of the paths may wait for it
        self._loop.cancel()
        self._pool.close()
        self._copies.close()

    def start(self, paths: Iterable[str]) -> None:
        """Begins to read the paths, which may themselves come slowly, and to open the videos."""
        threading.Thread(target=self._feed, args=(paths,), name="paths", daemon=True).start()

    def feed(self, loop: Loop, *, loops: int = 1) -> None:
        """Lets the threads go on to decode what such loops look at first; further ahead if they take many at once."""
        self._room.release(loop.lanes * loops)
        self._room_for_windows.release(loop.lanes * loops)
        self._loop.set_result(loop)

    def next_opened(self, *, wait: bool) -> Opened | None:
        """The next video that is ready; None if there are no more or, without `wait`, none yet.

        If the paths broke off with an error, the last `wait` raises it.
        """
        while not self._is_over():
            try:
                opened = self._opened.get(block=wait, timeout=_GLANCE_SECONDS if wait else None)
            except queue.Empty:
                if wait:
                    continue
                return None
            if opened.last:
                self._no_longer_due()
            else:
                self._room_for_windows.release()
            return opened
        if self._broken_off and wait:
            raise self._broken_off
        return None

    def again(self, place: int, path: str, error: Exception | None) -> bool:
        """Whether this video, whose decoder was lost after its first frames, starts anew with the other one."""
        if not isinstance(error, DecoderError) or place in self._second_try or not other_decoder(self._decoder):
            return False
        self._room.acquire(blocking=False)  # given back when it is taken
        return self._submit(place, path, error)

    def done(self, place: int) -> None:
        """Nobody asks for frames of this video any more."""
        self._cuts.pop(place, None)
        self._copies.drop(place)

    def _is_over(self) -> bool:
        if self._stop.is_set():
            for job in list(self._jobs):
                job.cancel()
        with self._count:
            return self._closing.is_set() or (not self._due and (self._all_in or self._stop.is_set()))

    def _no_longer_due(self) -> None:
        with self._count:
            self._due -= 1
        self._room.release()

    def _feed(self, paths: Iterable[str]) -> None:
        try:
            for place, path in enumerate(paths):
                while not self._room.acquire(timeout=_GLANCE_SECONDS):
                    if self._stop.is_set():
                        return
                if not self._submit(place, path):
                    return
        except Exception as error:  # the paths could not be read to their end; the consumer's thread shall know
            self._broken_off = error
        finally:
            self._all_in = True

    def _submit(self, place: int, path: str, lost: DecoderError | None = None) -> bool:
        """Has a video opened by the next free process; False if that is no longer wanted."""

        def done(job: Future[Clip]) -> None:
            self._jobs.discard(job)
            if job.cancelled():
                self._no_longer_due()
            else:
                self._opened.put(Opened(place, path, job.exception() or job.result()))

        with self._count:
            if self._closing.is_set() or (self._stop.is_set() and lost is None):
                return False
            self._due += 1
            job = self._pool.submit(self._open, place, path, lost)
            self._jobs.add(job)
        job.add_done_callback(done)
        return True

    def _open(self, place: int, path: str, lost: DecoderError | None) -> Clip:
        """Opens a video, asks the model which frames it wants, and decodes those that it looks at first.

        Of a video in windows, all clips but the last are given out on the way.
        """
        try:
            clip = self._tried(place, path, self._copies.of(place, path), lost)
        except BaseException:
            self.done(place)
            raise
        if not clip.missing(range(len(clip.plan.frames))):
            self.done(place)
        return clip

    def _tried(self, place: int, path: str, copy: str | None, lost: DecoderError | None) -> Clip:
        def opened(by: Decoder) -> Clip:
            return self._pool.with_process(lambda process: self._opened_by(process, place, path, copy, by))

        other = other_decoder(self._decoder)
        if lost is None:
            try:
                return opened(self._decoder)
            except DecoderError as error:
                if other is None:
                    raise
                lost = error
        assert other is not None
        self._second_try.add(place)
        try:
            return opened(other)
        except VideoError:
            raise DecoderError(f"{lost} ({other} failed on it as well)", stage=lost.stage) from None

    def _opened_by(self, process: VideoProcess, place: int, path: str, copy: str | None, decoder: Decoder) -> Clip:
        video = process.open(path, decoder=decoder, copy=copy)
        for warning in video.warnings:
            logger.warning("%s", warning)
        loop = self._loop.result()
        # Only now: torch is loaded by then, and a thread that loads it could not be ended meanwhile.
        from adafocus_cli.loop import Clip

        window = None
        if self._windows is not None:
            if place not in self._cuts:
                self._cuts[place] = _Cut(self._windows.cut(process.times(video), path))
            cut = self._cuts[place]
            if len(cut.windows) > 1:
                return self._given_out(place, path, cut, clips_of(process, video, cut.windows[cut.given :], loop))
            (window,) = cut.windows

        info, plan, framing = video.info, loop.plan(video.info.frames), loop.framing
        if self._decode == "fast":
            info, plan = by_keyframes(info, plan, process.keyframes(video, plan.frames))

        def decode_later(clip: Clip, positions: Sequence[int]) -> Future[None]:
            return self._pool.submit(
                self._pool.with_process, lambda process: decode(process, video, clip, positions, framing)
            )

        to_source = framing.geometry(info.width, info.height).to_source
        clip = Clip(info, plan, to_source, decode_later, window)
        decode(process, video, clip, clip.missing(loop.first_frames(plan)), framing)
        return clip

    def _given_out(self, place: int, path: str, cut: _Cut, clips: Iterator[Clip]) -> Clip:
        """The last of these clips; those before it are given out, no faster than they are taken."""
        clip = next(clips)
        for following in clips:
            while not self._room_for_windows.acquire(timeout=_GLANCE_SECONDS):
                if self._closing.is_set():
                    break
            if self._closing.is_set() or place not in self._cuts:
                raise VideoError(f"{shown(path)}: its other windows are no longer wanted", stage="decode")
            self._opened.put(Opened(place, path, clip, last=False))
            cut.given += 1
            clip = following
        return clip
