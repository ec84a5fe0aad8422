"""Where a glance has evidence, and what glance and looks make of it together: the rule of families without a policy.

A classifier that is linear over a mean can be asked about any window of the map's cells. The first look goes to the
middle square, for what fills the frame; the others go to the windows that are surest of a class, small ones and large
ones. Then both networks have an opinion about the same box, and a label is as good as its best look.

Shapes: b clips, t frames, h × w cells, l looks, c classes. Boxes are left, top, right, bottom, each 0…1 of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SUREST = 1e-4  # how near to 0 and 1 a probability is believed
_INSIDE = 0.5  # of the smaller of two boxes: from here on it is a part of the other, and no new sight of the same class


@dataclass(frozen=True)
class Belief:
    """How a look speaks for a class: the log-odds of both networks, weighted, and how common being right is."""

    focus: float
    glance: float
    bias: float


@dataclass(frozen=True)
class Evidence:
    """The constants of the rule; all were fitted on made-up scenes, and none of a network's weights was."""

    background: float = 0.5
    """How much of a class's mean over the frame is no evidence: what is everywhere is nowhere in particular."""
    sizes: tuple[int, ...] = (8, 6, 4, 3, 2)
    """Of the windows, in cells; of two that are as sure, the first is taken."""
    margin: float = 0.5
    """Cells added to a window's side, half on either side. What is around a thing makes it hard to name."""
    overlap: float = 0.3
    """How much of what two boxes cover may be shared by them."""
    again: float = 0.3
    """How much less another window that shows a class is worth after each look at it: others may be there, too."""
    centre: float = 0.72
    """Where in its tile a cell looks: strides pad to the right and below, so not at 0.5."""
    middle: Belief = Belief(focus=1.66, glance=1.93, bias=3.91)
    place: Belief = Belief(focus=0.90, glance=0.07, bias=-2.30)


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
    """The middle square, then windows from the surest on, apart from one another; logits are (b, t, h, w, c)."""
    frame, middle = _middle_square(logits, rule)
    windows = _windows(logits, rule)
    explained = torch.zeros_like(windows.sure)
    clip = torch.arange(len(logits), device=logits.device)
    frames, boxes = [frame], [middle]
    for _ in range(looks - 1):
        # Where all are explained the least explained get another look: how many there are is settled before.
        peak = (windows.sure - explained).argmax(dim=1)
        frames.append(windows.frames[peak])
        boxes.append(windows.boxes[peak])
        of_both, of_smaller = _overlaps(windows.boxes, boxes[-1])
        same = windows.kinds == windows.kinds[clip, peak][:, None]
        explained += rule.again * same + ((of_both > rule.overlap) | (same & (of_smaller > _INSIDE)))
    return Looks(torch.stack(frames, dim=1), torch.stack(boxes, dim=1))


def box_logits(logits: Tensor, frames: Tensor, boxes: Tensor, rule: Evidence) -> Tensor:
    """What the glance says of each box, the mean of the cells that look into it: → (b, l, c)."""
    height, width = logits.shape[2:4]
    left, top, right, bottom = boxes.unbind(-1)
    rows = _inside(top, bottom, height, rule.centre)
    cols = _inside(left, right, width, rule.centre)
    of_frame = F.one_hot(frames, logits.shape[1]).to(rows)
    shares = torch.einsum("blt,blh,blw->blthw", of_frame, rows, cols)
    return shares.flatten(2) @ logits.float().flatten(1, 3)


def look_logits(focus: Tensor, glance: Tensor, looks: range, rule: Evidence) -> Tensor:
    """How each look speaks for each class (b, l, c): log-odds, whose sigmoid is a score. The first is in the middle."""
    beliefs = [rule.place if look else rule.middle for look in looks]
    weights = focus.new_tensor([(each.focus, each.glance, each.bias) for each in beliefs], dtype=torch.float32)
    of_focus, of_glance, bias = weights[..., None].unbind(1)
    return of_focus * _log_odds(focus) + of_glance * _log_odds(glance) + bias


def answers(spoken: Tensor) -> tuple[Tensor, Tensor]:
    """After each look a label is as good as its best one so far: → log-odds (b, l, c) and which look that is."""
    best = spoken.cummax(dim=1)
    return best.values, best.indices


def _log_odds(logits: Tensor) -> Tensor:
    """Of the softmax; independent of how many looks there are."""
    return logits.float().softmax(dim=-1).clamp(_SUREST, 1 - 10 * _SUREST).logit()


def _middle_square(logits: Tensor, rule: Evidence) -> tuple[Tensor, Tensor]:
    """In the frame where the glance is surest about it: frames (b), boxes (b, 4)."""
    clips, frames, height, width = logits.shape[:4]
    side = min(height, width)
    x, y = (1 - side / width) / 2, (1 - side / height) / 2
    box = logits.new_tensor((x, y, 1 - x, 1 - y), dtype=torch.float32)
    every = torch.arange(frames, device=logits.device).expand(clips, frames)
    boxes = box.expand(clips, frames, 4)
    surest = box_logits(logits, every, boxes, rule).float().softmax(dim=-1).amax(dim=-1).argmax(dim=1)
    return surest, boxes[:, 0]


@dataclass(frozen=True)
class _Windows:
    """Squares of cells: how sure the glance is of which class (b, n), their frames (n), and boxes to look at (n, 4)."""

    sure: Tensor
    kinds: Tensor
    frames: Tensor
    boxes: Tensor


def _windows(logits: Tensor, rule: Evidence) -> _Windows:
    """All that are smaller than the frame, in all places of all frames."""
    frames, height, width = logits.shape[1:4]
    maps = logits.float()
    evidence = maps - rule.background * maps.mean(dim=(2, 3), keepdim=True)
    sure, kinds, numbers, boxes = [], [], [], []
    for cells in [cells for cells in rule.sizes if cells < min(height, width)] or [1]:
        means = _sums(_sums(evidence, cells, dim=2), cells, dim=3) / cells**2
        surest = means.max(dim=-1)  # (b, t, rows, columns)
        there = _around(surest.values.shape[2:], cells, (height, width), rule).to(logits.device)
        sure.append((surest.values - means.logsumexp(dim=-1)).exp().flatten(1))
        kinds.append(surest.indices.flatten(1))
        numbers.append(torch.arange(frames, device=logits.device).repeat_interleave(len(there)))
        boxes.append(there.repeat(frames, 1))
    return _Windows(torch.cat(sure, dim=1), torch.cat(kinds, dim=1), torch.cat(numbers), torch.cat(boxes))


def _sums(values: Tensor, many: int, dim: int) -> Tensor:
    """Of so many neighbours. Pooling, which wants the classes before the cells, takes three times as long."""
    places = values.shape[dim] - many + 1
    total = values.narrow(dim, 0, places).clone()
    for first in range(1, many):
        total += values.narrow(dim, first, places)
    return total


def _around(places: torch.Size, cells: int, shape: tuple[int, int], rule: Evidence) -> Tensor:
    """Boxes around windows of so many cells, moved inside the frame where they hang out: → (places, 4)."""
    height, width = shape
    side = min(cells + rule.margin, height, width)
    middle = (cells - 1) / 2 + rule.centre
    top = (torch.arange(places[0]) + middle - side / 2).clamp(0, height - side)[:, None].expand(places)
    left = (torch.arange(places[1]) + middle - side / 2).clamp(0, width - side)[None].expand(places)
    return torch.stack((left / width, top / height, (left + side) / width, (top + side) / height), dim=-1).flatten(0, 1)


def _overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """What boxes (n, 4) share with others (b, 4), as a part of what both cover, and of the smaller: → two (b, n)."""
    boxes, others = boxes[None], others[:, None]
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    area, other = ((each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (boxes, others))
    return shared / (area + other - shared), shared / torch.minimum(area, other)


def _inside(start: Tensor, end: Tensor, cells: int, centre: float) -> Tensor:
    """The weight of each cell in the mean along one side (b, l, cells); the nearest alone where none looks into it."""
    looks_at = (torch.arange(cells, device=start.device) + centre) / cells
    inside = (looks_at >= start[..., None]) & (looks_at <= end[..., None])
    middle = (start + end) / 2
    nearest = F.one_hot((looks_at - middle[..., None]).abs().argmin(dim=-1), cells).bool()
    chosen = torch.where(inside.any(dim=-1, keepdim=True), inside, nearest).float()
    return chosen / chosen.sum(dim=-1, keepdim=True)
