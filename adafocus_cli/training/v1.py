"""AdaFocus's three stages: networks on random patches, then the policy by reward, then the answers with the policy.

The policy's reward for a place is how much surer the model is of the true class than with a random patch of the same
frame, all earlier looks being the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from adafocus_cli.models.base import Family
from adafocus_cli.models.clip_wise import ClipWise
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v1_tsm import AdaFocusV1TSM
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.policies import recur
from adafocus_cli.training import ppo
from adafocus_cli.training.learner import Group, Learner, Progress, answering_parts, cross_entropy, parameters_of
from adafocus_cli.training.look import Glance, full_precision

# How far around the policy's place a clip's place is tried out, in 0…1.
_SPREAD = 0.25


class WarmUp(Learner):
    """Both networks and the answers, on random patches; networks that have answers of their own also learn by those."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_all_but((model.glance_net, model.focus_net, *answering_parts(model)))

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        seen = Glance.at(self.model, frames)
        focused = seen.focus(seen.at_random())
        logits = seen.answers(focused)
        with full_precision(seen.maps):
            alone = [cross_entropy(answer, targets) for answer in self._alone(seen.maps, focused.float())]
        loss = torch.stack([cross_entropy(logits, targets), *alone]).sum()
        return Progress(loss, logits[:, -1].detach(), {})

    def _alone(self, glanced: Tensor, focused: Tensor) -> list[Tensor]:
        model = self.model
        if not isinstance(model, ClipWise):
            return []
        return [model.mean_answer(model.glance_fc, glanced), model.mean_answer(model.focus_fc, focused)]

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

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self._choices = _choices_of(model)
        self.critic = nn.Linear(model.spec.policy_width, 1)
        self.freeze_all_but((model.get_submodule("policy"), self.critic))

    def forward(self, frames: Tensor, targets: Tensor) -> Progress:
        with torch.no_grad():
            seen = Glance.at(self.model, frames)
        with full_precision(seen.maps):
            states, chances = self._choices.of(seen.maps)
            values: Tensor = self.critic(states).squeeze(-1)
            action = chances.sample()
            log_probs, entropy = chances.log_prob(action), chances.entropy()
        with torch.no_grad():
            logits, rewards = self._rewards(seen, self._choices.places(action), targets)
        returns = ppo.standardised(ppo.returns_of(rewards))
        # One step a batch: the policy that acts is the one that learns.
        loss = ppo.loss(log_probs, log_probs, values, returns, entropy)
        return Progress(loss, logits[:, -1], {"reward": rewards.mean(), "entropy": entropy.detach().mean()})

    def _rewards(self, seen: Glance, places: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The answers at the chosen places, and what each of those was worth (b, places)."""
        chosen, random = seen.focus(seen.at_places(places)).float(), seen.focus(seen.at_random()).float()
        logits = seen.answers(chosen)
        with full_precision(chosen):
            instead = self._choices.one_other(seen, chosen, random)
        return logits, _confidence(logits, targets) - _confidence(instead, targets)

    def groups(self) -> list[Group]:
        return [Group(parameters_of(self))]


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

    def of(self, maps: Tensor) -> tuple[Tensor, Distribution]:
        state = self.model.policy.state(maps)[:, None]
        chances = Normal(self.model.policy.actor(state).sigmoid(), _SPREAD)
        return state, Independent(chances, 1)

    def places(self, action: Tensor) -> Tensor:
        return action.clamp(0, 1)

    def one_other(self, seen: Glance, chosen: Tensor, random: Tensor) -> Tensor:
        return seen.answers(random)


def _choices_of(model: Family) -> _Choices:
    if isinstance(model, AdaFocusV1TSM):
        return _OnceAClip(model)
    assert isinstance(model, AdaFocusV1), "the other families' policies learn without reward"
    return _EveryFrame(model)


def _confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """The score of the true class after each answer: logits (b, answers, classes) → (b, answers)."""
    scores = logits.float().softmax(dim=-1)
    return scores.gather(-1, targets[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(-1)
