"""How good `objects` is on composed scenes: `python bench/objects.py PHOTOS [--count 100] [--seed 0] [--half odd]`.

Tags scenes (`bench/scenes.py`), without encoding them, with the model's own looks, with random and with central ones of
the same sizes, and prints a row for each kind of scene and way. A video without a label counts as wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import scenes

from adafocus_cli.evaluation.policy_override import Policy, with_policy
from adafocus_cli.requests import ModelRequest
from adafocus_cli.schema import Tag, VideoResult
from adafocus_cli.tagger import ClipTagger

WAYS: tuple[Policy, ...] = ("learned", "random", "centre")
SURE = 0.5
COLUMNS = (
    "n",
    "object first",
    "right first",
    "has a label",
    "right ones ≥ 0.5",
    "of ≥ 0.5 right",
    "box on it",
    "both in 3",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=100, help="scenes of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(scenes.KINDS))
    parser.add_argument("--half", choices=("all", "even", "odd"), default="odd", help="constants were fitted on even")
    given = parser.parse_args()
    photos = scenes.photographs(given.photos, given.half)
    tagger = ClipTagger.of(ModelRequest(source="objects"))
    ways = {way: with_policy(tagger, way, seed=given.seed) for way in WAYS}
    print("| scenes | looks |", " | ".join(COLUMNS), "|")
    print("| --- " * (2 + len(COLUMNS)) + "|")
    for kind in given.kinds.split(","):
        found: dict[Policy, list[Found]] = {way: [] for way in ways}
        for scene in scenes.scenes(photos, kind, given.count, given.seed):
            numbers = tagger.family.plan(scene.frames).frames
            frames = np.stack([scene.frame(number) for number in numbers])
            for way, looking in ways.items():
                found[way].append(Found(scene, numbers, looking.tag_frames(frames)))
        for way in ways:
            print(f"| {kind} | {way} |", " | ".join(_row(found[way])), "|", flush=True)


class Found:
    """What was found in the frames of a scene with these numbers, beside what is there."""

    def __init__(self, scene: scenes.Scene, numbers: Sequence[int], result: VideoResult) -> None:
        self.scene, self.numbers, self.result = scene, numbers, result
        self.objects = {each.index for each in scene.objects}
        self.right = self.objects | ({scene.background_index} if scene.background_index is not None else set())
        self.first = result.labels[0] if result.labels else None

    def boxes_on_it(self) -> list[bool]:
        """Of each right label: whether a look that speaks for it has the object's middle, and at most 4 × its area."""
        return [self._is_on(tag) for tag in self.result.labels if tag.index in self.objects]

    def _is_on(self, tag: Tag) -> bool:
        thing = next(each for each in self.scene.objects if each.index == tag.index)
        for step in tag.looks or ():
            look = self.result.trajectory[step]
            left, top, right, bottom = look.box
            a, b, c, d = thing.box(self.numbers[look.frame] / max(1, self.scene.frames - 1))
            x, y = (a + c) / 2, (b + d) / 2
            if left <= x <= right and top <= y <= bottom and (right - left) * (bottom - top) <= 4 * (c - a) * (d - b):
                return True
        return False


def _row(found: Sequence[Found]) -> list[str]:
    firsts = [each.first for each in found]
    right = [each.first is not None and each.first.index in each.right for each in found]
    sure = [(tag.index in each.right) for each in found for tag in each.result.labels if tag.score >= SURE]
    boxes = [hit for each in found for hit in each.boxes_on_it()]
    pairs = [each for each in found if len(each.objects) > 1]
    return [
        str(len(found)),
        _share([each.first is not None and each.first.index in each.objects for each in found]),
        _share(right),
        _share([first is not None for first in firsts]),
        _share([first.score >= SURE for first, is_right in zip(firsts, right, strict=True) if first and is_right]),
        _share(sure),
        _share(boxes),
        _share([each.objects <= {tag.index for tag in each.result.labels[:3]} for each in pairs]),
    ]


def _share(hits: Sequence[bool]) -> str:
    return f"{100 * fmean(hits):.0f} %" if hits else "–"


if __name__ == "__main__":
    main()
