"""Tunes the end of the quick recipe's network on clips: its last blocks and its head; norms stay as they are.

Of each clip it needs what the first blocks make of its frames, which does not change and is kept in a file. Knows
nothing of what the tuned network is good for: the layer that it is tuned with is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.models.taught import Taught
from adafocus_cli.nn.backbones import EfficientNetLite
from adafocus_cli.training.clips import seed_for

_EPOCHS = 8
_CLIPS_A_STEP = 8
_RATE, _LAYER_RATE, _WEIGHT_DECAY = 2e-4, 3e-3, 0.05
_DROPOUT, _SMOOTHING = 0.5, 0.1
_SCALE = 10.0  # of the evidence, whose vectors have length 1


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Tunes the pretrained network of a model, each time anew."""

    model: Taught
    device: str
    seed: int
    step_done: Callable[[], None]

    @staticmethod
    def steps(clips: int) -> int:
        """That are taken to tune on so many clips."""
        return _EPOCHS * -(-clips // _CLIPS_A_STEP)

    def tuned(self, maps: Sequence[Path], targets: Tensor, classes: int) -> EfficientNetLite:
        """The network, tuned on these clips; in each epoch a clip or its mirror image is shown."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("tuning", self.seed))
            network = deepcopy(self.model.glance_net).to(self.device)
            layer = nn.Linear(sum(map(self.model.whole_kinds.__getitem__, ("things", "changes"))), classes)
            for zero in layer.parameters():
                nn.init.zeros_(zero)
            layer.to(self.device)
            rates = (_RATE, _LAYER_RATE)
            parts = [list(network.deep_weights()), list(layer.parameters())]
            optimizer = torch.optim.AdamW(
                [{"params": part, "lr": rate} for part, rate in zip(parts, rates, strict=True)],
                weight_decay=_WEIGHT_DECAY,
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [*rates], total_steps=self.steps(len(maps)))
            for _ in range(_EPOCHS):
                for clips in torch.split(torch.randperm(len(maps)), _CLIPS_A_STEP):
                    optimizer.zero_grad()
                    for clip in clips.tolist():
                        views = np.load(maps[clip], mmap_mode="r")
                        shown = views[int(torch.randint(len(views), ()))]
                        seen = self.model.seen_deep(network, self._tensor(shown[None]))
                        answer = layer(F.dropout(_SCALE * seen, _DROPOUT))
                        loss = F.cross_entropy(
                            answer, targets[clip : clip + 1].to(self.device), label_smoothing=_SMOOTHING
                        )
                        (loss / len(clips)).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    self.step_done()
        return network.requires_grad_(False)

    @torch.inference_mode()
    def evidence(self, network: EfficientNetLite, maps: Sequence[Path], evidence: np.ndarray) -> np.ndarray:
        """That of clips (clips, views, numbers), with things and changes as this network sees them."""
        views = evidence.shape[1]
        seen = torch.stack([self.model.seen_deep(network, self._tensor(np.load(path)[:views])) for path in maps])
        return np.concatenate((seen.half().cpu().numpy(), evidence[:, :, seen.shape[2] :]), axis=2)

    def _tensor(self, maps: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(maps)).to(self.device).float()
