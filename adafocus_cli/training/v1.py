"""The stages of AdaFocus V1: each network alone, the focus network on random patches, the policy by reward, and the
classifier with the policy; and of our own recipe, in which all parts learn together.

The reward of a point is how much more confident the model is of the true class than with a random patch of the same
frame, all earlier looks being the same. The policy learns by proximal policy optimisation (Schulman et al., 2017), one
step a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.models.shared import ClipWise
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v1_tsm import AdaFocusV1TSM
from adafocus_cli.nn.heads import pooled
from adafocus_cli.training.forward_pass import Draws, ForwardPass, at_least_single, full_precision
from adafocus_cli.training.learner import (
    Learner,
    Part,
    StepResult,
    answering_parts,
    cross_entropy,
    new_head,
    of_all_processes,
    policies_of,
)

GAMMA = 0.7
CLIP = 0.2
VALUE_WEIGHT = 0.5
ENTROPY_WEIGHT = 0.01


def discounted_returns(rewards: Tensor, gamma: float = GAMMA) -> Tensor:
    """The returns of each step: the rewards (b, t) from there on, later ones discounted."""
    returns = rewards.clone()
    for step in range(rewards.shape[1] - 2, -1, -1):
        returns[:, step] += gamma * returns[:, step + 1]
    return returns


def standardised(values: Tensor) -> Tensor:
    """Over the clips of all processes."""
    everywhere = of_all_processes(values)
    return (values - everywhere.mean()) / (everywhere.std() + 1e-5)


def ppo_terms(log_probs: Tensor, before: Tensor, values: Tensor, returns: Tensor, entropy: Tensor) -> dict[str, Tensor]:
    """All (b, t): log probabilities of the actions now and `before`, when taken; `values` estimate `returns`."""
    advantages = returns - values.detach()
    ratio = (log_probs - before.detach()).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return {
        "surrogate": -(ratio * advantages).minimum(clipped * advantages).mean(),
        "value_error": F.mse_loss(values, returns),
        "entropy": entropy.mean(),
    }


def ppo_loss(terms: Mapping[str, Tensor]) -> Tensor:
    return terms["surrogate"] + VALUE_WEIGHT * terms["value_error"] - ENTROPY_WEIGHT * terms["entropy"]


# Standard deviation of the points tried around the policy's, in 0…1; smaller where networks learn at these points.
_SPREAD, _NEARER = 0.25, 0.15


class NetworksAlone(Learner):
    """Trains each network on whole frames, as if it were alone; what is judged is its mean answer over the frames.

    The layers that answer stay behind, but in families on TSM, whose own they are.
    """

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        if not isinstance(model, ClipWise):
            self.glance_head = new_head(model.glance_net.channels, model.spec.classes)
            self.focus_head = new_head(model.focus_net.channels, model.spec.classes)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        glance_head, focus_head = self._heads()
        return {"glance": (self.model.glance_net, glance_head), "focus": (self.model.focus_net, focus_head)}

    def _heads(self) -> tuple[nn.Module, nn.Module]:
        if isinstance(self.model, ClipWise):
            return self.model.glance_fc, self.model.focus_fc
        return self.glance_head, self.focus_head

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        glance, focus = self._answers(frames)
        terms = {"glance": cross_entropy(glance, targets), "focus": cross_entropy(focus, targets)}
        measures = {name: term.detach() for name, term in terms.items()}
        return StepResult(terms["glance"] + terms["focus"], (glance + focus).detach(), measures)

    def _answers(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        forward, (glance_head, focus_head), drop = ForwardPass.of(self.model, frames), self._heads(), self.model.dropout
        focused = forward.focus_on_whole_frames()
        with full_precision(focused):
            glance = glance_head(drop(pooled(forward.maps)))
            vectors = pooled(at_least_single(focused))
            # As published, the strong network has dropout on TSM only.
            focus = focus_head(drop(vectors) if self.model.clip_wise else vectors)
        return glance.mean(dim=1), focus.mean(dim=1)

    def answers(self, frames: Tensor) -> Tensor:
        """Both added up."""
        return torch.stack(self._answers(frames)).sum(dim=0)[:, None]


class RandomPatches(Learner):
    """Trains the focus network and what answers on random patches; the glance stays as it is."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        return {"focus": (self.model.focus_net,), "answers": _classifiers(self.model)}

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        logits = self._answers(frames, self.draws)
        return _of_answers(logits, targets)

    def answers(self, frames: Tensor) -> Tensor:
        """At random places, the policy having learnt nothing yet."""
        return self._answers(frames, Draws(torch.Generator().manual_seed(0)))

    def _answers(self, frames: Tensor, draws: Draws) -> Tensor:
        with torch.no_grad():
            forward = ForwardPass.of(self.model, frames)
        return _answers(forward, forward.focus(forward.random_gaze(draws)))


class AnswersOnly(Learner):
    """Trains the classifier alone, on the patches that the policy chooses."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        return {"answers": _classifiers(self.model)}

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        with torch.no_grad():
            gaze = self.gaze(forward)
        return _of_answers(_answers(forward, forward.focus(gaze)), targets)

    def gaze(self, forward: ForwardPass) -> Gaze:
        return forward.policy_gaze()


class PolicyByReward(Learner):
    """Trains the policy alone, with a critic that estimates the returns."""

    def __init__(self, model: Family, *, spread: float = _SPREAD) -> None:
        super().__init__(model)
        self._choices = _choices_of(model, spread)
        self.critic = nn.Linear(model.spec.policy_width, 1)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        return {"policy": (*policies_of(self.model), self.critic)}

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        with torch.no_grad():
            forward = ForwardPass.of(self.model, frames)
        choice = self.choose(forward)
        with torch.no_grad():
            chosen, random = forward.focus(choice.gaze), forward.focus(forward.random_gaze(self.draws))
            logits = _answers(forward, chosen)
        loss, measures = self.by_reward(forward, choice, logits, chosen, random, targets)
        return StepResult(loss, logits[:, -1], measures)

    def choose(self, forward: ForwardPass) -> _Choice:
        with full_precision(forward.maps):
            states, chances = self._choices.of(forward.maps.detach())
            values: Tensor = self.critic(states).squeeze(-1)
            action = self._choices.action(self.draws.sample(chances))
            gaze = forward.gaze_at(self._choices.points(action))
            return _Choice(gaze, chances.log_prob(action), chances.entropy(), values)

    def by_reward(
        self,
        forward: ForwardPass,
        choice: _Choice,
        logits: Tensor,
        chosen: Tensor,
        random: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss; `logits` are the answers at its points, from the maps `chosen`."""
        with torch.no_grad(), full_precision(chosen):
            instead = self._choices.answers_with_one_random(forward, at_least_single(chosen), at_least_single(random))
            rewards = confidence(logits, targets) - confidence(instead, targets)
        returns = standardised(discounted_returns(rewards))
        # One step a batch: the policy that acts is the one that learns.
        terms = ppo_terms(choice.log_probs, choice.log_probs, choice.values, returns, choice.entropy)
        measures = {name: term.detach() for name, term in terms.items()}
        error = cross_entropy(logits, targets).detach()
        return ppo_loss(terms), {**measures, "reward": rewards.mean(), "answers": error}


# Our own recipe, for networks that start from random weights.


class WarmUp(Learner):
    """Trains both networks of a family on TSM and all that answers on random patches."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {"glance": (model.glance_net,), "focus": (model.focus_net,), "answers": answering_parts(model)}

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        loss, logits = _with_own_answers(forward, forward.focus(forward.random_gaze(self.draws)), targets)
        return StepResult(loss, logits.detach(), {})


class Together(PolicyByReward):
    """Trains all parts of a family on TSM at once, the networks and what answers at the policy's points and at random
    ones.

    So the focus network also learns from small things, which random patches mostly miss.
    """

    def __init__(self, model: Family) -> None:
        super().__init__(model, spread=_NEARER)

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        model = self.model
        return {
            **super().parts(),
            "glance": (model.glance_net,),
            "focus": (model.focus_net,),
            "answers": answering_parts(model),
        }

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        choice = self.choose(forward)
        chosen, random = forward.focus(choice.gaze), forward.focus(forward.random_gaze(self.draws))
        at_policy, logits = _with_own_answers(forward, chosen, targets)
        at_random, _ = _with_own_answers(forward, random, targets)
        loss, measures = self.by_reward(forward, choice, logits[:, None], chosen, random, targets)
        return StepResult((at_policy + at_random) / 2 + loss, logits.detach(), measures)


def _classifiers(model: Family) -> list[nn.Module]:
    """What answers and belongs to neither of the two networks; on TSM the focus network's own layer, as published."""
    return [model.focus_fc] if isinstance(model, ClipWise) else answering_parts(model)


def _answers(forward: ForwardPass, focused: Tensor) -> Tensor:
    """Logits (b, answers, classes); on TSM, the glance's answer has no dropout, for it has learnt already."""
    model = forward.model
    if not isinstance(model, ClipWise):
        return forward.answers(focused)
    with full_precision(focused):
        focus: Tensor = model.focus_fc(model.dropout(pooled(at_least_single(focused))))
        return (model.mean_answer(model.glance_fc, forward.maps) + focus.mean(dim=1))[:, None]


def _of_answers(logits: Tensor, targets: Tensor) -> StepResult:
    loss = cross_entropy(logits, targets)
    return StepResult(loss, logits[:, -1].detach(), {"answers": loss.detach()})


def _with_own_answers(forward: ForwardPass, focused: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answer and of each network's share of it, and the answer (b, classes)."""
    model = forward.model
    assert isinstance(model, ClipWise), "the recipe is for families on TSM"
    with full_precision(focused):
        glance = model.glance_fc(model.dropout(pooled(forward.maps))).mean(dim=1)
        focus = model.focus_fc(model.dropout(pooled(at_least_single(focused)))).mean(dim=1)
    return torch.stack([cross_entropy(one, targets) for one in (glance + focus, glance, focus)]).sum(), glance + focus


@dataclass(frozen=True)
class _Choice:
    """Where to look; log probability, entropy and the critic's value of each choice (b, choices)."""

    gaze: Gaze
    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class _Choices(Protocol):
    """How a kind of policy samples where to look."""

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        """Maps → the states for the critic (b, choices, width), and the distributions of the actions (b, choices)."""

    def action(self, drawn: Tensor) -> Tensor:
        """What is done when this was drawn, and has a log probability."""

    def points(self, action: Tensor) -> Tensor:
        """Actions → points (b, choices, 2)."""

    def answers_with_one_random(self, forward: ForwardPass, chosen: Tensor, random: Tensor) -> Tensor:
        """The answers if one choice at a time were random, all earlier ones being the same."""


@dataclass(frozen=True)
class _PointEveryFrame:
    """A point of the grid for each frame, and an answer after it."""

    model: AdaFocusV1

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        states, _ = self.model.policy.states(maps, None)
        return states, Categorical(logits=self.model.policy.actor(states))

    def action(self, drawn: Tensor) -> Tensor:
        return drawn

    def points(self, action: Tensor) -> Tensor:
        return self.model.policy.place_of(action)

    def answers_with_one_random(self, forward: ForwardPass, chosen: Tensor, random: Tensor) -> Tensor:
        glance, classifier = pooled(forward.maps), self.model.classifier
        history, _ = classifier.states(torch.cat((glance, pooled(chosen)), dim=-1), None)
        before = F.pad(history[:, :-1], (0, 0, 1, 0))
        features = torch.cat((glance, pooled(random)), dim=-1)
        states, _ = classifier.states(features.flatten(0, 1)[:, None], before.flatten(0, 1))
        logits: Tensor = classifier.fc(states)
        return logits.view(*features.shape[:2], -1)


@dataclass(frozen=True)
class _OnePointAClip:
    """One point for the clip, normally distributed around the policy's own."""

    model: AdaFocusV1TSM
    spread: float

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        state = self.model.policy.state(maps)[:, None]
        chances = Normal(self.model.policy.actor(state).sigmoid(), self.spread)
        return state, Independent(chances, 1)

    def action(self, drawn: Tensor) -> Tensor:
        """Cut to the frame first: as published, its log probability is that of the place looked at."""
        return drawn.clamp(0, 1)

    def points(self, action: Tensor) -> Tensor:
        return action

    def answers_with_one_random(self, forward: ForwardPass, chosen: Tensor, random: Tensor) -> Tensor:
        return forward.answers(random)


def _choices_of(model: Family, spread: float) -> _Choices:
    if isinstance(model, AdaFocusV1TSM):
        return _OnePointAClip(model, spread)
    assert isinstance(model, AdaFocusV1), "the other families' policies learn without reward"
    return _PointEveryFrame(model)


def confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """The score of the true class after each answer: logits (b, answers, classes) → (b, answers)."""
    scores = logits.softmax(dim=-1)
    return scores.gather(-1, targets[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(-1)
