"""The one stage of Uni-AdaFocus, of itself, on TSM and on X3D: both looks, the policy's and a random one, at the same
frames in one batch.

Frames are chosen by the glance, each at a random point of its part of the curve, and boxes are detached: neither policy
learns from the looks. The temporal policy learns from the glance's answers, weighted as it weighs them; the spatial one
from what a layer makes of the glance's maps inside its boxes, and from a penalty on boxes smaller than the frame.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Gaze
from adafocus_cli.models.shared import OneBox
from adafocus_cli.models.uni import UniAdaFocus
from adafocus_cli.models.uni_tsm import UniAdaFocusTSM
from adafocus_cli.models.uni_x3d import UniAdaFocusX3D
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import boxes_of_any_size
from adafocus_cli.nn.policies import frames_by_weight
from adafocus_cli.nn.x3d import X3D
from adafocus_cli.training.forward_pass import Draws, ForwardPass, at_least_single, full_precision
from adafocus_cli.training.learner import (
    Learner,
    Part,
    StepResult,
    answering_parts,
    cross_entropy,
    new_head,
    policies_of,
)
from adafocus_cli.training.v2 import POLICY, RANDOM, TSM_STD, features_in, mean_of_looks, two_answers

MONTE_CARLO = 128
"""How often glances are left out at random."""


class Uni(Learner):
    """Trains all parts of Uni-AdaFocus at once."""

    def __init__(self, model: UniAdaFocus, *, size_penalty: float, head_dropout: float) -> None:
        super().__init__(model)
        channels, classes = model.glance_net.channels, model.spec.classes
        self._size_penalty = size_penalty
        self.head_dropout = nn.Dropout(head_dropout)
        self.glance_head = new_head(channels, classes)
        self.box_head = new_head(channels, classes)
        self.focus_head = new_head(model.focus_net.channels, classes)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {
            "policy": policies_of(model),
            "glance": (model.glance_net, self.glance_head, self.box_head),
            "focus": (model.focus_net, self.focus_head),
            "answers": answering_parts(model),
        }

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        model, spec = self.model, self.model.spec
        assert isinstance(model, UniAdaFocus)
        forward = ForwardPass.of(model, frames, self._glances(len(frames)))
        places = self.draws.uniform(len(frames), spec.candidate_frames, 4)
        with full_precision(forward.maps):
            vectors = pooled(forward.maps)
            shares = model.temporal_policy(vectors)
            by_glance = self.glance_head(self.head_dropout(vectors))
            temporal = weighted_answers(shares, by_glance, self.draws)
            chosen = chosen_frames(shares, spec.focus_frames, spec.candidate_frames, self.draws)
            # The policy is asked twice, as published: the averages of its batch norms move twice in a step.
            with torch.no_grad():
                boxes = model.boxes_in(chosen, model.spatial_policy(forward.maps))
            spatial, sizes = boxes_from_glance(model, forward.maps, self.box_head)
        random = random_boxes(model, places).to(boxes).gather(1, chosen[..., None].expand(-1, -1, 4))
        looks = {POLICY: Gaze(chosen, boxes), RANDOM: Gaze(chosen, random)}
        answers = {}
        for look, focused in zip(looks, forward.focus(*looks.values()).chunk(2), strict=True):
            answers[look, "answer"] = forward.answers(focused)
            with full_precision(focused):
                by_focus = self.focus_head(self.head_dropout(pooled(at_least_single(focused))))
            answers |= {(look, "glance"): by_glance, (look, "focus"): by_focus}
        result = mean_of_looks(answers, len(looks), targets)
        return with_policies(result, temporal, spatial, sizes, self._size_penalty, targets)

    def _glances(self, clips: int) -> Tensor:
        """One of the candidates in each equal part of them (b, t): of each three, as published."""
        spec = self.model.spec
        part = spec.candidate_frames // spec.glance_frames
        return torch.arange(spec.glance_frames) * part + self.draws.below(part, clips, spec.glance_frames)


class UniWithOneBox(Learner):
    """Trains all parts of a family with one box for a clip at once; what answers reads detached features, as in V2 on
    TSM, and other layers teach the networks."""

    model: OneBox

    def __init__(self, model: OneBox, *, size_penalty: float) -> None:
        super().__init__(model)
        self._size_penalty = size_penalty
        self.box_head = new_head(model.glance_channels, model.spec.classes)

    @abstractmethod
    def glance_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Of the glance's maps (b, t, c, h, w): its share of the answer (b, classes), and logits for every frame
        (b, t, classes) of what teaches it."""

    @abstractmethod
    def focus_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the focus network's."""

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        model, spec = self.model, self.model.spec
        forward = ForwardPass.of(model, frames)
        glance, by_glance = self.glance_answers(forward.maps)
        with full_precision(forward.maps):
            shares = model.temporal_policy(pooled(forward.maps).detach())
            temporal = weighted_answers(shares, by_glance.detach(), self.draws)
            chosen = chosen_frames(shares, spec.focus_frames, spec.candidate_frames, self.draws)
            # Asked twice, as in `Uni`.
            with torch.no_grad():
                boxes = boxes_of_any_size(model.spatial_policy(forward.maps), spec.frame_size, spec.smallest_patch)
            spatial, sizes = boxes_from_glance(model, forward.maps, self.box_head)
        random = random_boxes(model, self.draws.uniform(len(frames), 1, 4)).to(boxes)
        looks = {
            look: Gaze(chosen, box.expand(-1, chosen.shape[1], -1)) for look, box in ((RANDOM, random), (POLICY, boxes))
        }
        answers = {}
        for look, focused in zip(looks, forward.focus(*looks.values()).chunk(2), strict=True):
            focus, by_focus = self.focus_answers(focused)
            answers[look, "answer"] = glance + focus
            answers |= {(look, "glance"): by_glance.mean(dim=1), (look, "focus"): by_focus.mean(dim=1)}
        result = mean_of_looks(answers, len(looks), targets)
        return with_policies(result, temporal, spatial, sizes, self._size_penalty, targets)


class UniTSM(UniWithOneBox):
    model: UniAdaFocusTSM

    def __init__(self, model: UniAdaFocusTSM, *, size_penalty: float) -> None:
        super().__init__(model, size_penalty=size_penalty)
        self.focus_head = new_head(model.focus_net.channels, model.spec.classes, std=TSM_STD)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {
            "policy": policies_of(model),
            "glance": (model.glance_net, model.glance_fc, model.exit_fc, self.box_head),
            "focus": (model.focus_net, model.focus_fc, self.focus_head),
        }

    def glance_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self._both(maps, self.model.glance_fc, self.model.exit_fc)

    def focus_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self._both(maps, self.model.focus_fc, self.focus_head)

    def _both(self, maps: Tensor, answering: nn.Linear, teaching: nn.Linear) -> tuple[Tensor, Tensor]:
        answers, by_frame = two_answers(self.model.dropout, maps, answering, teaching)
        return answers.mean(dim=1), by_frame


class UniX3D(UniWithOneBox):
    model: UniAdaFocusX3D

    def __init__(self, model: UniAdaFocusX3D, *, size_penalty: float) -> None:
        super().__init__(model, size_penalty=size_penalty)
        self.focus_head = model.new_frame_head(model.focus_net)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {
            "policy": policies_of(model),
            "glance": (model.glance_net, model.exit_head, self.box_head),
            "focus": (model.focus_net, self.focus_head),
        }

    def glance_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self._both(self.model.glance_net, self.model.exit_head, maps)

    def focus_answers(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self._both(self.model.focus_net, self.focus_head, maps)

    def _both(self, net: X3D, head: nn.Module, maps: Tensor) -> tuple[Tensor, Tensor]:
        with full_precision(maps):
            maps = at_least_single(maps)
            return self.model.own_answer(net, maps.detach()), head(pooled(maps))


def chosen_frames(shares: Tensor, looks: int, candidates: int, draws: Draws) -> Tensor:
    within_step = draws.uniform(len(shares), looks).to(shares)
    return frames_by_weight(shares.detach(), looks, candidates, within_step)


def random_boxes(model: UniAdaFocus | OneBox, places: Tensor) -> Tensor:
    """Of the side of a patch; of `places` (…, 4), drawn as the policy's actions are, only (row, col) count."""
    spec = model.spec
    side = (spec.patch_size - spec.smallest_patch) / max(1, spec.frame_size - spec.smallest_patch)
    actions = torch.cat((places[..., :2], torch.full_like(places[..., 2:], side)), dim=-1)
    return boxes_of_any_size(actions, spec.frame_size, spec.smallest_patch)


def weighted_answers(shares: Tensor, by_glance: Tensor, draws: Draws) -> Tensor:
    """The glance's answers (b, t, classes), each weighted by its share (b, t) of those that are left when 0, 1, …
    glances, fewer than a third, are drawn by their shares and taken out: the mean over many draws (b, classes).

    The weights are averaged before the answers are, which is the same sum in little memory. No gradient goes through
    what they are divided by.
    """
    clips, glances = shares.shape
    rows = shares.repeat_interleave(MONTE_CARLO, dim=0)
    counts = max(1, glances // 3)
    weights = shares / shares.sum(dim=1, keepdim=True).detach()
    for count in range(1, counts):
        left_out = draws.without_replacement(rows.detach(), count).to(rows.device)
        kept = rows * torch.ones_like(rows).scatter(1, left_out, 0.0)
        shares_of_kept = kept / kept.sum(dim=1, keepdim=True).detach()
        weights = weights + shares_of_kept.view(clips, MONTE_CARLO, glances).mean(dim=1)
    return torch.einsum("bt,btc->bc", weights / counts, by_glance)


def boxes_from_glance(model: UniAdaFocus | OneBox, maps: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
    """What the head answers from the glance's maps inside the spatial policy's boxes (b, classes), and the penalty on
    their sides; only the policy and the head learn from these."""
    spec, maps = model.spec, maps.detach()
    actions = model.spatial_policy(maps)
    boxes = boxes_of_any_size(actions, spec.frame_size, spec.smallest_patch).expand(-1, maps.shape[1], -1)
    answers: Tensor = head(features_in(maps, boxes, spec).mean(dim=1))
    return answers, (1 - actions[..., 2:]).square().mean()


def with_policies(
    result: StepResult, temporal: Tensor, spatial: Tensor, sizes: Tensor, size_penalty: float, targets: Tensor
) -> StepResult:
    """The losses of the looks with those of the policies, from their logits (b, classes)."""
    terms = {"temporal": cross_entropy(temporal, targets), "spatial": cross_entropy(spatial, targets)}
    measures = {name: term.detach() for name, term in terms.items()}
    return StepResult(
        result.loss + terms["temporal"] + terms["spatial"] + size_penalty * sizes,
        result.logits,
        {**result.measures, **measures, "sizes": sizes.detach()},
    )
