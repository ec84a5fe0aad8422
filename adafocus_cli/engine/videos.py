"""Results of windows on their way to one result a video. Several threads come here.

Knows nothing of decoding; of a video that is not in windows, the first result is its result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from adafocus_cli.schema import Failure, Result, VideoInfo

if TYPE_CHECKING:
    from adafocus_cli.labels import LabelSet
    from adafocus_cli.loop import Run
    from adafocus_cli.timeline import Part

Watch = Callable[[VideoInfo, float], None]
"""Told after each window of which video it is, and what share of that is done."""


class Videos:
    def __init__(self, labels: LabelSet, *, top_k: int, min_score: float, watch: Watch | None) -> None:
        self._labels = labels
        self._top_k, self._min_score = top_k, min_score
        self._watch = watch
        self._access = threading.Lock()
        self._parts: dict[int, dict[int, Part]] = {}
        self._failed: set[int] = set()

    def has_failed(self, place: int) -> bool:
        return place in self._failed

    def fail(self, place: int, failure: Failure) -> Failure | None:
        """The failure, if it is the first of this video."""
        with self._access:
            self._parts.pop(place, None)
            first = place not in self._failed
            self._failed.add(place)
        return failure if first else None

    def add(self, run: Run, result: Result) -> Result | None:
        """The result of the video, if it now has all it needs."""
        from adafocus_cli.timeline import Part, joined

        place, window = run.place, run.clip.window
        if isinstance(result, Failure):
            return self.fail(place, result)
        if window is None:
            return result
        with self._access:
            if place in self._failed:
                return None
            parts = self._parts.setdefault(place, {})
            parts[window.index] = Part.of(window, result, run.clip.numbers)
            share = len(parts) / window.of
            if share == 1:
                del self._parts[place]
        if self._watch:
            self._watch(run.clip.video, share)
        if share < 1:
            return None
        in_order = [parts[index] for index in range(window.of)]
        return joined(in_order, self._labels, top_k=self._top_k, min_score=self._min_score)
