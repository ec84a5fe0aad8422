"""A folder of clips to measure with: a few scenes of the world *motion* under many names, no two the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from adafocus_cli.benchmark.videos import encode
from adafocus_cli.worlds import Scene, world

SCENES = 8


def make(folder: Path, count: int, *, size: tuple[int, int] = (640, 360)) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    originals = [_encoded(folder / f"scene-{seed}", world("motion").scene(seed), size) for seed in range(SCENES)]
    paths = []
    for number in range(count):
        path = folder / f"{number:07}.mp4"
        shutil.copy(originals[number % SCENES], path)
        with path.open("ab") as file:
            file.write(number.to_bytes(4, "big"))  # players skip it; it is no twin of another
        paths.append(str(path))
    for original in originals:
        original.unlink()
    return paths


def _encoded(path: Path, scene: Scene, size: tuple[int, int]) -> Path:
    encode(path, scene.frames(range(scene.count)), fps=scene.fps, size=size)
    return path
