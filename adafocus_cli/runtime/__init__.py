"""Runs the stages of a model on a batch of clips, on some hardware.

`Runtime` is all that the tagger knows of it; only the modules in this folder name devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from torch import Tensor

from adafocus_cli.models.base import Family, Gaze, Memory, Turn


class Runtime(Protocol):
    """The stages of `Family` for `lanes` clips at a time.

    Every call has exactly `lanes` clips (the tagger fills up with copies), so that the shapes, and with them the order
    of summation and the last bit of every answer, never depend on which clips happen to be tagged together.
    """

    name: str
    device: str
    precision: str
    model: Family

    @property
    def lanes(self) -> int: ...

    def halve_lanes(self) -> bool:
        """After memory ran out: half as many clips from now on; False if there is no fewer."""

    def spread(self) -> AbstractContextManager[int]:
        """Makes ready for threads that run stages at the same time, meanwhile; how many are worth having."""

    def upload(self, clips: Sequence[np.ndarray]) -> Tensor:
        """The frames of each clip, uint8 (frames, side, side, 3), stacked, to where the stages run."""

    def glance(self, pixels: Tensor) -> Tensor: ...

    def locate(self, turn: Turn, seen: Tensor, memory: Memory) -> Gaze: ...

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor: ...

    def focus(self, patches: Tensor) -> Tensor: ...

    def classify(self, turn: Turn, seen: Tensor, focused: Tensor | None, memory: Memory) -> Tensor: ...
