"""From the pixels of pictures to the numbers that the networks were trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from adafocus_cli.spec import MEAN, STD, Colour


def normalised(pixels: Tensor, mean: Colour = MEAN, std: Colour = STD) -> Tensor:
    """uint8 (…, h, w, 3) → float (…, 3, h, w), rounded in the steps of the published training: a policy may make much
    of the last bit."""
    width = pixels.shape[-2]
    middle, spread = (torch.tensor(values, device=pixels.device).repeat(width) for values in (mean, std))
    rows = pixels.flatten(-2).float().div_(255).sub_(middle).div_(spread)  # five times as fast as colour by colour
    return rows.view(pixels.shape).movedim(-1, -3)
