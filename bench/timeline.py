"""How well segments match films with known parts: `python bench/timeline.py --films 5`.

A film has five parts of 20 seconds, each of four scenes of the world *motion* that have the same answer and that
training never shows. The answers are those that can go on: between two scenes in which an object comes closer it also
disappears.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import av
import numpy as np

from adafocus_cli.api import Tagger
from adafocus_cli.schema import Segment
from adafocus_cli.worlds import world

FPS, SCENE_SECONDS, SCENES, PARTS = 8, 5, 4, 5
PART_SECONDS = SCENE_SECONDS * SCENES
LASTING = ("pans", "tilts", "zooms", "rolls", "moves")


@dataclass(frozen=True)
class Match:
    """Of each part, how much of it and the segment that fits best overlap; of each boundary, how far it is off."""

    overlaps: tuple[float, ...]
    distances: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="motion")
    parser.add_argument("--films", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--stride", type=float, default=2.5)
    given = parser.parse_args()
    tagger, matches = Tagger.load(given.model), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seed, given.seed + given.films):
            film = Path(folder, "film.mp4")
            labels = make(film, seed)
            result = tagger.tag_video(film, window=given.window, stride=given.stride)
            matches.append(match(result.segments, labels))
            print(f"{seed}: {shown(matches[-1])} in {len(result.segments)} segments of {', '.join(labels)}", flush=True)
    print(
        f"overlap {fmean(share for each in matches for share in each.overlaps):.3f} in the mean of {given.films} films"
    )


def shown(match: Match) -> str:
    return f"overlap {fmean(match.overlaps):.3f}, boundaries within {max(match.distances):.2f} s"


def make(path: Path, seed: int) -> list[str]:
    """Writes a film; the labels of its parts."""
    chance = np.random.default_rng(seed)
    names = world("motion").labels
    lasting = [place for place, name in enumerate(names) if name.split()[1] in LASTING]
    labels = chance.permutation(lasting)[:PARTS].tolist()
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"crf": "18", "threads": "1", "preset": "veryfast"})
        stream.width = stream.height = 224
        stream.pix_fmt = "yuv420p"
        for label in labels:
            for _ in range(SCENES):
                for picture in scene(chance, label):
                    output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return [names[label] for label in labels]


def scene(chance: np.random.Generator, label: int) -> Iterator[np.ndarray]:
    """As many frames of a scene as it is to last, evenly from the beginning to the end of its motion."""
    count = FPS * SCENE_SECONDS
    unseen = world("motion", unseen=True)
    one = unseen.scene(int(chance.integers(1 << 40)), label=label)
    while one.count < count:
        one = unseen.scene(int(chance.integers(1 << 40)), label=label)
    for number in range(count):
        yield from one.frames([number * one.count // count])


def match(segments: Sequence[Segment], labels: Sequence[str]) -> Match:
    parts = [(PART_SECONDS * place, PART_SECONDS * (place + 1), label) for place, label in enumerate(labels)]
    overlaps = [
        max((overlap(s, start, end) for s in segments if s.label == name), default=0) for start, end, name in parts
    ]
    boundaries = [segment.start for segment in segments[1:]]
    distances = [min((abs(t - start) for t in boundaries), default=PART_SECONDS) for start, *_ in parts[1:]]
    return Match(tuple(overlaps), tuple(distances))


def overlap(segment: Segment, start: float, end: float) -> float:
    """Intersection over union."""
    both = min(segment.end, end) - max(segment.start, start)
    return max(0.0, both) / (max(segment.end, end) - min(segment.start, start))


if __name__ == "__main__":
    main()
