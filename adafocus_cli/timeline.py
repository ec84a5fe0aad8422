"""What the windows of a video say together: its labels, its cost, and from when to when which label holds.

Pure arithmetic on results; knows nothing of models, files or formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

import numpy as np

from adafocus_cli.labels import LabelSet, scores_of, tags_or_guess
from adafocus_cli.schema import Cost, Exit, Peak, Segment, SkippedFrame, Tag, VideoResult, WindowResult
from adafocus_cli.spec import scores_are_independent
from adafocus_cli.video.windows import Window

# Scores below it are taken for it, lest a window that is wrong and very sure outvote its neighbours.
_LEAST = 0.03
# What a change of the label costs, as a logarithm of scores: a little more than any window can pay, so that only three
# that agree are a segment among others.
_CHANGE = 3.6


@dataclass(frozen=True)
class Part:
    """A window, its result, and the numbers of its frames."""

    window: Window
    result: VideoResult
    frames: frozenset[int]

    @classmethod
    def of(cls, window: Window, result: VideoResult, frames: frozenset[int]) -> Part:
        """Without the answers of its steps, for a long video has many windows."""
        logits = result.logits.copy()
        return cls(window, replace(result, logits=logits, step_logits=logits[None]), frames)


def joined(parts: Sequence[Part], labels: LabelSet, *, top_k: int, min_score: float) -> VideoResult:
    """The result of a video from those of its windows, in the order of the film."""
    results = [part.result for part in parts]
    logits = np.stack([result.logits for result in results])
    family = results[-1].model.family
    scores = scores_of(logits, family)
    if scores_are_independent(family):  # what is seen in one window is in the video
        overall, answer = scores.max(axis=0), logits.max(axis=0)
    else:
        overall = scores.mean(axis=0)
        answer = logits[0] if len(parts) == 1 else np.log(overall).astype(np.float32)
    found = segments([part.window for part in parts], scores, labels, min_score=min_score)
    # The threshold is for segments: what is sure in a part of a film may be rare in all of it.
    held = {segment.index for segment in found}
    tags, guess = tags_or_guess(overall, labels, top_k=top_k, min_score=min_score, held=held)
    looks = chain.from_iterable(result.trajectory for result in results)
    return replace(
        results[-1],
        labels=tuple(_over_windows(tag, results, scores[:, tag.index]) for tag in tags),
        best_guess=guess,
        cost=_sum([result.cost for result in results]),
        trajectory=tuple(replace(look, step=step) for step, look in enumerate(looks)),
        skipped=_skipped(results),
        exit=Exit(max(result.exit.step for result in results), results[-1].exit.of),
        frames_decoded=len(frozenset().union(*(part.frames for part in parts))),
        runtime=replace(results[-1].runtime, seconds=_total([result.runtime.seconds for result in results])),
        logits=answer,
        step_logits=logits,
        windows=tuple(_of_window(part) for part in parts),
        segments=found,
    )


def segments(
    windows: Sequence[Window], scores: np.ndarray, labels: LabelSet, *, min_score: float = 0.0
) -> tuple[Segment, ...]:
    """Neighbours with the same label as one; `scores` are (windows, classes). Those below `min_score` are left out."""
    found: list[Segment] = []
    start = windows[0].start
    for index, group in groupby(enumerate(steady(scores)), key=lambda each: each[1]):
        places = [place for place, _ in group]
        after = places[-1] + 1
        end = windows[-1].end if after == len(windows) else _boundary(windows[after - 1], windows[after])
        found.append(Segment(start, end, labels[index], index, float(scores[places, index].mean())))
        start = end
    return tuple(segment for segment in found if segment.score >= min_score)


def steady(scores: np.ndarray) -> list[int]:
    """A label for each window: the likeliest path if every change has its price (Viterbi)."""
    gains = np.log(np.maximum(scores, _LEAST))
    total, came_from = gains[0], np.empty(gains.shape, np.int64)
    stay = np.arange(gains.shape[1])
    for place in range(1, len(gains)):
        best = int(total.argmax())
        changed = total[best] - _CHANGE
        came_from[place] = np.where(total >= changed, stay, best)
        total = np.maximum(total, changed) + gains[place]
    path = [int(total.argmax())]
    for place in range(len(gains) - 1, 0, -1):
        path.append(int(came_from[place][path[-1]]))
    return path[::-1]


def _boundary(before: Window, after: Window) -> float:
    """Half-way between the middles of two windows."""
    return (before.start + before.end + after.start + after.end) / 4


def _over_windows(tag: Tag, results: Sequence[VideoResult], scores: np.ndarray) -> Tag:
    """With its best window, and the looks of all windows that speak for it, numbered as those of the video are."""
    looks: list[int] = []
    before = 0
    for result in results:
        found = next((each for each in result.labels if each.index == tag.index), None)
        if found is not None and found.looks is not None:
            looks += [before + step for step in found.looks]
        before += len(result.trajectory)
    said = any(each.looks is not None for result in results for each in result.labels)
    return replace(tag, looks=tuple(looks) if said else None, best=_peak(scores))


def _peak(scores: np.ndarray) -> Peak:
    window = int(np.argmax(scores))
    return Peak(window, float(scores[window]))


def _skipped(results: Sequence[VideoResult]) -> tuple[SkippedFrame, ...] | None:
    """Those of all windows; None where the model skips none."""
    of_windows = [result.skipped for result in results if result.skipped is not None]
    return tuple(chain.from_iterable(of_windows)) if of_windows else None


def _sum(costs: Sequence[Cost]) -> Cost:
    full = [cost.full_frame_gmacs for cost in costs if cost.full_frame_gmacs is not None]
    return Cost(_total([cost.stages for cost in costs]), sum(full) if len(full) == len(costs) else None)


def _total(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum of numbers that have the same names."""
    return {name: sum(values[name] for values in each) for name in each[0]}


def _of_window(part: Part) -> WindowResult:
    window, result = part.window, part.result
    return WindowResult(
        start=window.start,
        end=window.end,
        labels=result.labels,
        cost=result.cost,
        trajectory=result.trajectory,
        skipped=result.skipped,
        exit=result.exit,
    )
