"""The three stages of AdaFocus V1: networks on random patches, the policy by reward, the classifier with the policy.

The reward of a point is how much more confident the model is of the true class than with a random patch of the same
frame, all earlier looks being the same. The policy learns by proximal policy optimisation (Schulman et al., 2017), one
step a batch. After the first stage, all parts may also learn together."""

from __future__ import annotations

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
from adafocus_cli.nn.policies import recur
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
    return (values - values.mean()) / (values.std() + 1e-5)


def ppo_loss(log_probs: Tensor, before: Tensor, values: Tensor, returns: Tensor, entropy: Tensor) -> Tensor:
    """All (b, t): log probabilities of the actions now and `before`, when taken; `values` estimate `returns`."""
    advantages = returns - values.detach()
    ratio = (log_probs - before.detach()).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    gain = (ratio * advantages).minimum(clipped * advantages).mean()
    return -gain + VALUE_WEIGHT * F.mse_loss(values, returns) - ENTROPY_WEIGHT * entropy.mean()


# Standard deviation of the points tried around the policy's, in 0…1; smaller where networks learn at these points.
_SPREAD, _NEARER = 0.25, 0.15


class WarmUp(Learner):
    """Trains both networks and the classifier on random patches; networks with own classifiers also by these."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but((model.glance_net, model.focus_net, *answering_parts(model)))

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        focused = forward.focus(forward.random_gaze())
        logits = forward.answers(focused)
        return StepResult(_error(forward, focused, logits, targets), logits[:, -1].detach(), {})

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(parameters_of(self.model))]


class AnswersOnly(Learner):
    """Trains the classifier alone, on the patches that the policy chooses."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but(answering_parts(model))

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        with torch.no_grad():
            forward = ForwardPass.of(self.model, frames)
            focused = forward.focus(forward.policy_gaze())
        logits = forward.answers(focused)
        return StepResult(cross_entropy(logits, targets), logits[:, -1].detach(), {})

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(parameters_of(self.model))]


class PolicyByReward(Learner):
    """Trains the policy alone, with a critic that estimates the returns."""

    def __init__(self, model: Family, *, spread: float = _SPREAD) -> None:
        super().__init__(model)
        self._choices = _choices_of(model, spread)
        self.critic = nn.Linear(model.spec.policy_width, 1)
        self.freeze_all_but(self._learning())

    def _learning(self) -> list[nn.Module]:
        return [self.model.get_submodule("policy"), self.critic]

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        with torch.no_grad():
            forward = ForwardPass.of(self.model, frames)
        choice = self._chosen(forward)
        with torch.no_grad():
            chosen, random = forward.focus(choice.gaze), forward.focus(forward.random_gaze())
            logits = forward.answers(chosen)
        loss, measures = self._by_reward(forward, choice, logits, chosen, random, targets)
        return StepResult(loss, logits[:, -1], measures)

    def _chosen(self, forward: ForwardPass) -> _Choice:
        with full_precision(forward.maps):
            states, chances = self._choices.of(forward.maps.detach())
            values: Tensor = self.critic(states).squeeze(-1)
            action = chances.sample()
            gaze = forward.gaze_at(self._choices.points(action))
            return _Choice(gaze, chances.log_prob(action), chances.entropy(), values)

    def _by_reward(
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
            instead = self._choices.answers_with_one_random(forward, chosen.float(), random.float())
            rewards = _confidence(logits, targets) - _confidence(instead, targets)
        returns = standardised(discounted_returns(rewards))
        # One step a batch: the policy that acts is the one that learns.
        loss = ppo_loss(choice.log_probs, choice.log_probs, choice.values, returns, choice.entropy)
        return loss, {"reward": rewards.mean(), "entropy": choice.entropy.detach().mean()}

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(parameters_of(self))]


class Together(PolicyByReward):
    """Trains all parts at once, networks and classifier both at the policy's points and at random ones.

    So the focus network also learns from small things, which random patches mostly miss.
    """

    def __init__(self, model: Family, rates: Rates) -> None:
        super().__init__(model, spread=_NEARER)
        self._rates = rates

    def _learning(self) -> list[nn.Module]:
        return [self.model, self.critic]

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        forward = ForwardPass.of(self.model, frames)
        choice = self._chosen(forward)
        chosen, random = forward.focus(choice.gaze), forward.focus(forward.random_gaze())
        logits = forward.answers(chosen)
        errors = [
            _error(forward, chosen, logits, targets),
            _error(forward, random, forward.answers(random), targets),
        ]
        loss, measures = self._by_reward(forward, choice, logits, chosen, random, targets)
        return StepResult(torch.stack(errors).mean() + loss, logits[:, -1].detach(), measures)

    def groups(self) -> list[ParameterGroup]:
        model, rates = self.model, self._rates
        return [
            ParameterGroup(parameters_of(model.focus_net)),
            ParameterGroup(parameters_of(model.glance_net), rates.glance),
            ParameterGroup(parameters_of(*super()._learning()), rates.policy),
            ParameterGroup(parameters_of(*answering_parts(model)), rates.answers),
        ]


def _error(forward: ForwardPass, focused: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the answers, and of the networks' own answers where they have classifiers."""
    model, answers = forward.model, [logits]
    if isinstance(model, ClipWise):
        with full_precision(focused):
            answers += [
                model.mean_answer(model.glance_fc, forward.maps),
                model.mean_answer(model.focus_fc, focused.float()),
            ]
    return torch.stack([cross_entropy(answer, targets) for answer in answers]).sum()


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

    def points(self, action: Tensor) -> Tensor:
        return self.model.policy.place_of(action)

    def answers_with_one_random(self, forward: ForwardPass, chosen: Tensor, random: Tensor) -> Tensor:
        glance, classifier = pooled(forward.maps), self.model.classifier
        history, _ = recur(classifier.gru, torch.cat((glance, pooled(chosen)), dim=-1), None)
        before = F.pad(history[:, :-1], (0, 0, 1, 0))
        features = torch.cat((glance, pooled(random)), dim=-1)
        logits, _ = classifier(features.flatten(0, 1)[:, None], before.flatten(0, 1))
        return logits.view(*features.shape[:2], -1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _OnePointAClip:
    """One point for the clip, normally distributed around the policy's own."""

    model: AdaFocusV1TSM
    spread: float

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        state = self.model.policy.state(maps)[:, None]
        chances = Normal(self.model.policy.actor(state).sigmoid(), self.spread)
        return state, Independent(chances, 1)

    def points(self, action: Tensor) -> Tensor:
        return action.clamp(0, 1)

    def answers_with_one_random(self, forward: ForwardPass, chosen: Tensor, random: Tensor) -> Tensor:
        return forward.answers(random)


def _choices_of(model: Family, spread: float) -> _Choices:
    if isinstance(model, AdaFocusV1TSM):
        return _OnePointAClip(model, spread)
    assert isinstance(model, AdaFocusV1), "the other families' policies learn without reward"
    return _PointEveryFrame(model)


def _confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """The score of the true class after each answer: logits (b, answers, classes) → (b, answers)."""
    scores = logits.float().softmax(dim=-1)
    return scores.gather(-1, targets[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(-1)
