"""A stream → the child that reads it → the loop → a result for each window, as it passes.

One thread: it takes a window when the loop has answered the one before, and what passes meanwhile waits, or is left
out, in the child. A stream that breaks off is tried again with growing pauses. Knows nothing of output formats.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from adafocus_cli.engine.local import failure_of
from adafocus_cli.errors import AdaFocusError, VideoError, printable
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, LiveSpan, VideoInfo, VideoResult
from adafocus_cli.video.live import LiveProcess, LiveSource, PassedWindow, StreamInfo, StreamOver
from adafocus_cli.video.sampling import LookRequest
from adafocus_cli.video.windows import Window, Windowing

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop
    from adafocus_cli.tagger import ClipTagger

# Between one try and the next, doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# For the first frame of a stream to come.
_CONNECT_SECONDS = 10.0
# How often one who waits for a window looks whether it is time to end.
_GLANCE_SECONDS = 0.5
# Of a stream that does not say it; what says more speaks of its clock, not of frames.
_USUAL_FPS, _MOST_FPS = 25.0, 1000.0


class StreamLostError(AdaFocusError):
    """A stream never came, or did not come back."""


class StreamError(VideoError):
    """There was nothing to tag for a while."""


@dataclass(frozen=True, kw_only=True)
class LiveRequest:
    """A stream, and how long it is waited for. `end` is when to stop, in monotonic time; `pictures` is whether the
    frames of a window may be asked for in full."""

    source: LiveSource
    windows: Windowing
    patience: float
    end: float = math.inf
    pictures: bool = False


@dataclass(frozen=True, kw_only=True)
class TaggedWindow:
    """The result of a window; `window` has times and numbers of frames of its piece, which `piece` names.

    `picture` gives all of a frame of it, by its number, until the next window is asked for.
    """

    result: VideoResult
    window: Window
    piece: tuple[int, int]
    frames: frozenset[int]
    picture: Callable[[int], np.ndarray]

    @property
    def live(self) -> LiveSpan:
        assert self.result.live is not None
        return self.result.live


LiveResult = TaggedWindow | Failure


def tag_stream(
    live: LiveRequest, tagger: ClipTagger, request: TagRequest, *, say: Callable[[str], None]
) -> Generator[LiveResult]:
    """Windows as they pass, and a failure for each time in which there was nothing.

    Ends with the stream, or when it is time; a stream that is lost for good is a `StreamLostError`. `say` is told of
    tries. Closing the iterator ends the child.
    """
    return _Tries(live, tagger, request, say).results()


class _Tries:
    """One connection after the other."""

    def __init__(self, live: LiveRequest, tagger: ClipTagger, request: TagRequest, say: Callable[[str], None]) -> None:
        self._live, self._tagger, self._request, self._say = live, tagger, request, say
        self._name = printable(live.source.name)
        self._loop = tagger.loop(tagger.exit_rule(request))
        self._counts: deque[int] = deque(maxlen=8)  # of the frames of the last windows
        self._connections = 0
        self._good = time.monotonic()  # when all was well
        self._pause = _FIRST_PAUSE
        self._heard: float | None = None  # when the last frame came, in seconds from 1970
        self._reason = ""

    def results(self) -> Generator[LiveResult]:
        while self._seconds_left > 0:
            began = time.monotonic()
            with closing(LiveProcess(self._live.source, self._request.limits)) as process:
                try:
                    stream = self._connected(process)
                    if self._reason:
                        yield from self._silence()
                        self._reason = ""
                    over = yield from self._windows(process, stream)
                    reason = over.reason
                except VideoError as error:
                    stream, reason = None, str(error).removeprefix(f"{self._name}: ")
            if reason is None and (self._seconds_left <= 0 or (stream and stream.ends)):
                return
            if time.monotonic() - began > _LONGEST_PAUSE:
                self._is_well()
            yield from self._lost_or_pause(reason or "it ended", bool(stream and stream.ends))
        if self._heard is None:
            told = f"{self._reason}; it never came" if self._reason else "it was not asked for"
            raise StreamLostError(f"{self._name}: {told} before the time of --for or --until was over; give more")
        if self._reason:
            yield from self._silence()

    @property
    def _seconds_left(self) -> float:
        return self._live.end - time.monotonic()

    def _is_well(self) -> None:
        self._good, self._pause = time.monotonic(), _FIRST_PAUSE

    def _connected(self, process: LiveProcess) -> StreamInfo:
        keep = self._live.pictures or self._loop.looks_at_source
        patience = self._good + self._live.patience - time.monotonic()
        seconds = max(1.0, min(_CONNECT_SECONDS, self._seconds_left, patience))
        stream = process.connect(self._live.windows, self._loop.framing, keep_sources=keep, seconds=seconds)
        self._connections += 1
        if not self._counts:
            said = stream.video.fps
            count = self._live.windows.seconds * (said if said and said < _MOST_FPS else _USUAL_FPS)
            self._counts += [max(1, math.floor(count)), max(1, math.ceil(count))]
        return stream

    def _lost_or_pause(self, reason: str, has_end: bool) -> Generator[Failure]:
        """Waits for the next try, if there is one."""
        left = self._good + self._live.patience - time.monotonic()
        if self._live.source.kind == "stdin" or has_end or left <= 0:
            self._reason = reason
            if self._heard is not None:
                yield from self._silence()
            tried = f"; tried for {self._live.patience:g} s, --patience SECONDS tries longer" if left <= 0 else ""
            raise StreamLostError(f"{self._name}: {reason}{tried}")
        if reason != self._reason:
            self._say(f"{self._name}: {reason}; trying again")
        self._reason = reason
        time.sleep(max(0.0, min(self._pause, left, self._seconds_left)))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _silence(self) -> Generator[Failure]:
        """The record of the time in which there was nothing, if there was something before it."""
        if self._heard is None:
            return
        now = time.time()
        live = LiveSpan(since=self._heard, until=now)
        text = f"{self._name}: nothing came for {now - self._heard:.1f} s: {self._reason}"
        self._say(text)
        yield replace(failure_of(self._live.source.name, StreamError(text, stage="decode"), "decode"), live=live)

    def _windows(self, process: LiveProcess, stream: StreamInfo) -> Generator[LiveResult, None, StreamOver]:
        self._heard = self._heard or time.time()
        while (left := self._seconds_left) > 0:
            plans = (self._loop.plan(count).frames for count in set(self._counts))
            likely = frozenset(frame for frames in plans for frame in frames)
            found = process.next_window(likely, wait=min(_GLANCE_SECONDS, left))
            if isinstance(found, StreamOver):
                return found
            if found is not None:
                self._is_well()
                self._heard = found.until
                self._counts.append(len(found.window.frames))
                yield self._tagged(process, stream, found)
        return StreamOver(None)

    def _tagged(self, process: LiveProcess, stream: StreamInfo, passed: PassedWindow) -> LiveResult:
        clip = _clip_of(process, stream.video, passed, self._loop)
        self._loop.add(clip, None)
        runs = []
        while len(self._loop):
            runs += self._loop.step()
        live = LiveSpan(
            since=passed.since,
            until=passed.until,
            start=passed.offset + passed.window.start,
            end=passed.offset + passed.window.end,
            windows_dropped=passed.windows_dropped,
            frames_dropped=passed.frames_dropped,
        )
        try:
            result = self._tagger.result(runs[0], top_k=self._request.top_k, min_score=self._request.min_score)
        except (VideoError, RuntimeError, ValueError) as error:
            if isinstance(error, VideoError) and error.stage != "infer":
                raise  # the stream is lost
            return replace(failure_of(self._live.source.name, error, "infer"), live=live)
        return TaggedWindow(
            result=replace(result, live=live),
            window=passed.window,
            piece=(self._connections, passed.piece),
            frames=clip.numbers,
            picture=process.picture_of,
        )


def _clip_of(process: LiveProcess, video: VideoInfo, passed: PassedWindow, loop: Loop) -> Clip:
    """A window with all its frames."""
    from adafocus_cli.loop import Clip

    plan = passed.window.shifted(loop.plan(len(passed.window.frames)))
    last = passed.window.frames[-1]
    numbers = sorted(set(plan.frames))
    frames = process.frames_of(passed, [min(number, last) for number in numbers])
    fps = _rate(video.fps, passed.frames, passed.lasted)
    clip = Clip(
        replace(
            video,
            frames=passed.frames,
            fps=fps,
            duration=passed.frames / fps if fps else None,
            frames_replaced=frames.replaced,
        ),
        plan,
        loop.framing.geometry(video.width, video.height).to_source,
        partial(_look, process),
        window=passed.window,
        decode_seconds=frames.seconds,
    )
    for number, pixels, seconds in zip(numbers, frames.pixels, frames.times, strict=True):
        clip.add(number, pixels, seconds)
    return clip


def _look(process: LiveProcess, clip: Clip, request: LookRequest) -> Future[None]:
    """Cuts boxes out of the source at once."""
    done = Future[None]()
    try:
        cuts, seconds = process.looks_of(request.due)
        for look, pixels in zip(request.due, cuts, strict=True):
            clip.add_cut(look, pixels)
        clip.decode_seconds += seconds
    except VideoError as error:
        done.set_exception(error)
    else:
        done.set_result(None)
    return done


def _rate(said: float | None, frames: int, seconds: float) -> float | None:
    """What the stream says, unless its frames say otherwise."""
    if frames < 2 or seconds <= 0:
        return said
    found = (frames - 1) / seconds
    return said if said and abs(said - found) <= found / 200 else found
