"""AdaFocusV2's one stage: everything learns at once, the policy through the pixels that its patch would have had.

Every clip is looked at twice, at the policy's places and at random ones, so that the focus network learns all of the
frame and does not follow the policy's first whims. The glance's maps come to the policy detached.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.nn.heads import pooled
from adafocus_cli.training.learner import (
    Group,
    Learner,
    Progress,
    Rates,
    answering_parts,
    cross_entropy,
    parameters_of,
)
from adafocus_cli.training.look import Glance, full_precision


class EndToEnd(Learner):
    def __init__(self, model: Family, rates: Rates) -> None:
        super().__init__(model)
        self._rates = rates
        self.glance_head = nn.Linear(model.glance_net.channels, model.spec.classes)
        self.focus_head = nn.Linear(model.focus_net.channels, model.spec.classes)

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        learned, logits = self._loss(seen, seen.learned(), targets)
        # A patch as large as the frame is the same everywhere.
        everywhere = self.model.spec.patch_size == self.model.spec.frame_size
        random = learned if everywhere else self._loss(seen, seen.at_random(), targets)[0]
        loss = (learned + random) / 2
        return Progress(loss, logits[:, -1].detach(), {"learned": learned.detach(), "random": random.detach()})

    def _loss(self, seen: Glance, gaze: Gaze, targets: Tensor) -> tuple[Tensor, Tensor]:
        """All answers on the way, and what each network would answer by itself."""
        focused = seen.focus(gaze)
        logits = seen.answers(focused)
        with full_precision(focused):
            alone = [self._alone(self.glance_head, seen.maps), self._alone(self.focus_head, focused.float())]
        return torch.stack([cross_entropy(answer, targets) for answer in (logits, *alone)]).sum(), logits

    def _alone(self, head: nn.Module, maps: Tensor) -> Tensor:
        """Frame by frame; networks that see a clip together give one answer for it."""
        answers: Tensor = head(pooled(maps))
        return answers.mean(dim=1) if self.model.clip_wise else answers

    def groups(self) -> list[Group]:
        model, rates = self.model, self._rates
        return [
            Group(parameters_of(model.focus_net, self.focus_head, self.glance_head)),
            Group(parameters_of(model.glance_net), rates.glance),
            Group(parameters_of(model.get_submodule("policy")), rates.policy),
            Group(parameters_of(*answering_parts(model)), rates.answers),
        ]
