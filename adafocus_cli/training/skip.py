"""Teaches a model that looks step by step which frames need no look: the head that says so, then the answers with it.

The idea is that of AdaFocus+ (Wang et al., ICCV 2021), of which no code was released; head and reward are ours. The
reward of a look is how much more confident the model is of the true class than without it, after the same past, less
the price of a look; that of a skip is 0. The price moves until so many looks are left as were asked for; as the head is
wherever its last steps took it, what it says is then moved up or down as a whole until just so many are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution

from adafocus_cli.models.base import Family, Gaze
from adafocus_cli.models.shared import StepWise
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v2 import AdaFocusV2
from adafocus_cli.nn.heads import pooled, running_maximum
from adafocus_cli.nn.policies import SkipHead
from adafocus_cli.training.forward_pass import ForwardPass, at_least_single, full_precision
from adafocus_cli.training.learner import Learner, Part, StepResult, cross_entropy, of_all_processes
from adafocus_cli.training.v1 import AnswersOnly, confidence, ppo_loss, ppo_terms, standardised

_USUAL_SHARE = 1 / 3
# How far the price moves in a step if all looks are taken and none is to be left.
_PRICE_STEP = 0.005
# How far the head's bias moves in a step if all looks are taken and none is to be left, as a share of the spread of
# what it says.
_BIAS_STEP = 0.1
# Of the looks, as many are taken or left at random while the answers learn.
_RANDOM_SHARE = 0.1


class SkipByReward(Learner):
    """Trains the head that says which frames to skip, with a critic; all else stays as it is."""

    price: Tensor

    def __init__(self, model: Family, *, looks: float | None = None) -> None:
        super().__init__(model)
        self.looks = _asked_looks(model, looks)
        self.critic = nn.Linear(_head_of(model).width, 1)
        self.register_buffer("price", torch.zeros(()))
        self.freeze_the_rest()

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        return {"policy": (_head_of(self.model), self.critic)}

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        with torch.no_grad():
            forward = ForwardPass.of(self.model, frames)
            focused = forward.focus(replace(forward.policy_gaze(), kept=None))
        answers: list[Tensor] = []

        def worth(kept: Tensor) -> Tensor:
            answers[:] = answers_with_and_without(self.model, forward.maps, at_least_single(focused), kept)
            taken, left = (confidence(logits, targets) for logits in answers)
            return taken - left

        with full_precision(forward.maps):
            head = _head_of(self.model)
            states, _ = head.states(forward.maps, None)
            gains: Tensor = head.gain(states).squeeze(-1)
            loss, kept, measures = self.loss_of(states, gains, worth)
        taken, left = answers
        logits = torch.where(kept[:, -1:] > 0, taken[:, -1], left[:, -1])
        return StepResult(loss, logits, {**measures, "answers": cross_entropy(logits, targets)})

    def loss_of(
        self, states: Tensor, gains: Tensor, worth: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss, the looks (b, t) that were tried, and what is logged; `worth` says what each look adds if these
        are taken before it."""
        chances: Distribution = Bernoulli(logits=gains)
        kept = self.draws.sample(chances)
        with torch.no_grad():
            rewards = (worth(kept) - self.price) * kept
        log_probs, values = chances.log_prob(kept), self.critic(states).squeeze(-1)
        terms = ppo_terms(log_probs, log_probs, values, standardised(rewards), chances.entropy())
        looks = _mean_looks(gains)
        if self.training:
            self.price += _PRICE_STEP * (looks - self.looks) / gains.shape[1]
        measures = {name: term.detach() for name, term in terms.items()}
        return ppo_loss(terms), kept, {**measures, "looks": looks, "price": self.price.clone()}


class AnswersWithSkips(AnswersOnly):
    """Trains the classifier alone, without the looks that are skipped; some are, or are not, at random.

    The head's bias moves until as many looks a video are kept as were asked for.
    """

    def __init__(self, model: Family, *, looks: float | None = None) -> None:
        super().__init__(model)
        self.looks = _asked_looks(model, looks)

    def gaze(self, forward: ForwardPass) -> Gaze:
        gaze = super().gaze(forward)
        assert gaze.kept is not None, "the recipe gives the model its head"
        if self.training:
            self._move_bias(forward.maps)
        changed = self.draws.uniform(*gaze.kept.shape).to(gaze.kept.device) < _RANDOM_SHARE
        return replace(gaze, kept=gaze.kept ^ changed)

    @torch.no_grad()
    def _move_bias(self, maps: Tensor) -> None:
        head = _head_of(self.model)
        with full_precision(maps):
            gains, _ = head(maps, None)
        spread = of_all_processes(gains).std()
        head.gain.bias.add_(_BIAS_STEP * spread * (self.looks - _mean_looks(gains)) / gains.shape[1])


def _asked_looks(model: Family, looks: float | None) -> float:
    return _USUAL_SHARE * model.spec.focus_frames if looks is None else looks


def _mean_looks(gains: Tensor) -> Tensor:
    """How many looks a video are kept (b, t), over all processes."""
    return of_all_processes((gains > 0).float().sum(dim=1)).mean()


def _head_of(model: Family) -> SkipHead:
    assert isinstance(model, StepWise), "the recipe is for families that look step by step"
    assert model.skip_policy is not None, "the recipe gives the model its head"
    return model.skip_policy


def answers_with_and_without(model: Family, maps: Tensor, focused: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The answers after each step if its look is taken, and if not; before it, the looks `kept` (b, t) were taken.

    Glance maps and focus maps (b, t, …) → two times (b, t, classes).
    """
    glance, looks = pooled(maps), pooled(focused)
    as_kept = torch.cat((glance, looks * kept[..., None]), dim=-1)
    both = [torch.cat((glance, seen), dim=-1) for seen in (looks, torch.zeros_like(looks))]
    if isinstance(model, AdaFocusV1):
        states, _ = model.classifier.states(as_kept, None)
        before = F.pad(states[:, :-1], (0, 0, 1, 0)).flatten(0, 1)
        after = [model.classifier.states(seen.flatten(0, 1)[:, None], before)[0] for seen in both]
        taken, left = (model.classifier.fc(state).view(*kept.shape, -1) for state in after)
        return taken, left
    assert isinstance(model, AdaFocusV2), "the other families do not skip"
    so_far = F.pad(running_maximum(model.vector(as_kept), None)[:, :-1], (0, 0, 1, 0))  # no vector is below 0
    steps = range(kept.shape[1])
    taken, left = (model.classifiers(torch.maximum(so_far, model.vector(seen)), steps) for seen in both)
    return taken, left
