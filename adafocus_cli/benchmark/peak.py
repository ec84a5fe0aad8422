"""What a machine can do at most: a product of two large matrices, which all its networks are made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import torch

from adafocus_cli.benchmark.rounds import Entrant, Timing, ratio, whole
from adafocus_cli.benchmark.stages import finish
from adafocus_cli.runtime.pytorch import PRECISIONS

_SMALLEST, _LARGEST = 512, 16384
_SECONDS = 0.05  # of work: long beside what it takes to begin


class MatrixProduct:
    """Square, in a number format, and large enough to take a while."""

    def __init__(self, device: str, precision: str) -> None:
        self.name = f"matrix product, {precision}"
        self._device = device
        self._format = PRECISIONS[precision]
        self._tf32 = precision == "tf32"

    def entrant(self) -> Entrant:
        return Entrant(self.name, whole(self._multiply))

    def rates(self, timing: Timing) -> list[float]:
        """10⁹ multiply-adds a second, in each round."""
        gmacs = len(self._factor) ** 3 / 1e9
        return [gmacs / seconds for seconds in timing.seconds()]

    def _multiply(self, factor: torch.Tensor | None = None) -> None:
        factor, usual = self._factor if factor is None else factor, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = self._tf32
        try:
            finish(factor @ factor)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = usual

    @cached_property
    def _factor(self) -> torch.Tensor:
        side = _SMALLEST
        while True:
            factor = torch.randn(side, side, device=self._device).to(self._format)
            self._multiply(factor)
            started = time.perf_counter()
            self._multiply(factor)
            if time.perf_counter() - started > _SECONDS or side == _LARGEST:
                return factor
            side *= 2


def share(gmacs: float, seconds: Sequence[float], rates: Sequence[float]) -> float:
    """How much of these rates so much work reached, done in so many seconds in the same rounds."""
    return ratio([gmacs / each for each in seconds], rates)
