"""Pixels: to the numbers that networks were trained on, to other sizes, and to the patches inside boxes.

Boxes are left, top, right, bottom in pixels of the square frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def boxes_at(places: Tensor, frame_size: int, patch_size: int, *, whole_pixels: bool) -> Tensor:
    """Places (…, 2) as (row, col) in 0…1 → boxes (…, 4) that lie inside the frame.

    place 0            place 1/2          place 1
    |[patch]      |    |   [patch]   |    |      [patch]|
    """
    top_left = places * (frame_size - patch_size)
    if whole_pixels:
        top_left = top_left.floor()
    top, left = top_left.unbind(-1)
    return torch.stack((left, top, left + patch_size, top + patch_size), dim=-1)


def boxes_of_any_size(actions: Tensor, frame_size: int, smallest: int) -> Tensor:
    """Actions (…, 4) as (row, col, height, width) in 0…1 → boxes (…, 4), from `smallest` to the whole frame."""
    size = smallest + actions[..., 2:] * (frame_size - smallest)
    top, left = (actions[..., :2] * (frame_size - size)).unbind(-1)
    height, width = size.unbind(-1)
    return torch.stack((left, top, left + width, top + height), dim=-1)


def view_of(boxes: Tensor, side: int) -> Tensor:
    """Which of several views of this side, beside one another, the middle of each box (…, 4) is in, from 0 on."""
    return ((boxes[..., 0] + boxes[..., 2]) / (2 * side)).floor()


def resize(frames: Tensor, side: int, *, smooth: bool = False) -> Tensor:
    """Frames (b, t, c, s, s) → (b, t, c, side, side), corner pixels kept in the corners, as the published models do it;
    `smooth` lets no detail be seen that is too fine for the new size."""
    if frames.shape[-1] == side:
        return frames
    flat = frames.flatten(0, 1)
    if smooth:
        small = F.interpolate(flat, (side, side), mode="bilinear", antialias=True)
    else:
        small = F.interpolate(flat, (side, side), mode="bilinear", align_corners=True)
    return small.view(*frames.shape[:3], side, side)


def crop(frames: Tensor, boxes: Tensor, patch_size: int) -> Tensor:
    """Exact pixels: frames (n, h, w, c) and whole-pixel boxes (n, 4) of side `patch_size` → (n, p, p, c)."""
    steps = torch.arange(patch_size, device=frames.device)
    corner = boxes.long()
    rows = (corner[:, 1, None] + steps)[:, :, None]
    cols = (corner[:, 0, None] + steps)[:, None, :]
    clip = torch.arange(len(frames), device=frames.device)[:, None, None]
    return frames[clip, rows, cols]


def sample(frames: Tensor, boxes: Tensor, patch_size: int) -> Tensor:
    """Bilinear: frames (n, c, s, s) and boxes (n, 4) of any size and place → (n, c, p, p), differentiable in both."""
    side = frames.shape[-1]
    left, top, right, bottom = boxes.unbind(-1)
    zero = torch.zeros_like(left)
    theta = torch.stack(
        (
            torch.stack(((right - left) / side, zero, (left + right) / side - 1), dim=-1),
            torch.stack((zero, (bottom - top) / side, (top + bottom) / side - 1), dim=-1),
        ),
        dim=-2,
    )
    grid = F.affine_grid(theta, [len(frames), frames.shape[1], patch_size, patch_size], align_corners=False)
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
