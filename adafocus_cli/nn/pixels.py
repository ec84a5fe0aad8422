"""From the pixels of pictures to the numbers that the networks were trained on."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalised(pixels: Tensor) -> Tensor:
    """uint8 (…, h, w, 3) → float (…, 3, h, w), rounded in the steps of the published training: a policy may make much
    of the last bit."""
    mean = torch.tensor(MEAN, device=pixels.device)[:, None, None]
    std = torch.tensor(STD, device=pixels.device)[:, None, None]
    return pixels.movedim(-1, -3).float().div_(255).sub_(mean).div_(std)
