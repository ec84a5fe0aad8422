"""Composes the examples of `objects` from photographs: `python examples/photographs.py PICTURES examples`.

PICTURES is the folder `skimage/data` of the package scikit-image 0.26, which only this script needs:

    pip download scikit-image==0.26.0 --no-deps && unzip scikit_image-*.whl 'skimage/data/*'

All pictures taken from it are free, as its documentation of `skimage.data` says:

    chelsea.png  a cat; CC0 by the photographer, Stefan van der Walt
    coffee.png   an espresso; CC0 by the photographer, Rachel Michetti, courtesy of Pikolo Espresso Bar
    camera.png   a camera on a tripod; CC0 by the photographer, Lav Varshney
    rocket.jpg   a launch; released into the public domain by SpaceX
    grass.png    CC0, from DeviantArt (linolafett)
    brick.png    CC0, from CC0Textures

answers.csv gets one thing that each clip shows. ImageNet knows breeds of cats, not cats; this cat's breed is not
recorded, and "Egyptian cat" is the spotted one of them. The clip of grass alone shows nothing that ImageNet names, and
has no answer.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from render import write_video

SIZE = (960, 540)
RATE = 25
SECONDS = 4

Point = tuple[float, float]


@dataclass(frozen=True)
class Cutting:
    """A part of a photograph, `height` pixels high; its middle goes from `start` to `end` in the course of a clip."""

    photo: str
    height: int
    start: Point
    end: Point
    part: tuple[float, float, float, float] = (0, 0, 1, 1)

    def picture(self, folder: Path) -> Image.Image:
        whole = Image.open(folder / self.photo).convert("RGB")
        left, top, right, bottom = (round(side * n) for side, n in zip(self.part, whole.size * 2, strict=True))
        cut = whole.crop((left, top, right, bottom))
        return cut.resize((round(self.height * cut.width / cut.height), self.height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Clip:
    background: str
    blur: float
    cuttings: tuple[Cutting, ...]
    answer: str | None = None

    def frames(self, folder: Path) -> Iterator[np.ndarray]:
        backdrop = ImageOps.fit(Image.open(folder / self.background).convert("RGB"), SIZE, Image.Resampling.LANCZOS)
        if self.blur:
            backdrop = backdrop.filter(ImageFilter.GaussianBlur(self.blur))
        pictures = [cutting.picture(folder) for cutting in self.cuttings]
        for progress in np.linspace(0, 1, RATE * SECONDS):
            frame = backdrop.copy()
            for cutting, picture in zip(self.cuttings, pictures, strict=True):
                x, y = (a + progress * (b - a) for a, b in zip(cutting.start, cutting.end, strict=True))
                frame.paste(picture, (round(x - picture.width / 2), round(y - picture.height / 2)))
            yield np.asarray(frame)


CLIPS = {
    "cat-and-tripod": Clip(
        "rocket.jpg",
        10,
        (
            Cutting("chelsea.png", 190, (230, 180), (330, 180)),
            Cutting("camera.png", 210, (730, 360), (730, 360)),
        ),
        answer="tripod",
    ),
    "cat-on-grass": Clip("grass.png", 0, (Cutting("chelsea.png", 190, (200, 380), (560, 360)),), answer="Egyptian cat"),
    "espresso": Clip("coffee.png", 0, (), answer="espresso"),
    "espresso-on-bricks": Clip(
        "brick.png",
        0,
        (Cutting("coffee.png", 230, (300, 230), (300, 230), part=(0.1, 0, 0.85, 1)),),
        answer="espresso",
    ),
    "grass": Clip("grass.png", 0, ()),
    "tripod": Clip(
        "coffee.png",
        16,
        (Cutting("camera.png", 250, (250, 300), (450, 300), part=(0.3, 0.1, 1, 1)),),
        answer="tripod",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    for name, clip in CLIPS.items():
        write_video(given.folder / f"{name}.mp4", clip.frames(given.pictures), RATE, crf=23)
    with (given.folder / "answers.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "label"))
        rows.writerows((f"{name}.mp4", clip.answer) for name, clip in CLIPS.items() if clip.answer)
    print(f"{len(CLIPS)} videos are in {given.folder}")


if __name__ == "__main__":
    main()
