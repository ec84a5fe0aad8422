"""How good `objects` is on composed scenes: `python bench/objects.py PHOTOS [--count 100] [--seed 0] [--half odd]`.

Tags scenes (`bench/scenes.py`), without encoding them, with the model's own looks, with random and with central ones of
the same sizes, and with looks on the objects themselves, and prints a row for each kind of scene and way, and of one
object for each third of the heights. All ways have the same glance. A video without a label counts as wrong.

Two ways have no glance and cost as much: `blind`, 15 random looks, and `whole`, the focus network on eight whole frames
of 260 × 260; their first label is the surest class, however sure. Of two objects, `alone` are the scenes in which each
is among the first three labels when the other is not there. With `--footage FOLDER`, also how many of the videos there
get a label. `--seed` takes several seeds: the scenes of all are taken together.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
import scenes
import torch
from PIL import Image
from torch import Tensor

from adafocus_cli import Tagger
from adafocus_cli.evaluation.policy_override import Policy, PolicyOverride, with_policy
from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.evidence import EvidenceGuided
from adafocus_cli.nn.heads import pooled
from adafocus_cli.requests import ModelRequest
from adafocus_cli.schema import Tag, VideoResult
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.sampling import spread

WAYS: tuple[Policy, ...] = ("learned", "random", "centre")
BLIND_LOOKS = 15
BLIND_SIDE = 0.3  # of the frame's shorter side
WHOLE_FRAMES, WHOLE_SIDE = 8, 260
BANDS = 3  # of the heights of objects
SURE = 0.5
_ONE_ANSWER = ("one", "filling")  # kinds of scenes with one answer
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
    parser.add_argument("--count", type=int, default=100, help="scenes of each kind and seed")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", default=",".join(scenes.KINDS))
    parser.add_argument("--half", choices=("all", "even", "odd"), default="odd", help="constants were fitted on even")
    parser.add_argument("--footage", type=Path, help="a folder of videos that show nothing that the model knows")
    given = parser.parse_args()
    photos = scenes.photographs(given.photos, given.half)
    loaded = ClipTagger.of(ModelRequest(source="objects"))
    tagger = loaded.over(GlanceOnce(loaded.runtime))
    print("| scenes | looks |", " | ".join(COLUMNS), "|")
    print("| --- " * (2 + len(COLUMNS)) + "|")
    notes = []
    for kind in given.kinds.split(","):
        drawn = (scene for seed in given.seed for scene in scenes.scenes(photos, kind, given.count, seed))
        notes += measure(tagger, kind, drawn, given.seed[0])
    if given.footage is not None:
        videos = sorted(path for path in given.footage.rglob("*") if path.suffix in (".avi", ".mp4"))
        results = [each for each in Tagger.load("objects").tag_videos(videos) if isinstance(each, VideoResult)]
        notes.append(f"footage: {_share([bool(each.labels) for each in results])} of {len(results)} get a label")
    print("", *notes, sep="\n")


def measure(tagger: ClipTagger, kind: str, drawn: Iterator[scenes.Scene], seed: int) -> list[str]:
    """Prints a row for each way; what else there is to say of these scenes."""
    ways = {str(way): with_policy(tagger, way, seed=seed) for way in WAYS}
    on_objects = OnObjects(tagger.runtime)
    if kind in ("one", "two"):
        ways["on the object"] = tagger.over(on_objects)
    without_glance = {"blind": surest_of_random_looks, "whole": surest_of_whole_frames} if kind in _ONE_ANSWER else {}
    found: dict[str, list[Found]] = {way: [] for way in ways}
    firsts: dict[str, list[First]] = {way: [] for way in without_glance}
    alone: list[bool] = []
    for number, scene in enumerate(drawn, start=1):
        print(f"{kind}: scene {number}", end="\r", file=sys.stderr, flush=True)
        numbers = tagger.family.plan(scene.frames).frames
        frames = np.stack([scene.frame(number) for number in numbers])
        on_objects.boxes = torch.tensor([[_around(scene, each, at) for each in scene.objects] for at in numbers])
        for way, looking in ways.items():
            found[way].append(Found(scene, numbers, looking.tag_frames(frames)))
        for way, surest in without_glance.items():
            firsts[way].append(First(scene, surest(tagger, scene, frames)))
        if kind == "two":
            alone.append(all(_found_alone(tagger, scene, each) for each in scene.objects))
    for way, all_found in found.items():
        _print(kind, way, all_found, _row)
    for way, all_firsts in firsts.items():
        _print(kind, way, all_firsts, _short_row)
    if not alone:
        return []
    both = [each.both_in_three for each, is_found in zip(found["learned"], alone, strict=True) if is_found]
    return [f"each alone found in {len(both)} of {len(alone)}; both in three: {_share(both)} of these"]


class GlanceOnce(PolicyOverride):
    """Remembers the last glance, for the next way of looking at the same frames."""

    _last: tuple[Tensor, Tensor] | None = None

    def glance(self, pixels: Tensor) -> Tensor:
        if self._last is None or not torch.equal(self._last[0], pixels):
            self._last = pixels, super().glance(pixels)
        return self._last[1]


class OnObjects(PolicyOverride):
    """Looks on `boxes` (frames, objects, 4), in 0…1 of the frame, one object after the other."""

    boxes: Tensor

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        gaze = self.inner.locate(turn, glance_maps, memory)
        height, width = self.model.sides(glance_maps)
        looks = zip(gaze.frames[0].tolist(), turn.looks, strict=True)
        there = [self.boxes[frame, look % self.boxes.shape[1]] for frame, look in looks]
        boxes = torch.stack(there)[None] * gaze.boxes.new_tensor((width, height, width, height))
        self.model.look_elsewhere(turn, boxes, glance_maps, memory)
        return Gaze(gaze.frames, boxes)


def _around(scene: scenes.Scene, thing: scenes.PastedObject, number: int) -> list[float]:
    """The square of an object's longer side around it."""
    width, height = scene.size
    left, top, right, bottom = thing.box(number / max(1, scene.frames - 1))
    side = min(max(right - left, bottom - top), height, width)
    x = min(max((left + right - side) / 2, 0), width - side)
    y = min(max((top + bottom - side) / 2, 0), height - side)
    return [x / width, y / height, (x + side) / width, (y + side) / height]


def surest_of_random_looks(tagger: ClipTagger, scene: scenes.Scene, frames: np.ndarray) -> int:
    """Of the focus network alone, in random boxes: the class that any of them is surest of."""
    chance = random.Random(scene.name)
    height, width = frames.shape[1:3]
    side = BLIND_SIDE * min(height, width)
    cut = []
    for _ in range(BLIND_LOOKS):
        picture = Image.fromarray(frames[chance.randrange(len(frames))])
        x, y = chance.uniform(0, width - side), chance.uniform(0, height - side)
        cut.append(_resized(picture, tagger.spec.patch_size, (x, y, x + side, y + side)))
    return int(_shares(tagger, cut).amax(dim=0).argmax())


def surest_of_whole_frames(tagger: ClipTagger, scene: scenes.Scene, frames: np.ndarray) -> int:
    """Of the focus network alone, which sees them squeezed: the class that is surest in the mean."""
    numbers = spread(scene.frames, WHOLE_FRAMES)
    seen = [_resized(Image.fromarray(scene.frame(number)), WHOLE_SIDE) for number in numbers]
    return int(_shares(tagger, seen).mean(dim=0).argmax())


def _resized(picture: Image.Image, side: int, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box))


def _shares(tagger: ClipTagger, pictures: Sequence[np.ndarray]) -> Tensor:
    """Of the classes in each picture."""
    family = tagger.family
    assert isinstance(family, EvidenceGuided)
    maps = tagger.runtime.focus(family.normalised(torch.from_numpy(np.stack(pictures)))[None])
    logits: Tensor = family.focus_fc(pooled(maps))
    return logits[0].softmax(dim=-1)


def _found_alone(tagger: ClipTagger, scene: scenes.Scene, thing: scenes.PastedObject) -> bool:
    alone = replace(scene, objects=(thing,))
    numbers = tagger.family.plan(scene.frames).frames
    result = tagger.tag_frames(np.stack([alone.frame(number) for number in numbers]))
    return thing.index in {tag.index for tag in result.labels[:3]}


class First:
    """A first label, however sure, beside what is there."""

    HITS = ("object_first", "right_first")

    def __init__(self, scene: scenes.Scene, first: int) -> None:
        self.scene = scene
        self.object_first = first in {each.index for each in scene.objects}
        self.right_first = self.object_first or first == scene.background_index


class Found:
    """What was found in the frames of a scene with these numbers, beside what is there."""

    def __init__(self, scene: scenes.Scene, numbers: Sequence[int], result: VideoResult) -> None:
        self.scene, self.numbers, self.result = scene, numbers, result
        self.objects = {each.index for each in scene.objects}
        self.right = self.objects | ({scene.background_index} if scene.background_index is not None else set())
        self.first = result.labels[0] if result.labels else None
        self.both_in_three = self.objects <= {tag.index for tag in result.labels[:3]}

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


def _in(scene: scenes.Scene, least: float, most: float) -> bool:
    """Whether the height of its first object, as a part of the frame's, is between these."""
    return least <= round(scene.objects[0].size[1] / scene.size[1], 4) < most


Judged = TypeVar("Judged", Found, First)


def _print(kind: str, way: str, judged: Sequence[Judged], row: Callable[[Sequence[Judged]], list[str]]) -> None:
    for name, some in _by_height(kind, judged):
        print(f"| {name} | {way} |", " | ".join(row(some)), "|", flush=True)


def _by_height(kind: str, judged: Sequence[Judged]) -> Iterator[tuple[str, Sequence[Judged]]]:
    """All, and of one object those of each band of heights."""
    yield kind, judged
    if kind != "one":
        return
    low, high = scenes.HEIGHTS
    edges = [low + (high - low) * band / BANDS for band in range(BANDS + 1)]
    for least, most in pairwise(edges):
        inside = [each for each in judged if _in(each.scene, least, most)]
        if inside:
            yield f"{kind}, {100 * least:.0f}–{100 * most:.0f} % high", inside


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
        _share([each.both_in_three for each in pairs]),
    ]


def _short_row(firsts: Sequence[First]) -> list[str]:
    hits = [_share([getattr(each, hit) for each in firsts]) for hit in First.HITS]
    return [str(len(firsts)), *hits, *["–"] * (len(COLUMNS) - 1 - len(hits))]


def _share(hits: Sequence[bool]) -> str:
    return f"{100 * fmean(hits):.0f} %" if hits else "–"


if __name__ == "__main__":
    main()
