"""The one stage of AdaFocusV2: everything learns at once, the policy through the interpolated pixels of its patch.

Every clip is looked at twice, at the policy's points and at random ones, so that the focus network learns from all of
the frame whatever the policy does at first. The policy gets the glance's maps detached.

The gradient through pixels only says what moving the patch's border would add, and fine detail makes it noisy. In
`ThroughFeatures` the policy learns from the focus network's maps of the whole frame instead, an idea of Uni-AdaFocus
(Wang et al., TPAMI 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.models.v2_tsm import AdaFocusV2TSM
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import sample
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.forward_pass import ForwardPass, at_least_single, full_precision
from adafocus_cli.training.learner import (
    Learner,
    Part,
    StepResult,
    answering_parts,
    cross_entropy,
    new_head,
    policies_of,
)

POLICY, RANDOM = "policy", "random"
TSM_STD = 0.001
"""Of new linear layers over networks on TSM."""


class EndToEnd(Learner):
    """Trains all parts of AdaFocusV2 at once; the policy by the gradient through its patches' pixels."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.glance_head = new_head(model.glance_net.channels, model.spec.classes)
        self.focus_head = new_head(model.focus_net.channels, model.spec.classes)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {
            "policy": policies_of(model),
            "glance": (model.glance_net, self.glance_head),
            "focus": (model.focus_net, self.focus_head),
            "answers": answering_parts(model),
        }

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        return self.policy_and_random(forward, forward.policy_gaze(), targets)

    @property
    def patch_is_frame(self) -> bool:
        """Whether a patch is as large as the frame, and so the same everywhere."""
        return self.model.spec.patch_size == self.model.spec.frame_size

    def policy_and_random(self, forward: ForwardPass, gaze: Gaze, targets: Tensor) -> StepResult:
        """The mean of the losses of both looks; of one, if they see the same."""
        gazes = {POLICY: gaze}
        if not self.patch_is_frame:
            gazes[RANDOM] = forward.random_gaze(self.draws)
        answers = {
            (look, name): logits
            for look, there in gazes.items()
            for name, logits in self.look_answers(forward, forward.focus(there)).items()
        }
        return mean_of_looks(answers, len(gazes), targets)

    def look_answers(self, forward: ForwardPass, focused: Tensor) -> dict[str, Tensor]:
        """What a look answers after every step, and what each network answers by itself; dropout is drawn for each."""
        drop = self.model.dropout
        logits = forward.answers(focused)
        with full_precision(focused):
            return {
                "answer": logits,
                "glance": self.glance_head(drop(pooled(forward.maps))),
                "focus": self.focus_head(drop(pooled(at_least_single(focused)))),
            }


def mean_of_looks(answers: Mapping[tuple[str, str], Tensor], looks: int, targets: Tensor) -> StepResult:
    """Answers of (look, name) → their cross-entropies, added up and divided by the number of looks."""
    terms = {f"{look}_{name}": cross_entropy(logits, targets) for (look, name), logits in answers.items()}
    loss = torch.stack(list(terms.values())).sum() / looks
    logits = answers[POLICY, "answer"]
    final = logits[:, -1] if logits.ndim == 3 else logits
    return StepResult(loss, final.detach(), {name: term.detach() for name, term in terms.items()})


class EndToEndTSM(Learner):
    """Trains all parts of AdaFocusV2 on TSM at once.

    The layers that answer read detached features; layers of their own (`…_head`) teach the networks and, through its
    patches' pixels, the policy.
    """

    def __init__(self, model: AdaFocusV2TSM) -> None:
        super().__init__(model)
        self.glance_head = new_head(model.glance_net.channels, model.spec.classes, std=TSM_STD)
        self.focus_head = new_head(model.focus_net.channels, model.spec.classes, std=TSM_STD)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        assert isinstance(model, AdaFocusV2TSM)
        return {
            "policy": policies_of(model),
            "glance": (model.glance_net, model.glance_fc, self.glance_head),
            "focus": (model.focus_net, model.focus_fc, self.focus_head),
        }

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        model = self.model
        assert isinstance(model, AdaFocusV2TSM)
        forward = ForwardPass.of(model, frames)
        glance, by_glance = two_answers(model.dropout, forward.maps, model.glance_fc, self.glance_head)
        answers = {}
        for look, gaze in ((RANDOM, forward.random_gaze(self.draws)), (POLICY, forward.policy_gaze())):
            focus, by_focus = two_answers(model.dropout, forward.focus(gaze), model.focus_fc, self.focus_head)
            answers[look, "answer"] = glance.mean(dim=1) + focus.mean(dim=1)
            answers[look, "glance"] = by_glance.mean(dim=1)
            answers[look, "focus"] = by_focus.mean(dim=1)
        return mean_of_looks(answers, 2, targets)


def two_answers(drop: nn.Module, maps: Tensor, answering: nn.Linear, teaching: nn.Linear) -> tuple[Tensor, Tensor]:
    """A network's maps (b, t, c, h, w) → logits (b, t, classes) of a layer that learns alone, and of one that teaches
    the network, too; both see the same features, with one dropout."""
    with full_precision(maps):
        vectors = drop(pooled(at_least_single(maps)))
        return answering(vectors.detach()), teaching(vectors)


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
        vectors = features_in(maps, gaze.boxes, spec)
        head = self.focus_head
        answers = F.linear(vectors, head.weight.detach(), head.bias.detach())
        return cross_entropy(answers, targets)


def features_in(maps: Tensor, boxes: Tensor, spec: ModelSpec) -> Tensor:
    """The mean of the maps (b, t, c, h, w) in boxes (b, t, 4) of the frame, cut out as patches are → (b, t, c)."""
    scale = maps.shape[-1] / spec.frame_size
    cut = sample(maps.flatten(0, 1), boxes.flatten(0, 1) * scale, max(1, round(spec.patch_size * scale)))
    return pooled(cut).view(*maps.shape[:3])
