"""What only CUDA devices need: copies beside the computing, and one launch for a stage instead of hundreds.

Knows nothing of models: a stage is a function of one tensor.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger("adafocus")

Stage = Callable[[Tensor], Tensor]

# A shape that comes so often is captured; a few videos are done sooner without.
_COMES_AGAIN = 3
_WARM_UPS = 2


class Uploads:
    """Frames to the device on a stream of their own, so that they are copied beside what is being computed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, clips: Sequence[np.ndarray]) -> Tensor:
        """Clips of the same shape, stacked."""
        gathered = _gathered(clips)
        with torch.cuda.stream(self._copies):
            frames = gathered.to(self._device, non_blocking=True)
            copied = self._copies.record_event()
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(copied)
        frames.record_stream(computing)  # its memory is not given away while a stage may read it
        return frames


def _gathered(clips: Sequence[np.ndarray]) -> Tensor:
    """In pinned memory, which torch keeps when it is let go, and gives out again once the copies from it are done."""
    pinned = torch.empty((len(clips), *clips[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(clips, out=pinned.numpy())
    return pinned


@dataclass(frozen=True)
class _Graph:
    """What was captured; it always reads and writes the same memory."""

    graph: torch.cuda.CUDAGraph
    given: Tensor
    answer: Tensor

    def replay(self, given: Tensor) -> Tensor:
        self.given.copy_(given)
        self.graph.replay()
        return self.answer.clone()


class Graphs:
    """Stages as CUDA graphs, one for each shape that comes again and again. One thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # They run one after the other, so that they can share what lies between their layers.
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[str, torch.Size], _Graph] = {}
        self._times: Counter[tuple[str, torch.Size]] = Counter()
        self._given_up = False

    def run(self, name: str, stage: Stage, given: Tensor) -> Tensor:
        """What the stage of that name makes of `given`."""
        key = name, given.shape
        self._times[key] += 1
        if key not in self._graphs and self._times[key] >= _COMES_AGAIN and not self._given_up:
            try:
                self._graphs[key] = self._captured(stage, given)
            except Exception as error:
                logger.warning("%s runs %s without CUDA graphs: %s", self._device, name, " ".join(str(error).split()))
                self._given_up = True
                self.clear()
        graph = self._graphs.get(key)
        return stage(given) if graph is None else graph.replay(given)

    def clear(self) -> None:
        """Lets go of all memory that they hold."""
        self._graphs.clear()
        self._times.clear()

    def _captured(self, stage: Stage, given: Tensor) -> _Graph:
        """As torch's documentation has it: after some runs on a stream beside, which choose and load the kernels."""
        with torch.cuda.device(self._device):
            given = given.clone()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    stage(given)
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Another thread may copy frames meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                answer = stage(given)
            return _Graph(graph, given, answer)
