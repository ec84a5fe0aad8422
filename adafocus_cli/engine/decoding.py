"""Videos on their way from a path to a loop: opened and decoded ahead of it, and asked for more frames when it looks.

A video stays with the child that opened it. Bounded: only so many videos, or windows of them, are open and waiting. A
decoder that was lost on a video has the other one take its place, once. Closing ends every child and wakes every
thread that waits here.

| thread | what is its own |
| --- | --- |
| "paths" | the paths; it makes a `VideoInFlight` of each, as long as there is room |
| "decode", one for each child | its child; of a video, while it opens it: `process`, `copy`, `windows`, `lost` |
| "fetch" | a copy of a video on other storage, until it is whole |
| one for each loop | the clips that it took; of a video, once it is opened: `results`, `lost`, `is_over` |

What is ready and how many are due is shared, under one lock. Knows the loop only to ask which frames it wants.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from adafocus_cli.engine.windows import WindowResults, by_keyframes, clips_of, decode
from adafocus_cli.errors import VideoError, printable
from adafocus_cli.requests import TagRequest, cores
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video import Decoder, other_decoder
from adafocus_cli.video.limits import DecoderError
from adafocus_cli.video.process import ProcessPool, VideoProcess
from adafocus_cli.video.remote import Copies, is_remote
from adafocus_cli.video.sampling import LookRequest
from adafocus_cli.video.windows import Window, Windowing

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop

logger = logging.getLogger("adafocus")


@dataclass(eq=False)
class VideoInFlight:
    """A video from its path to its result; `index` is that of the path in the list."""

    index: int
    path: str
    process: VideoProcess | None = None
    """Whose child has it open, and is asked for all that is looked at."""
    copy: Path | None = None
    """Stands in for a path on other storage."""
    windows: deque[Window] | None = None
    """Those that have not been given out; None until it is known whether there are any."""
    lost: DecoderError | None = None
    """What the first decoder was lost of; then it is the turn of the other one."""
    results: WindowResults = field(default_factory=WindowResults)
    is_over: bool = False
    """Nobody asks for its frames any more."""


class Opened(NamedTuple):
    """A video, a clip of it or what went wrong, and whether that is the last of it."""

    video: VideoInFlight
    clip: Clip | BaseException
    last: bool = True


# That decode one video: each holds a frame back, and those that are held back when a look is at hand were for nothing.
MOST_THREADS = 4
# How often one who waits looks whether he was told to stop: an event that a signal sets wakes nobody.
_GLANCE_SECONDS = 0.05


class Decoding:
    """Videos on their way to a loop, or to several in threads of their own.

    When `stop` is set no more paths are taken, and those that nobody has begun to open are dropped. With `idle_cores`,
    those that no other video needs decode the same one; a batch keeps all of them busy.
    """

    def __init__(self, request: TagRequest, stop: threading.Event | None = None, *, idle_cores: bool = False) -> None:
        self._request = request
        self._idle_cores = idle_cores
        self._stop = stop or threading.Event()
        self._closing = threading.Event()
        self._pool = ProcessPool(request.workers, name="decode", decoder=request.decoder, limits=request.limits)
        self._fetching = ThreadPoolExecutor(len(self._pool), thread_name_prefix="fetch")
        self._copies = Copies(request.limits, self._closing)
        self._loop: Future[Loop] = Future()

        lock = threading.RLock()  # of all that follows
        self._ready_changed = threading.Condition(lock)
        self._room_changed = threading.Condition(lock)
        self._ready: deque[Opened] = deque()
        self._windows_ready = 0
        self._due = 0  # videos that were begun, and whose last clip has not been taken
        self._room, self._room_for_windows = 2 * len(self._pool), len(self._pool)
        self._all_in = False
        self._broken_off: Exception | None = None

    def __enter__(self) -> Decoding:
        self._pool.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_closed(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        """Wakes all who wait for videos, and ends every child, whatever it is doing."""
        self._closing.set()
        with self._ready_changed:
            self._ready_changed.notify_all()
            self._room_changed.notify_all()
        self._loop.cancel()
        self._pool.close()
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._copies.close()

    def start(self, paths: Iterable[str]) -> None:
        """Begins to read the paths, which may themselves come slowly, and to open the videos."""
        threading.Thread(target=self._read_paths, args=(paths,), name="paths", daemon=True).start()

    def feed(self, loop: Loop, *, loops: int = 1) -> None:
        """Lets the threads go on to decode what such loops look at first; further ahead if they take many at once."""
        with self._room_changed:
            self._room += loop.lanes * loops
            self._room_for_windows += loop.lanes * loops
            self._room_changed.notify_all()
        self._loop.set_result(loop)
        self._pool.wake()

    def next_opened(self, *, wait: bool) -> Opened | None:
        """The next video that is ready; None if there are no more or, without `wait`, none yet.

        If the paths broke off with an error, the last `wait` raises it.
        """
        with self._ready_changed:
            while not self._is_over():
                if self._ready:
                    return self._take_ready()
                if not wait:
                    return None
                self._ready_changed.wait(_GLANCE_SECONDS)
        if self._broken_off and wait:
            raise self._broken_off
        return None

    def retry_with_other_decoder(self, video: VideoInFlight, error: Exception | None) -> bool:
        """Whether a video, whose decoder was lost after its first frames, starts anew with the other one.

        Not one in windows, of which some may be over.
        """
        if not isinstance(error, DecoderError) or video.lost or not other_decoder(self._request.decoder):
            return False
        if video.windows is not None and video.windows[0].of > 1:
            return False
        video.lost = error
        return self._begin(video)

    def finish(self, video: VideoInFlight) -> None:
        """Nobody asks for frames of this video any more."""
        video.is_over = True
        if video.copy is not None:
            self._copies.drop(video.copy)
        self._pool.wake()

    # All that is ready, and how many are due.

    def _is_over(self) -> bool:
        return self.is_closed or (not self._due and (self._all_in or self._stop.is_set()))

    def _take_ready(self) -> Opened:
        opened = self._ready.popleft()
        if opened.last:
            self._no_longer_due()
        else:
            self._windows_ready -= 1
            self._pool.wake()
        return opened

    def _no_longer_due(self) -> None:
        with self._room_changed:
            self._due -= 1
            self._room_changed.notify_all()
            if not self._due:
                self._ready_changed.notify_all()

    def _give(self, opened: Opened) -> None:
        with self._ready_changed:
            self._ready.append(opened)
            self._windows_ready += not opened.last
            self._ready_changed.notify()

    # The thread of the paths.

    def _read_paths(self, paths: Iterable[str]) -> None:
        try:
            for index, path in enumerate(paths):
                if not self._wait_for_room() or not self._begin(VideoInFlight(index, path)):
                    return
        except Exception as error:  # the paths could not be read to their end; the consumer's thread shall know
            self._broken_off = error
        finally:
            with self._ready_changed:
                self._all_in = True
                self._ready_changed.notify_all()

    def _wait_for_room(self) -> bool:
        """False if no more paths are wanted."""
        with self._room_changed:
            while self._due >= self._room and not (self._stop.is_set() or self.is_closed):
                self._room_changed.wait(_GLANCE_SECONDS)
        return not (self._stop.is_set() or self.is_closed)

    def _begin(self, video: VideoInFlight) -> bool:
        """Has a video opened by the child that is free first; False if that is no longer wanted."""
        with self._ready_changed:
            if self.is_closed:
                return False
            self._due += 1
        self._pool.submit(partial(self._open, video))
        return True

    # The threads of the children.

    def _open(self, video: VideoInFlight, process: VideoProcess) -> None:
        """Opens a video, asks the model which frames it wants, and gives out a clip with those that it looks at first.

        Of a video in windows, all clips but the last are given out on the way.
        """
        if self._stop.is_set() and video.lost is None:
            self._no_longer_due()
            return
        try:
            video.process = process
            if is_remote(video.path) and video.copy is None:
                video.copy = self._fetched(video.path, process)
            clip = self._by_either_decoder(video, process)
        except BaseException as error:
            self.finish(video)
            self._give(Opened(video, error))
            return
        if not clip.missing(range(len(clip.plan.frames))) and not self._loop.result().looks_at_source:
            self.finish(video)
        self._give(Opened(video, clip))

    def _fetched(self, path: str, process: VideoProcess) -> Path:
        """A copy; while it comes, other videos of this child are looked at."""
        copy = self._fetching.submit(self._copies.fetch, path)
        copy.add_done_callback(lambda _: self._pool.wake())
        self._pool.work_until(process, copy.done)
        return copy.result()

    def _by_either_decoder(self, video: VideoInFlight, process: VideoProcess) -> Clip:
        other = other_decoder(self._request.decoder)
        if video.lost is None:
            try:
                return self._last_clip(video, process, self._request.decoder)
            except DecoderError as error:
                if other is None or self.is_closed:
                    raise
                video.lost = error
        assert other is not None
        try:
            return self._last_clip(video, process, other)
        except VideoError:
            text = f"{video.lost} ({other} failed on it as well)"
            raise DecoderError(text, stage=video.lost.stage) from None

    def _last_clip(self, video: VideoInFlight, process: VideoProcess, decoder: Decoder) -> Clip:
        copy = str(video.copy) if video.copy else None
        opened = process.open(video.path, decoder=decoder, copy=copy, threads=self._threads_for_one())
        for warning in opened.warnings:
            logger.warning("%s", warning)
        loop = self._loop.result()
        # Only now: torch is loaded by then, and a thread that loads it could not be ended meanwhile.
        from adafocus_cli.loop import Clip

        def decode_later(clip: Clip, request: LookRequest) -> Future[None]:
            return self._pool.submit(lambda process: decode(process, opened, clip, request, loop), process)

        window = None
        windows = self._request.windows or self._usual_windows(opened.info, loop)
        if windows is not None:
            if video.windows is None:
                video.windows = deque(windows.cut(process.times(opened), video.path))
            window = video.windows[0]
            if window.of > 1:
                return self._after_windows(
                    video, video.windows, clips_of(process, opened, [*video.windows], loop, decode_later)
                )

        info, plan, framing = opened.info, loop.plan(opened.info.frames), loop.framing
        if self._request.decode == "fast":
            info, plan = by_keyframes(info, plan, process.keyframes(opened, plan.frames))

        to_source = framing.geometry(info.width, info.height).to_source
        clip = Clip(info, plan, to_source, decode_later, window)
        decode(process, opened, clip, clip.request(loop.first_frames(plan), framing.size), loop)
        return clip

    def _threads_for_one(self) -> int:
        """Which change no frame."""
        at_once = min(len(self._pool), max(1, self._due))
        return min(MOST_THREADS, max(1, cores() // at_once)) if self._idle_cores else 1

    def _usual_windows(self, info: VideoInfo, loop: Loop) -> Windowing | None:
        """What a model asks for where a video is too long for it to be one clip."""
        seconds = loop.window_seconds
        if seconds is None or self._request.decode == "fast" or info.duration is None or info.duration <= 1.5 * seconds:
            return None
        return Windowing(seconds, seconds)

    def _after_windows(self, video: VideoInFlight, windows: deque[Window], clips: Iterator[Clip]) -> Clip:
        """The last of these clips; those before it are given out, no faster than they are taken."""
        assert video.process is not None
        clip = next(clips)
        for following in clips:
            self._pool.work_until(video.process, lambda: video.is_over or self._windows_ready < self._room_for_windows)
            if self.is_closed or video.is_over:
                raise VideoError(f"{printable(video.path)}: its other windows are no longer wanted", stage="decode")
            self._give(Opened(video, clip, last=False))
            windows.popleft()
            clip = following
        return clip
