"""Scenes to measure `objects` with: labelled photographs pasted into others, as videos whose answers are known.

    python bench/scenes.py PHOTOS OUT [--count 300] [--seed 0] [--kinds one,two] [--half even]

PHOTOS is a folder of pictures whose names are ImageNet's numbers (0207.jpg). OUT gets an MP4 a scene and scenes.jsonl
with what is to be seen where. Kinds: `one` and `two` objects, still or moving, in front of a blurred or a sharp
photograph; `filling`, a photograph as large as the frame; `empty`, a blurred background alone. `--half` takes every
other photograph, so that constants are fitted on some and measured on others.

The same seed and photographs give the same scenes. A frame can also be had without a video: `scene.frame(12)`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from adafocus_cli.benchmark.videos import encode

KINDS = ("one", "two", "filling", "empty")
SIZES = ((960, 540), (1920, 1080))
HEIGHTS = (0.1, 0.6)  # of an object, as a part of the frame's height
CLIP_HEIGHTS = (0.25, 0.5)  # of a clip that is pasted whole
WIDEST = 0.8  # and at most this part of its width
BLUR = (0.015, 0.05)  # standard deviation, as a part of the frame's height
SECONDS = (3.0, 10.0)
RATES = (24, 25, 30)
_TRIES = 200

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PastedObject:
    """A photograph in the frame: its middle goes from `start` to `end` (x, y) in the course of the video."""

    photo: Path
    size: tuple[int, int]
    start: tuple[float, float]
    end: tuple[float, float]

    @property
    def index(self) -> int:
        return index_of(self.photo)

    @property
    def moves(self) -> bool:
        return self.start != self.end

    def box(self, progress: float) -> Box:
        """Left, top, right, bottom at a moment from 0 (the first frame) to 1 (the last)."""
        width, height = self.size
        x, y = (a + progress * (b - a) for a, b in zip(self.start, self.end, strict=True))
        left, top = round(x - width / 2), round(y - height / 2)
        return (left, top, left + width, top + height)

    @cached_property
    def picture(self) -> Image.Image:
        return Image.open(self.photo).convert("RGB").resize(self.size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Scene:
    kind: str
    seed: int
    size: tuple[int, int]
    rate: int
    frames: int
    background: Path
    blur: float
    """Standard deviation in pixels; 0: the background is sharp, and naming it is right too."""
    objects: tuple[PastedObject, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed:05}"

    @property
    def background_index(self) -> int | None:
        """What the background shows, where that can be seen."""
        return None if self.blur else index_of(self.background)

    def frame(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """uint8 RGB (height, width, 3)."""
        canvas = self.backdrop.copy()
        for item in self.objects:
            left, top, *_ = item.box(self._progress(number))
            canvas.paste(item.picture, (int(left), int(top)))
        return np.asarray(canvas)

    @cached_property
    def backdrop(self) -> Image.Image:
        picture = ImageOps.fit(Image.open(self.background).convert("RGB"), self.size, Image.Resampling.BICUBIC)
        if not self.blur:
            return picture
        small = picture.reduce(4)  # blurred all the same, and sooner
        return small.filter(ImageFilter.GaussianBlur(self.blur / 4)).resize(self.size, Image.Resampling.BICUBIC)

    def truth(self) -> dict[str, Any]:
        """What scenes.jsonl says of it; boxes at the first and at the last frame."""
        return {
            "video": f"{self.name}.mp4",
            "kind": self.kind,
            "seed": self.seed,
            "width": self.size[0],
            "height": self.size[1],
            "frames": self.frames,
            "background": self.background_index,
            "objects": [
                {"index": item.index, "moves": item.moves, "first": item.box(0.0), "last": item.box(1.0)}
                for item in self.objects
            ],
        }

    def _progress(self, number: int) -> float:
        return number / max(1, self.frames - 1)


def scenes(photos: Sequence[Path], kind: str, count: int, seed: int = 0) -> Iterator[Scene]:
    for number in range(seed * count, (seed + 1) * count):
        yield scene(photos, kind, number)


def scene(photos: Sequence[Path], kind: str, seed: int) -> Scene:
    # A background or an object of a seed does not depend on what is drawn for another.
    chance = random.Random(f"{kind} {seed}")
    size = chance.choice(SIZES)
    rate = chance.choice(RATES)
    frames = round(rate * chance.uniform(*SECONDS))
    shown = chance.sample(list(photos), 3)
    sharp = kind == "filling" or (kind != "empty" and chance.random() < 0.5)
    blur = 0.0 if sharp else size[1] * chance.uniform(*BLUR)
    objects: tuple[PastedObject, ...] = ()
    wanted = {"one": 1, "two": 2}.get(kind, 0)
    if wanted:
        objects = _apart(chance, shown[1 : 1 + wanted], size)
    return Scene(kind, seed, size, rate, frames, shown[0], blur, objects)


def _apart(chance: random.Random, photos: Sequence[Path], size: tuple[int, int]) -> tuple[PastedObject, ...]:
    """Objects that never cover each other."""
    for _ in range(_TRIES):
        drawn = tuple(_pasted(chance, photo, size) for photo in photos)
        moments = [[item.box(step / 20) for item in drawn] for step in range(21)]
        if all(not overlap(*boxes) for boxes in moments if len(boxes) == 2):
            return drawn
    raise ValueError(f"{size[0]} × {size[1]} has no room for {len(photos)} objects; give other photographs")


def _pasted(chance: random.Random, photo: Path, frame: tuple[int, int]) -> PastedObject:
    with Image.open(photo) as picture:
        shape = picture.width / picture.height
    height = min(frame[1] * chance.uniform(*HEIGHTS), WIDEST * frame[0] / shape)
    size = (max(1, round(height * shape)), max(1, round(height)))
    start = _middle(chance, size, frame)
    end = _middle(chance, size, frame) if chance.random() < 0.5 else start
    return PastedObject(photo, size, start, end)


def _middle(chance: random.Random, size: tuple[int, int], frame: tuple[int, int]) -> tuple[float, float]:
    """So that all of it is in the frame."""
    x, y = (chance.uniform(part / 2, whole - part / 2) for part, whole in zip(size, frame, strict=True))
    return x, y


def in_scene(frames: Sequence[np.ndarray], photo: Path, key: str) -> list[np.ndarray]:
    """Frames of a clip pasted into a sharp photograph of 1080p, 25 to 50 % of its height, where `key` says."""
    chance, (width, height) = random.Random(key), SIZES[-1]
    rows, columns = frames[0].shape[:2]
    high = height * chance.uniform(*CLIP_HEIGHTS)
    high = min(high, WIDEST * width * rows / columns)
    size = (round(high * columns / rows), round(high))
    left, top = (chance.randrange(whole - part + 1) for part, whole in zip(size, (width, height), strict=True))
    backdrop = ImageOps.fit(Image.open(photo).convert("RGB"), (width, height), Image.Resampling.BICUBIC)
    scene = []
    for frame in frames:
        backdrop.paste(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC), (left, top))
        scene.append(np.array(backdrop))
    return scene


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def index_of(photo: Path) -> int:
    return int(photo.stem)


def photographs(folder: Path, half: str = "all") -> list[Path]:
    found = sorted(folder.glob("[0-9][0-9][0-9][0-9].jpg"))
    if len(found) < 6:
        raise SystemExit(f"{folder} has {len(found)} pictures named as in 0207.jpg; give a folder with 6 or more")
    return {"all": found, "even": found[::2], "odd": found[1::2]}[half]


def write(drawn: Scene, path: Path) -> None:
    """A keyframe every two seconds."""
    still = not any(item.moves for item in drawn.objects)
    pictures = repeat(drawn.frame(0), drawn.frames) if still else map(drawn.frame, range(drawn.frames))
    options = {"preset": "ultrafast", "crf": "21", "g": str(2 * drawn.rate)}
    encode(path, pictures, fps=drawn.rate, size=drawn.size, options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=300, help="scenes of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    given = parser.parse_args()
    photos = photographs(given.photos, given.half)
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "scenes.jsonl").open("w") as answers:
        for kind in given.kinds.split(","):
            for drawn in scenes(photos, kind, given.count, given.seed):
                path = given.out / f"{drawn.name}.mp4"
                if not path.exists():
                    write(drawn, path)
                print(json.dumps(drawn.truth()), file=answers, flush=True)
            print(f"{kind}: {given.count} scenes in {given.out}", flush=True)


if __name__ == "__main__":
    main()
