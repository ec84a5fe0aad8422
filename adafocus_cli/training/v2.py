"""AdaFocusV2's one stage: everything learns at once, the policy through the pixels that its patch would have had.

Every clip is looked at twice, at the policy's places and at random ones, so that the focus network learns all of the
frame and does not follow the policy's first whims. The glance's maps come to the policy detached.

Pixels tell the policy of nothing but what its patch's border cuts, and fine detail makes that noise. `ThroughFeatures`
shows it what the focus network makes of the whole frame instead, an idea of Uni-AdaFocus (Wang et al., TPAMI 2024).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.nn import patches
from adafocus_cli.nn.heads import pooled
from adafocus_cli.training.forward_pass import Glance, full_precision
from adafocus_cli.training.learner import (
    Group,
    Learner,
    Progress,
    Rates,
    answering_parts,
    cross_entropy,
    parameters_of,
)


class EndToEnd(Learner):
    def __init__(self, model: Family, rates: Rates) -> None:
        super().__init__(model)
        self._rates = rates
        self.glance_head = nn.Linear(model.glance_net.channels, model.spec.classes)
        self.focus_head = nn.Linear(model.focus_net.channels, model.spec.classes)

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        return self.two_looks(seen, seen.learned(), targets)

    @property
    def sees_all(self) -> bool:
        """Whether a patch is as large as the frame, and so the same everywhere."""
        return self.model.spec.patch_size == self.model.spec.frame_size

    def two_looks(self, seen: Glance, gaze: Gaze, targets: Tensor) -> Progress:
        learned, logits = self._loss(seen, gaze, targets)
        random = learned if self.sees_all else self._loss(seen, seen.at_random(), targets)[0]
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


class ThroughFeatures(EndToEnd):
    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        gaze = seen.learned()
        if self.sees_all:
            return self.two_looks(seen, gaze, targets)
        progress = self.two_looks(seen, Gaze(gaze.frames, gaze.boxes.detach()), targets)
        place = self._loss_of_places(seen.whole(), gaze, targets)
        return replace(progress, loss=progress.loss + place, measures={**progress.measures, "place": place.detach()})

    def _loss_of_places(self, maps: Tensor, gaze: Gaze, targets: Tensor) -> Tensor:
        """What the focus network's head would say of the features there; nothing but the places learns from it."""
        spec = self.model.spec
        scale = maps.shape[-1] / spec.frame_size
        cut = patches.sample(maps.flatten(0, 1), gaze.boxes.flatten(0, 1) * scale, round(spec.patch_size * scale))
        head = self.focus_head
        answers = F.linear(pooled(cut), head.weight.detach(), head.bias.detach())
        return cross_entropy(answers.view(*maps.shape[:2], -1), targets)
