"""From a decoding process into clips: the frames of one, or of all windows of a video in one pass.

Of windows it holds the frames of one, and those that the next ones share with it. Knows nothing of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import numpy as np

from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.process import Frames, OpenVideo, VideoProcess
from adafocus_cli.video.sampling import FramePlan

if TYPE_CHECKING:
    from adafocus_cli.loop import Clip, Loop
    from adafocus_cli.video.windows import Window


def clips_of(process: VideoProcess, video: OpenVideo, windows: Sequence[Window], loop: Loop) -> Iterator[Clip]:
    """A clip of each window, with all its frames, in the order of the film; no frame is decoded twice."""
    from adafocus_cli.loop import Clip

    framing = loop.framing
    to_source = framing.geometry(video.info.width, video.info.height).to_source
    plans = [window.shifted(loop.plan(len(window.frames))) for window in windows]
    last = video.info.frames - 1
    at_hand: dict[int, tuple[np.ndarray, float]] = {}
    reached, info, damaged = -1, video.info, frozenset[int]()
    for place, (window, plan) in enumerate(zip(windows, plans, strict=True)):
        until = max(plan.frames)
        due = _due(islice(plans, place, None), reached, until)
        clip = Clip(info, plan, to_source, window=window, damaged_packets=damaged)
        if due:
            frames = process.frames(video, [min(frame, last) for frame in due], framing=framing)
            at_hand |= zip(due, zip(frames.pixels, frames.times, strict=True), strict=True)
            _note(clip, frames)
        for frame in set(plan.frames):
            clip.add(frame, *at_hand[frame])
        yield clip
        reached, info, damaged = max(reached, until), clip.video, clip.damaged_packets
        after = windows[place + 1].frames.start if place + 1 < len(windows) else last + 1
        at_hand = {frame: each for frame, each in at_hand.items() if frame >= after}


def _due(plans: Iterable[FramePlan], reached: int, until: int) -> list[int]:
    """The frames that any of these wants from after `reached` to `until`: later, they would be behind us."""
    begun = takewhile(lambda plan: min(plan.frames) <= until, plans)
    return sorted({frame for plan in begun for frame in plan.frames if reached < frame <= until})


def by_keyframes(info: VideoInfo, plan: FramePlan, near: tuple[int, ...]) -> tuple[VideoInfo, FramePlan]:
    """The plan with the keyframes near its frames, unless they are less than half as many: too little would be seen."""
    if near == plan.frames or 2 * len(set(near)) < len(set(plan.frames)):
        return info, plan
    off = max(abs(found - wanted) for found, wanted in zip(near, plan.frames, strict=True))
    return replace(info, decode="fast", frames_off=off), replace(plan, frames=near)


def decode(process: VideoProcess, video: OpenVideo, clip: Clip, positions: Sequence[int], framing: Framing) -> None:
    """Adds the frames at these positions to a clip."""
    numbers = [clip.plan.frames[position] for position in positions]
    later = [clip.plan.frames[position] for position in clip.missing(clip.plan.glance)]
    frames = process.frames(video, numbers, framing=framing, later=later)
    for number, pixels, seconds in zip(numbers, frames.pixels, frames.times, strict=True):
        clip.add(number, pixels, seconds)
    _note(clip, frames)


def _note(clip: Clip, frames: Frames) -> None:
    """Writes down what decoding frames of a clip was like."""
    clip.decode_seconds += frames.seconds
    clip.damaged_packets |= frames.damaged
    clip.video = replace(
        clip.video,
        decoder=frames.decoder,
        frames_replaced=clip.video.frames_replaced + frames.replaced,
        packets_damaged=len(clip.damaged_packets),
    )
