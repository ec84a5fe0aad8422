"""The plain path, which everything is compared with: a model as its authors run it for one video.

Eager, in full precision, nothing folded or laid out anew; all frames are glanced at, then each step looks and answers
by itself. Networks that see a clip as a whole get it as a whole, as theirs do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adafocus_cli.benchmark.bench_model import noise
from adafocus_cli.benchmark.interleaved import Entrant, whole
from adafocus_cli.models.base import Family, Gaze, Memory
from adafocus_cli.video.sampling import FramePlan


class PlainPath:
    def __init__(self, model: Family, device: str) -> None:
        self.model = model.to(device)
        self._device = device

    def entrant(self, name: str) -> Entrant:
        """One clip."""
        clip = noise(self.model)
        pixels = clip.pixels(range(len(clip.plan.frames)))
        return Entrant(name, whole(lambda: self.answer(pixels, clip.plan)))

    @torch.inference_mode()
    def answer(self, pixels: np.ndarray, plan: FramePlan) -> Tensor:
        """From the frames of a plan, uint8 (frames, side, side, 3), to the logits of the last step."""
        model = self.model
        frames = torch.tensor(pixels).to(self._device)
        maps = model.glance(model.normalised(frames[list(plan.glance)])[None])
        candidates = frames[list(plan.focus)]
        memory: Memory = {}
        turns = model.turns(1)
        for turn in turns:
            seen = maps[:, list(turn.glance)] if turn.glance and len(turns) > 1 else maps
            focused = None
            if turn.looks:
                gaze = model.locate(turn, seen, memory)
                focused = model.focus(self._looked_at(candidates, gaze))
            logits = model.classify(turn, seen, focused, memory)
        return logits[0, -1].cpu()

    def _looked_at(self, candidates: Tensor, gaze: Gaze) -> Tensor:
        if gaze.features is not None:
            return gaze.features
        return self.model.patches(candidates[gaze.frames[0]], gaze.boxes[0])[None]
