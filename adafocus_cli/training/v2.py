"""The one stage of AdaFocusV2: everything learns at once, the policy through the interpolated pixels of its patch.

Every clip is looked at twice, at the policy's points and at random ones, so that the focus network learns from all of
the frame whatever the policy does at first. The policy gets the glance's maps detached.

The gradient through pixels only says what moving the patch's border would add, and fine detail makes it noisy. In
`ThroughFeatures` the policy learns from the focus network's maps of the whole frame instead, an idea of Uni-AdaFocus
(Wang et al., TPAMI 2024).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import sample
from adafocus_cli.training.forward_pass import ForwardPass, full_precision
from adafocus_cli.training.learner import (
    Learner,
    ParameterGroup,
    Rates,
    StepResult,
    answering_parts,
    cross_entropy,
    parameters_of,
)


class EndToEnd(Learner):
    """Trains all parts at once; the policy by the gradient through its patches' pixels."""

    def __init__(self, model: Family, rates: Rates) -> None:
        super().__init__(model)
        self._rates = rates
        self.glance_head = nn.Linear(model.glance_net.channels, model.spec.classes)
        self.focus_head = nn.Linear(model.focus_net.channels, model.spec.classes)

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        return self.policy_and_random(forward, forward.policy_gaze(), targets)

    @property
    def patch_is_frame(self) -> bool:
        """Whether a patch is as large as the frame, and so the same everywhere."""
        return self.model.spec.patch_size == self.model.spec.frame_size

    def policy_and_random(self, forward: ForwardPass, gaze: Gaze, targets: Tensor) -> StepResult:
        learned, logits = self._loss(forward, gaze, targets)
        random = learned if self.patch_is_frame else self._loss(forward, forward.random_gaze(), targets)[0]
        loss = (learned + random) / 2
        return StepResult(loss, logits[:, -1].detach(), {"learned": learned.detach(), "random": random.detach()})

    def _loss(self, forward: ForwardPass, gaze: Gaze, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the answers after every step, and of what each network answers by itself."""
        focused = forward.focus(gaze)
        logits = forward.answers(focused)
        with full_precision(focused):
            own_answers = [
                self._answers_of(self.glance_head, forward.maps),
                self._answers_of(self.focus_head, focused.float()),
            ]
        return torch.stack([cross_entropy(answer, targets) for answer in (logits, *own_answers)]).sum(), logits

    def _answers_of(self, head: nn.Module, maps: Tensor) -> Tensor:
        """A network's answers frame by frame; one for the clip where frames exchange features."""
        answers: Tensor = head(pooled(maps))
        return answers.mean(dim=1) if self.model.clip_wise else answers

    def groups(self) -> list[ParameterGroup]:
        model, rates = self.model, self._rates
        return [
            ParameterGroup(parameters_of(model.focus_net, self.focus_head, self.glance_head)),
            ParameterGroup(parameters_of(model.glance_net), rates.glance),
            ParameterGroup(parameters_of(model.get_submodule("policy")), rates.policy),
            ParameterGroup(parameters_of(*answering_parts(model)), rates.answers),
        ]


class ThroughFeatures(EndToEnd):
    """As `EndToEnd`, but the policy learns from the focus network's maps of whole frames."""

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        gaze = forward.policy_gaze()
        if self.patch_is_frame:
            return self.policy_and_random(forward, gaze, targets)
        result = self.policy_and_random(forward, Gaze(gaze.frames, gaze.boxes.detach()), targets)
        policy_loss = self._policy_loss(forward.whole_frame_maps(), gaze, targets)
        return replace(
            result, loss=result.loss + policy_loss, measures={**result.measures, "place": policy_loss.detach()}
        )

    def _policy_loss(self, maps: Tensor, gaze: Gaze, targets: Tensor) -> Tensor:
        """Cross-entropy of the focus head on the features at the policy's points; only the policy learns from it."""
        spec = self.model.spec
        scale = maps.shape[-1] / spec.frame_size
        cut = sample(maps.flatten(0, 1), gaze.boxes.flatten(0, 1) * scale, round(spec.patch_size * scale))
        head = self.focus_head
        answers = F.linear(pooled(cut), head.weight.detach(), head.bias.detach())
        return cross_entropy(answers.view(*maps.shape[:2], -1), targets)
