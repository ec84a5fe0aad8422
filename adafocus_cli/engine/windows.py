"""A video as clips, one for each of its windows, and the results of the windows as one result.

Of windows it holds the frames of one, and those that the next ones share with it. Of a video that is not in windows,
the first result is its result. Knows nothing of children and queues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import numpy as np

from adafocus_cli.schema import Failure, Result, VideoInfo, VideoResult
from adafocus_cli.video.process import DecodedFrames, OpenVideo, VideoProcess
from adafocus_cli.video.sampling import FramePlan, LookRequest

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop
    from adafocus_cli.timeline import Part
    from adafocus_cli.video.windows import Window

DecodeLater = Callable[["Clip", LookRequest], Future[None]]

Watch = Callable[[VideoInfo, float], None]
"""Told after each window of which video it is, and what share of that is done."""


def clips_of(
    process: VideoProcess, video: OpenVideo, windows: Sequence[Window], loop: Loop, decode_later: DecodeLater
) -> Iterator[Clip]:
    """A clip of each window, with all its frames, in the order of the film; no frame is decoded twice."""
    from adafocus_cli.loop import Clip

    framing = loop.framing
    to_source = framing.geometry(video.info.width, video.info.height).to_source
    plans = [window.shifted(loop.plan(len(window.frames))) for window in windows]
    last = video.info.frames - 1
    at_hand: dict[int, tuple[np.ndarray, float]] = {}
    reached, info, damaged = -1, video.info, frozenset[int]()
    for index, (window, plan) in enumerate(zip(windows, plans, strict=True)):
        until = max(plan.frames)
        due = _due(islice(plans, index, None), reached, until)
        clip = Clip(info, plan, to_source, decode_later, window=window, damaged_packets=damaged)
        if due:
            numbers = [min(frame, last) for frame in due]
            frames = process.frames(video, numbers, framing=framing, keep_source=loop.looks_at_source)
            at_hand |= zip(due, zip(frames.pixels, frames.times, strict=True), strict=True)
            _note(clip, frames)
        for frame in set(plan.frames):
            clip.add(frame, *at_hand[frame])
        yield clip
        reached, info, damaged = max(reached, until), clip.video, clip.damaged_packets
        after = windows[index + 1].frames.start if index + 1 < len(windows) else last + 1
        at_hand = {frame: each for frame, each in at_hand.items() if frame >= after}


def _due(plans: Iterable[FramePlan], reached: int, until: int) -> list[int]:
    """The frames that any of these wants from after `reached` to `until`: later, they would be behind us."""
    begun = takewhile(lambda plan: min(plan.frames) <= until, plans)
    return sorted({frame for plan in begun for frame in plan.frames if reached < frame <= until})


def by_keyframes(info: VideoInfo, plan: FramePlan, near: tuple[int, ...]) -> tuple[VideoInfo, FramePlan]:
    """The plan with the keyframes near its frames, however few there are: who asks for them wants no more decoded."""
    if near == plan.frames:
        return info, plan
    off = max(abs(found - wanted) for found, wanted in zip(near, plan.frames, strict=True))
    return replace(info, decode="fast", frames_off=off), replace(plan, frames=near)


def decode(process: VideoProcess, video: OpenVideo, clip: Clip, request: LookRequest, loop: Loop) -> None:
    """Adds to a clip what a request wants: frames, or boxes of the source."""
    if any(look.box is not None for look in request.due):
        cuts, seconds = process.cuts(video, request.due)
        for look, pixels in zip(request.due, cuts, strict=True):
            clip.add_cut(look, pixels)
        clip.decode_seconds += seconds
        return
    numbers = [look.frame for look in request.due]
    later = [clip.plan.frames[position] for position in clip.missing(clip.plan.glance)]
    frames = process.frames(video, numbers, framing=loop.framing, later=later, keep_source=loop.looks_at_source)
    for number, pixels, seconds in zip(numbers, frames.pixels, frames.times, strict=True):
        clip.add(number, pixels, seconds)
    _note(clip, frames)


def _note(clip: Clip, frames: DecodedFrames) -> None:
    """Writes down what decoding frames of a clip was like."""
    clip.decode_seconds += frames.seconds
    clip.damaged_packets |= frames.damaged
    clip.video = replace(
        clip.video,
        decoder=frames.decoder,
        frames_replaced=clip.video.frames_replaced + frames.replaced,
        packets_damaged=len(clip.damaged_packets),
    )


class WindowResults:
    """Those of one video, until there is one of each window. Several threads come here."""

    def __init__(self) -> None:
        self._access = threading.Lock()
        self._parts: dict[int, Part] = {}
        self.failed = False

    def fail(self, failure: Failure) -> Failure | None:
        """The failure, if it is the first of this video."""
        with self._access:
            self._parts.clear()
            first, self.failed = not self.failed, True
        return failure if first else None

    def add(
        self, clip: Clip, result: Result, *, join: Callable[[list[Part]], VideoResult], watch: Watch | None
    ) -> Result | None:
        """The result of the video, if it now has all it needs."""
        window = clip.window
        if isinstance(result, Failure):
            return self.fail(result)
        if window is None:
            return result
        from adafocus_cli.timeline import Part

        with self._access:
            if self.failed:
                return None
            self._parts[window.index] = Part.of(window, result, clip.numbers)
            share = len(self._parts) / window.of
        if watch:
            watch(clip.video, share)
        return join([self._parts[index] for index in range(window.of)]) if share == 1 else None
