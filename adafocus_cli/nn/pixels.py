"""From the pixels of pictures to the numbers that the networks were trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adafocus_cli.spec import MEAN, STD, Colour, Normalisation


def normalised(pixels: Tensor, mean: Colour = MEAN, std: Colour = STD) -> Tensor:
    """uint8 (…, h, w, 3) → float (…, 3, h, w), rounded in the steps of the published training: a policy may make much
    of the last bit."""
    width = pixels.shape[-2]
    middle, spread = (_row(values, width, pixels.device) for values in (mean, std))
    rows = pixels.flatten(-2).float().div_(255).sub_(middle).div_(spread)  # five times as fast as colour by colour
    return rows.view(pixels.shape).movedim(-1, -3)


def _row(colour: Colour, width: int, device: torch.device) -> Tensor:
    """Of a row of pixels; made on the device, as a copy from the processor would wait until it has nothing to do."""
    return torch.cat([torch.full((1,), value, dtype=torch.float32, device=device) for value in colour]).repeat(width)


@torch.no_grad()
def renormalise(network: nn.Module, was: Normalisation, now: Normalisation) -> None:
    """A network that was taught on pixels normalised as `was` sees the same in ones normalised as `now`: its first
    convolution and the norm after it are changed. Only at the border it sees a little else, for what a convolution pads
    a picture with is zero before and after, which is the mean."""
    if was == now:
        return
    layers = list(network.modules())
    convolution = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))
    (old_mean, old_std), (new_mean, new_std) = (map(convolution.weight.new_tensor, values) for values in (was, now))
    # Of the same pixel, the old number is the new one · scale + offset.
    scale, offset = new_std / old_std, (new_mean - old_mean) / old_std
    norm.get_buffer("running_mean").sub_(convolution.weight.sum(dim=(2, 3)) @ offset)
    convolution.weight *= scale[:, None, None]
