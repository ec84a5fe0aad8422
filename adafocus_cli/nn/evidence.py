"""Where a glance has evidence, and what glance and looks make of it together: the rule of families without a policy.

A classifier that is linear over a mean can be asked about every cell of the glance's map. A look goes to a region of
cells that are sure of the same class, as large as the region; the first goes to the middle square, for what fills the
frame. Then both networks have an opinion about the same box, and a label is as good as its best look.

Shapes: b clips, t frames, h × w cells, l looks, c classes. Boxes are left, top, right, bottom, each 0…1 of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SUREST = 1e-4  # how near to 0 and 1 a probability is believed


@dataclass(frozen=True)
class Evidence:
    """The constants of the rule; all were fitted on made-up scenes, and none of a network's weights was."""

    background: float = 0.5
    """How much of a class's mean over the frame is no evidence: what is everywhere is nowhere in particular."""
    edge: float = 0.2
    """A region ends where its class is less likely than this part of its peak."""
    margin: float = 1.0
    """Cells added to a region's extent, half on either side."""
    least: float = 2.0
    """No box is smaller, in cells."""
    centre: float = 0.72
    """Where in its tile a cell looks: strides pad to the right and below, so not at 0.5."""
    focus_weight: float = 0.70
    glance_weight: float = 0.12
    size_weight: float = 0.42
    """For each doubling of a box's side."""
    bias: float = -1.35


@dataclass(frozen=True)
class Looks:
    """Where to look: `frames` (b, l) and `boxes` (b, l, 4)."""

    frames: Tensor
    boxes: Tensor


def cell_logits(maps: Tensor, classifier: nn.Linear) -> Tensor:
    """The classifier at every cell: maps (b, t, channels, h, w) → (b, t, h, w, c)."""
    logits: Tensor = classifier(maps.movedim(2, -1))
    return logits


def choose_looks(logits: Tensor, looks: int, rule: Evidence) -> Looks:
    """The middle square, then regions from the surest on, apart in place and class; logits are (b, t, h, w, c)."""
    middle = _middle_square(logits, rule)
    regions = [middle, *_regions(logits, looks - 1, rule)]
    return Looks(*(torch.stack(parts, dim=1) for parts in zip(*regions, strict=True)))


def box_logits(logits: Tensor, frames: Tensor, boxes: Tensor, rule: Evidence) -> Tensor:
    """What the glance says of each box, the mean of the cells that look into it: → (b, l, c)."""
    height, width = logits.shape[2:4]
    left, top, right, bottom = boxes.unbind(-1)
    rows = _inside(top, bottom, height, rule.centre)
    cols = _inside(left, right, width, rule.centre)
    clip = torch.arange(len(logits), device=logits.device)[:, None]
    return torch.einsum("blh,blw,blhwc->blc", rows, cols, logits[clip, frames])


def look_logits(focus: Tensor, glance: Tensor, boxes: Tensor, cells: tuple[int, int], rule: Evidence) -> Tensor:
    """How each look speaks for each class (b, l, c): log-odds, whose sigmoid is a score. `cells` are the map's h, w."""
    side = (boxes[..., 3] - boxes[..., 1]) * cells[0] / min(cells)
    return (
        rule.focus_weight * _log_odds(focus)
        + rule.glance_weight * _log_odds(glance)
        + rule.size_weight * side.log2()[..., None]
        + rule.bias
    )


def answers(spoken: Tensor) -> tuple[Tensor, Tensor]:
    """After each look a label is as good as its best one so far: → log-odds (b, l, c) and which look that is."""
    best = spoken.cummax(dim=1)
    return best.values, best.indices


def _log_odds(logits: Tensor) -> Tensor:
    """Of the softmax; independent of how many looks there are."""
    return logits.float().softmax(dim=-1).clamp(_SUREST, 1 - 10 * _SUREST).logit()


_Look = tuple[Tensor, Tensor]
"""Frames (b), boxes (b, 4)."""


def _middle_square(logits: Tensor, rule: Evidence) -> _Look:
    """In the frame where the glance is surest about it."""
    clips, frames, height, width = logits.shape[:4]
    side = min(height, width)
    x, y = (1 - side / width) / 2, (1 - side / height) / 2
    box = logits.new_tensor((x, y, 1 - x, 1 - y), dtype=torch.float32)
    every = torch.arange(frames, device=logits.device).expand(clips, frames)
    boxes = box.expand(clips, frames, 4)
    surest = box_logits(logits, every, boxes, rule).float().softmax(dim=-1).amax(dim=-1).argmax(dim=1)
    return surest, boxes[:, 0]


def _regions(logits: Tensor, count: int, rule: Evidence) -> list[_Look]:
    clips, frames, height, width = logits.shape[:4]
    clip = torch.arange(clips, device=logits.device)
    frame = torch.arange(frames, device=logits.device)
    odds = (logits - rule.background * logits.mean(dim=(2, 3), keepdim=True)).float().softmax(dim=-1)
    sure, sort = odds.max(dim=-1)
    free = torch.ones_like(sure, dtype=torch.bool)
    found = []
    for _ in range(count):
        # Where everything is explained the surest cells get another look: how many there are is settled before.
        peak = torch.where(free, sure, sure - 1).flatten(1).argmax(dim=1)
        at, cell = peak // (height * width), peak % (height * width)
        strength = sure.flatten(1)[clip, peak]
        kind = sort.flatten(1)[clip, peak]
        likely = odds[clip, at, :, :, kind]
        region = _connected(likely >= rule.edge * strength[:, None, None], cell)
        found.append((at, _around(region, rule)))
        explained = (sort == kind[:, None, None, None]) & (sure <= strength[:, None, None, None])
        here = (frame == at[:, None])[:, :, None, None]
        free &= ~torch.where(here, _grown(region)[:, None], explained)
    return found


def _connected(mask: Tensor, cell: Tensor) -> Tensor:
    """The part of a mask (b, h, w) that hangs together with one of its cells, corners included."""
    seed = F.one_hot(cell, mask[0].numel()).view(mask.shape).bool()
    for _ in range(sum(mask.shape[1:])):  # not until nothing changes: that would wait for the device
        seed = _grown(seed) & mask
    return seed


def _grown(mask: Tensor) -> Tensor:
    return F.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0


def _around(region: Tensor, rule: Evidence) -> Tensor:
    """The square around a region (b, h, w), moved inside the frame where it hangs out: → (b, 4)."""
    height, width = region.shape[1:]
    first_row, last_row = _extent(region.any(dim=2))
    first_col, last_col = _extent(region.any(dim=1))
    extent = torch.maximum(last_row - first_row, last_col - first_col) + 1
    side = (extent + rule.margin).clamp(min(rule.least, height, width), min(height, width))
    top = ((first_row + last_row) / 2 + rule.centre - side / 2).clamp(min=0).minimum(height - side)
    left = ((first_col + last_col) / 2 + rule.centre - side / 2).clamp(min=0).minimum(width - side)
    return torch.stack((left / width, top / height, (left + side) / width, (top + side) / height), dim=-1)


def _extent(taken: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last place that is taken: (b, n) → two (b)."""
    first = taken.int().argmax(dim=1)
    last = taken.shape[1] - 1 - taken.flip(1).int().argmax(dim=1)
    return first.float(), last.float()


def _inside(start: Tensor, end: Tensor, cells: int, centre: float) -> Tensor:
    """The weight of each cell in the mean along one side (b, l, cells); the nearest alone where none looks into it."""
    looks_at = (torch.arange(cells, device=start.device) + centre) / cells
    inside = (looks_at >= start[..., None]) & (looks_at <= end[..., None])
    middle = (start + end) / 2
    nearest = F.one_hot((looks_at - middle[..., None]).abs().argmin(dim=-1), cells).bool()
    chosen = torch.where(inside.any(dim=-1, keepdim=True), inside, nearest).float()
    return chosen / chosen.sum(dim=-1, keepdim=True)
