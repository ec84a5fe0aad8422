"""Proximal policy optimisation (Schulman et al., 2017), as AdaFocus uses it: one step a batch.

Knows nothing of videos: actions have probabilities, and rewards come from elsewhere.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

GAMMA = 0.7
CLIP = 0.2
VALUE_WEIGHT = 0.5
ENTROPY_WEIGHT = 0.01


def returns_of(rewards: Tensor, gamma: float = GAMMA) -> Tensor:
    """What follows from each step: the rewards (b, t) from there on, later ones discounted."""
    returns = rewards.clone()
    for step in range(rewards.shape[1] - 2, -1, -1):
        returns[:, step] += gamma * returns[:, step + 1]
    return returns


def standardised(values: Tensor) -> Tensor:
    return (values - values.mean()) / (values.std() + 1e-5)


def loss(log_probs: Tensor, before: Tensor, values: Tensor, returns: Tensor, entropy: Tensor) -> Tensor:
    """All (b, t): log probabilities of the actions now and `before`, when they were taken; `values` guess returns."""
    advantages = returns - values.detach()
    ratio = (log_probs - before.detach()).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    gain = (ratio * advantages).minimum(clipped * advantages).mean()
    return -gain + VALUE_WEIGHT * F.mse_loss(values, returns) - ENTROPY_WEIGHT * entropy.mean()
