"""A folder of clips to measure with: a few scenes of the world *motion* under many names, no two the same bytes."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

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
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream("libx264", rate=Fraction(scene.fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in scene.frames(range(scene.count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(*size, format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
