"""Seconds over what can be varied: frames, side of the patch, clips at a time, length of the video.

A model of other sizes has made-up weights. What a device or a model cannot vary is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from adafocus_cli.benchmark import videos
from adafocus_cli.benchmark.bench_model import Subject, Variant, as_entrant, made_up
from adafocus_cli.benchmark.interleaved import Entrant, timed
from adafocus_cli.benchmark.reference import PlainPath
from adafocus_cli.benchmark.report import PLAIN, Curve
from adafocus_cli.errors import ModelError
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec

_LENGTHS = (5, 20, 60)  # seconds
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_PATCH_STEP = 32  # pixels, what one pixel of the networks' maps covers

Tell = Callable[[str], None]
Point = dict[str, float]
"""Seconds a video, by who was timed."""


def curves(subject: Subject, variants: Sequence[Variant], rounds: int, folder: Path, tell: Tell) -> tuple[Curve, ...]:
    family = subject.family()
    spec = replace(family.spec, dataset=None)

    def sized(spec: ModelSpec) -> Point:
        return _of_sizes(spec, variants, rounds, folder, tell)

    def batched(clips: int) -> Point:
        some = [replace(variant, batch_size=clips) for variant in variants]
        return _of_batch(subject, some, rounds, tell)

    count = spec.focus_frames
    found = (
        _curve("frames", "frames looked at", (count // 2, count, 2 * count), lambda n: sized(spec.with_frames(n))),
        _curve("patch size", "px", _patch_sizes(family), lambda side: sized(spec.with_patch_size(side))),
        _curve("batch", "videos at a time", _BATCHES, batched),
        _curve("length", "s of video", _LENGTHS, lambda length: _of_length(length, subject, rounds, folder, tell)),
    )
    return tuple(curve for curve in found if curve is not None)


def _curve(varied: str, unit: str, values: Iterable[int], measured: Callable[[int], Point]) -> Curve | None:
    """None where there are not two values that are possible."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for value in values:
        try:
            point = measured(value)
        except ModelError:  # no model of this family has such a size
            continue
        if not point:
            break
        for name, seconds in point.items():
            lines.setdefault(name, []).append((value, seconds))
    if not lines or min(map(len, lines.values())) < 2:
        return None
    return Curve(varied=varied, unit=unit, lines={name: tuple(points) for name, points in lines.items()})


def _patch_sizes(family: Family) -> range:
    """From less than half of the frame's side to all of it, for those that cut patches."""
    side = family.spec.frame_size
    return range(side // 2 // _PATCH_STEP * _PATCH_STEP, side + 1 if family.cuts_patches else 0, _PATCH_STEP)


def _of_sizes(spec: ModelSpec, variants: Sequence[Variant], rounds: int, folder: Path, tell: Tell) -> Point:
    subject = made_up(spec, "sweep", folder)
    taggers = [variant.load(subject) for variant in variants]
    plain = PlainPath(subject.family(), taggers[0].runtime.device)
    tell_size = f"{spec.focus_frames} patches of {spec.patch_size} px"
    entrants = [plain.entrant(PLAIN), *(as_entrant(tagger) for tagger in taggers)]
    return _medians(entrants, rounds, lambda text: tell(f"{tell_size}: {text}"))


def _of_batch(subject: Subject, variants: Sequence[Variant], rounds: int, tell: Tell) -> Point:
    """Nothing where a device takes another number of clips than it is told to."""
    taggers = [variant.load(subject) for variant in variants]
    entrants = [
        as_entrant(tagger)
        for tagger, variant in zip(taggers, variants, strict=True)
        if tagger.runtime.lanes == variant.batch_size
    ]
    return _medians(entrants, rounds, tell)


def _of_length(length: int, subject: Subject, rounds: int, folder: Path, tell: Tell) -> Point:
    tell(f"a video of {length} s")
    path = videos.make(folder / f"{length}.mp4", seconds=length)
    with ExitStack() as stack:
        entrants = videos.readers([path], subject.family(), stack)
        return _medians(entrants, rounds, lambda text: tell(f"{length} s of video: {text}"))


def _medians(entrants: Sequence[Entrant], rounds: int, tell: Tell) -> Point:
    return {name: timing.median for name, timing in timed(entrants, rounds, tell).items()}
