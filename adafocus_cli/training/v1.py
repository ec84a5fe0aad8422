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
from adafocus_cli.models.clip_wise import ClipWise
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v1_tsm import AdaFocusV1TSM
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.policies import recur
from adafocus_cli.training.forward_pass import Glance, full_precision
from adafocus_cli.training.learner import Group, Learner, Progress, Rates, answering_parts, cross_entropy, parameters_of

GAMMA = 0.7
CLIP = 0.2
VALUE_WEIGHT = 0.5
ENTROPY_WEIGHT = 0.01


def discounted_returns(rewards: Tensor, gamma: float = GAMMA) -> Tensor:
    """What follows from each step: the rewards (b, t) from there on, later ones discounted."""
    returns = rewards.clone()
    for step in range(rewards.shape[1] - 2, -1, -1):
        returns[:, step] += gamma * returns[:, step + 1]
    return returns


def standardised(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std() + 1e-5)


def ppo_loss(log_probs: Tensor, before: Tensor, values: Tensor, returns: Tensor, entropy: Tensor) -> Tensor:
    """All (b, t): log probabilities of the actions now and `before`, when they were taken; `values` guess returns."""
    advantages = returns - values.detach()
    ratio = (log_probs - before.detach()).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    gain = (ratio * advantages).minimum(clipped * advantages).mean()
    return -gain + VALUE_WEIGHT * F.mse_loss(values, returns) - ENTROPY_WEIGHT * entropy.mean()


# How far around the policy's place a clip's place is tried out, in 0…1; nearer, where networks learn at that place.
_SPREAD, _NEARER = 0.25, 0.15


class WarmUp(Learner):
    """Both networks and the answers, on random patches; networks that have answers of their own also learn by those."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but((model.glance_net, model.focus_net, *answering_parts(model)))

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        focused = seen.focus(seen.at_random())
        logits = seen.answers(focused)
        return Progress(_error(seen, focused, logits, targets), logits[:, -1].detach(), {})

    def groups(self) -> list[Group]:
        return [Group(parameters_of(self.model))]


class Answers(Learner):
    """The answers alone, at the places that the policy chooses."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but(answering_parts(model))

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        with torch.no_grad():
            seen = Glance.at(self.model, frames)
            focused = seen.focus(seen.learned())
        logits = seen.answers(focused)
        return Progress(cross_entropy(logits, targets), logits[:, -1].detach(), {})

    def groups(self) -> list[Group]:
        return [Group(parameters_of(self.model))]


class PolicyByReward(Learner):
    """The policy alone, and a critic that guesses what its places will bring."""

    def __init__(self, model: Family, *, spread: float = _SPREAD) -> None:
        super().__init__(model)
        self._choices = _choices_of(model, spread)
        self.critic = nn.Linear(model.spec.policy_width, 1)
        self.freeze_all_but(self._learning())

    def _learning(self) -> list[nn.Module]:
        return [self.model.get_submodule("policy"), self.critic]

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        with torch.no_grad():
            seen = Glance.at(self.model, frames)
        choice = self._chosen(seen)
        with torch.no_grad():
            chosen, random = seen.focus(choice.gaze), seen.focus(seen.at_random())
            logits = seen.answers(chosen)
        loss, measures = self._by_reward(seen, choice, logits, chosen, random, targets)
        return Progress(loss, logits[:, -1], measures)

    def _chosen(self, seen: Glance) -> _Choice:
        with full_precision(seen.maps):
            states, chances = self._choices.of(seen.maps.detach())
            values: Tensor = self.critic(states).squeeze(-1)
            action = chances.sample()
            gaze = seen.at_places(self._choices.places(action))
            return _Choice(gaze, chances.log_prob(action), chances.entropy(), values)

    def _by_reward(
        self, seen: Glance, choice: _Choice, logits: Tensor, chosen: Tensor, random: Tensor, targets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss; the answers at its places were `logits`, from what was `chosen`."""
        with torch.no_grad(), full_precision(chosen):
            instead = self._choices.one_other(seen, chosen.float(), random.float())
            rewards = _confidence(logits, targets) - _confidence(instead, targets)
        returns = standardised(discounted_returns(rewards))
        # One step a batch: the policy that acts is the one that learns.
        loss = ppo_loss(choice.log_probs, choice.log_probs, choice.values, returns, choice.entropy)
        return loss, {"reward": rewards.mean(), "entropy": choice.entropy.detach().mean()}

    def groups(self) -> list[Group]:
        return [Group(parameters_of(self))]


class Together(PolicyByReward):
    """All parts at once, networks and answers both at the policy's places and at random ones.

    So the focus network learns on what is worth a look, which random patches mostly miss where that is small.
    """

    def __init__(self, model: Family, rates: Rates) -> None:
        super().__init__(model, spread=_NEARER)
        self._rates = rates

    def _learning(self) -> list[nn.Module]:
        return [self.model, self.critic]

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        choice = self._chosen(seen)
        chosen, random = seen.focus(choice.gaze), seen.focus(seen.at_random())
        logits = seen.answers(chosen)
        errors = [_error(seen, chosen, logits, targets), _error(seen, random, seen.answers(random), targets)]
        loss, measures = self._by_reward(seen, choice, logits, chosen, random, targets)
        return Progress(torch.stack(errors).mean() + loss, logits[:, -1].detach(), measures)

    def groups(self) -> list[Group]:
        model, rates = self.model, self._rates
        return [
            Group(parameters_of(model.focus_net)),
            Group(parameters_of(model.glance_net), rates.glance),
            Group(parameters_of(*super()._learning()), rates.policy),
            Group(parameters_of(*answering_parts(model)), rates.answers),
        ]


def _error(seen: Glance, focused: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Of the answers, and of the networks' own where they have such."""
    model, answers = seen.model, [logits]
    if isinstance(model, ClipWise):
        with full_precision(focused):
            answers += [
                model.mean_answer(model.glance_fc, seen.maps),
                model.mean_answer(model.focus_fc, focused.float()),
            ]
    return torch.stack([cross_entropy(answer, targets) for answer in answers]).sum()


@dataclass(frozen=True)
class _Choice:
    """Where to look, how likely that was (b, choices), how open, and what the critic expects of it."""

    gaze: Gaze
    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class _Choices(Protocol):
    """How a kind of policy chooses, with chance."""

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        """Maps → the states (b, choices, width) that a critic may judge, and the actions' chances (b, choices)."""

    def places(self, action: Tensor) -> Tensor:
        """Actions → places (b, choices, 2)."""

    def one_other(self, seen: Glance, chosen: Tensor, random: Tensor) -> Tensor:
        """The answers if one choice at a time had been random, all earlier ones being the same."""


@dataclass(frozen=True)
class _EveryFrame:
    """A point of the grid for each frame, and an answer after it."""

    model: AdaFocusV1

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        states, _ = self.model.policy.states(maps, None)
        return states, Categorical(logits=self.model.policy.actor(states))

    def places(self, action: Tensor) -> Tensor:
        return self.model.policy.place_of(action)

    def one_other(self, seen: Glance, chosen: Tensor, random: Tensor) -> Tensor:
        glance, classifier = pooled(seen.maps), self.model.classifier
        history, _ = recur(classifier.gru, torch.cat((glance, pooled(chosen)), dim=-1), None)
        before = F.pad(history[:, :-1], (0, 0, 1, 0))
        features = torch.cat((glance, pooled(random)), dim=-1)
        logits, _ = classifier(features.flatten(0, 1)[:, None], before.flatten(0, 1))
        return logits.view(*features.shape[:2], -1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _OnceAClip:
    """One place anywhere, normally distributed around the policy's own."""

    model: AdaFocusV1TSM
    spread: float

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        state = self.model.policy.state(maps)[:, None]
        chances = Normal(self.model.policy.actor(state).sigmoid(), self.spread)
        return state, Independent(chances, 1)

    def places(self, action: Tensor) -> Tensor:
        return action.clamp(0, 1)

    def one_other(self, seen: Glance, chosen: Tensor, random: Tensor) -> Tensor:
        return seen.answers(random)


def _choices_of(model: Family, spread: float) -> _Choices:
    if isinstance(model, AdaFocusV1TSM):
        return _OnceAClip(model, spread)
    assert isinstance(model, AdaFocusV1), "the other families' policies learn without reward"
    return _EveryFrame(model)


def _confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """The score of the true class after each answer: logits (b, answers, classes) → (b, answers)."""
    scores = logits.float().softmax(dim=-1)
    return scores.gather(-1, targets[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(-1)
