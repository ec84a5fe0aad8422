"""Scenes of a made-up world as labelled videos, of the kind that training never shows. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.schema import Box, VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.pictures import preprocess, resized
from adafocus_cli.worlds import Scene, world

WORLD = "world:"
COUNT = 500
# The scenes of two seeds begin so far apart. Training takes its scenes by hashes of 63 bits, far above such numbers.
_APART = 1_000_000


def scenes(data: str, count: int, seed: int) -> Dataset:
    """`world:NAME#N` for every scene, with the same share of each label; another seed has other scenes."""
    labels = world(data.removeprefix(WORLD)).labels
    numbers = range(seed * _APART, seed * _APART + count)
    return Dataset(tuple(Sample(f"{data}#{number}", labels[number % len(labels)]) for number in numbers), data)


def is_scene(path: str) -> bool:
    return path.startswith(WORLD)


@dataclass(frozen=True)
class Rendered:
    """A scene as a source of frames."""

    path: str
    scene: Scene

    @classmethod
    def open(cls, path: str) -> Rendered:
        """One of those that `scenes` names."""
        name, _, number = path.removeprefix(WORLD).partition("#")
        unseen = world(name, unseen=True)
        return cls(path, unseen.scene(int(number), label=int(number) % len(unseen.labels)))

    def info(self) -> VideoInfo:
        return VideoInfo(
            path=self.path,
            width=self.scene.side,
            height=self.scene.side,
            fps=self.scene.fps,
            frames=self.scene.count,
            duration=self.scene.count / self.scene.fps,
            codec="none",
            rotation=0,
            decoder="rendered",
        )

    def pixels(self, frame: int, framing: Framing) -> np.ndarray:
        """As in training: all of the frame, not its middle; squares, so that all crops are the same."""
        if framing.area is not None:
            return preprocess(self.source(frame), framing)
        picture: np.ndarray = resized(self.scene.frames([frame]), framing.size)[0]
        return np.tile(picture, (1, framing.crops, 1))

    def source(self, frame: int) -> np.ndarray:
        picture: np.ndarray = self.scene.frames([frame])[0]
        return picture

    def seconds_at(self, frame: int) -> float:
        return frame / self.scene.fps

    def to_source(self, framing: Framing) -> Callable[[Box], Box]:
        if framing.area is not None:
            return framing.geometry(self.scene.side, self.scene.side).to_source

        def to_scene(box: Box) -> Box:
            left, top, right, bottom = (value * self.scene.side / framing.size for value in box)
            return left, top, right, bottom

        return to_scene
