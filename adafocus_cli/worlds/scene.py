"""What a world is: synthetic videos with known labels, each identified by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

SIDE = 224


class Scene(Protocol):
    """One video: `label` is an index into its world's labels, `count` its number of frames."""

    @property
    def label(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def fps(self) -> float: ...
    @property
    def side(self) -> int: ...

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        """Bytes of frames × side × side × RGB; a frame is the same whichever others are asked for."""
        ...


class World(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def scene(self, seed: int, *, label: int | None = None) -> Scene:
        """The scene of a seed; without a label, the seed also chooses that."""
        ...
