"""Writes made-up videos of a world into a folder, one folder a label, for trying out training and evaluation.

python examples/render.py FOLDER --world motion --labels "object moves left" "nothing moves" --per-label 20 --seed 1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import av
import numpy as np

from adafocus_cli.errors import UsageError
from adafocus_cli.worlds import WORLDS, Scene, world

# Frames are rendered and written in parts, for scenes may be long.
_AT_ONCE = 16


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 18) -> None:
    """H.264, of nearly full quality if not told otherwise, from frames of height × width × RGB whose sides are even."""
    rest = iter(frames)
    first = next(rest)
    with av.open(str(path), "w") as output:
        # x264's bytes depend on the number of threads, and differ between runs where it follows blocks through time.
        options = {"crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
        stream = output.add_stream("libx264", rate=round(fps), options=options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in chain([first], rest):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))


def frames_of(scene: Scene) -> Iterator[np.ndarray]:
    for start in range(0, scene.count, _AT_ONCE):
        yield from scene.frames(range(start, min(scene.count, start + _AT_ONCE)))


def render(folder: Path, name: str, *, labels: list[str] | None, per_label: int, seed: int, unseen: bool) -> int:
    """How many videos it has written."""
    made = world(name, unseen=unseen)
    places = {label: place for place, label in enumerate(made.labels)}
    chosen = labels or list(made.labels)
    unknown = [label for label in chosen if label not in places]
    if unknown:
        raise UsageError(f"the world {name} has no label {unknown[0]!r}; its labels are {', '.join(made.labels)}")
    for label in chosen:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_label):
            # A seed of its own for each video: else labels would share backgrounds.
            scene = made.scene((seed * len(places) + places[label]) * 1_000_000 + number, label=places[label])
            write_video(folder / label / f"{number:03}.mp4", frames_of(scene), scene.fps)
    return per_label * len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", default="motion", choices=list(WORLDS))
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="without it, all labels of the world")
    parser.add_argument("--per-label", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unseen", action="store_true", help="textures and shapes that training never shows")
    given = parser.parse_args()
    try:
        count = render(
            given.folder,
            given.world,
            labels=given.labels,
            per_label=given.per_label,
            seed=given.seed,
            unseen=given.unseen,
        )
    except UsageError as error:
        parser.error(str(error))
    print(f"{count} videos are in {given.folder}")


if __name__ == "__main__":
    main()
