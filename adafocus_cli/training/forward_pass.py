"""The stages of a family over a training batch, step by step: glance, where to look, patches, answers.

Only the two networks run in reduced precision, as they do when they tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from adafocus_cli.models.base import Family, Gaze, Memory, Turn
from adafocus_cli.nn.pixels import boxes_at
from adafocus_cli.video.sampling import FramePlan

# A number of frames that is larger than any plan; all such plans have the same positions.
_LONG = 10_000


class Draws:
    """Where a step takes its random numbers from, dropout's excepted; without a generator, from torch's own."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def uniform(self, *shape: int) -> Tensor:
        """In 0…1."""
        return torch.rand(shape, generator=self.generator)

    def below(self, end: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to `end` − 1."""
        return torch.randint(end, shape, generator=self.generator)

    def sample(self, chances: Distribution) -> Tensor:
        drawn: Tensor = chances.sample()
        return drawn

    def without_replacement(self, shares: Tensor, count: int) -> Tensor:
        """Shares (n, choices) → `count` different choices in every row."""
        return torch.multinomial(shares, count, generator=self.generator)


@dataclass(frozen=True)
class ForwardPass:
    """The glance's maps of a batch, and the frames that may be looked at, uint8."""

    model: Family
    turn: Turn
    maps: Tensor
    frames: Tensor

    @classmethod
    def of(cls, model: Family, pixels: Tensor, glances: Tensor | None = None) -> ForwardPass:
        """`pixels` (b, n, s, s, 3) are the frames of the model's plan, uint8; the glance sees those that its turn
        names, or `glances` (b, t) of those that may be looked at."""
        (turn,) = model.turns()
        plan = plan_of(model)
        looked_at = _frames_at(pixels, plan.focus)
        if glances is None:
            glanced_at = _frames_at(pixels, [plan.glance[i] for i in turn.glance])
        else:
            glanced_at = _of_each_clip(looked_at, glances.to(pixels.device))
        return cls(model, turn, at_least_single(model.glance(model.normalised(glanced_at))), looked_at)

    @property
    def order(self) -> tuple[int, ...]:
        """The frames that are looked at, as positions in the plan's focus, in the order of the looks."""
        return tuple(self.turn.looks) if self.model.clip_wise else self.turn.glance

    def policy_gaze(self) -> Gaze:
        """Where the policy looks; no gradient goes back into the maps."""
        with full_precision(self.maps):
            return self.model.locate(self.turn, self.maps.detach(), {})

    def random_gaze(self, draws: Draws) -> Gaze:
        """Uniform: a place for each frame or, where networks exchange features between frames, one for the clip.

        A family that sees every frame by itself and cuts whole pixels has its corner drawn among them, as published.
        """
        spec, clips, looks = self.model.spec, len(self.maps), len(self.turn.looks)
        if self.model.clip_wise or not self.model.whole_pixels:
            return self.gaze_at(draws.uniform(clips, 1 if self.model.clip_wise else looks, 2))
        corners = draws.below(max(1, spec.frame_size - spec.patch_size), clips, looks, 2)
        top, left = corners.to(self.maps.device).unbind(-1)
        return self.gaze(torch.stack((left, top, left + spec.patch_size, top + spec.patch_size), dim=-1).float())

    def gaze_at(self, points: Tensor) -> Gaze:
        """Points (b, looks or 1, 2) as (row, col) in 0…1."""
        spec = self.model.spec
        return self.gaze(
            boxes_at(points.to(self.maps), spec.frame_size, spec.patch_size, whole_pixels=self.model.whole_pixels)
        )

    def gaze(self, boxes: Tensor) -> Gaze:
        """At these boxes (b, looks or 1, 4) of the frames, in the order of the looks."""
        frames = torch.tensor(self.order, device=boxes.device).expand(len(boxes), -1)
        return Gaze(frames, boxes.expand(-1, frames.shape[1], -1))

    def focus(self, *gazes: Gaze) -> Tensor:
        """The focus network's maps of the patches there; of several gazes one after another, in one batch.

        Those of looks that are skipped are nothing.
        """
        frames = torch.cat([_of_each_clip(self.frames, gaze.frames) for gaze in gazes])
        boxes = torch.cat([gaze.boxes for gaze in gazes])
        with full_precision(self.maps):
            patches = self.model.patches(frames.flatten(0, 1), boxes.flatten(0, 1))
        maps = self.model.focus(patches.view(*boxes.shape[:2], *patches.shape[1:]))
        kept = [gaze.kept for gaze in gazes if gaze.kept is not None]
        return maps * torch.cat(kept)[..., None, None, None] if kept else maps

    def focus_on_whole_frames(self) -> Tensor:
        """The focus network's maps of whole frames, in the order of the looks."""
        return self.model.focus(self.model.normalised(_frames_at(self.frames, self.order)))

    def whole_frame_maps(self) -> Tensor:
        """The same in evaluation mode and without gradient."""
        network = self.model.focus_net
        learning = network.training
        network.eval()
        with torch.no_grad():
            maps = self.focus_on_whole_frames()
        network.train(learning)
        return at_least_single(maps)

    def answers(self, focused: Tensor) -> Tensor:
        """Logits (b, answers, classes)."""
        memory: Memory = {}
        with full_precision(focused):
            return self.model.classify(self.turn, self.maps, at_least_single(focused), memory)


def plan_of(model: Family) -> FramePlan:
    """Positions in the frames of a batch."""
    return model.plan(_LONG)


def _frames_at(pixels: Tensor, positions: tuple[int, ...] | list[int]) -> Tensor:
    return pixels.index_select(1, torch.tensor(positions, device=pixels.device))


def _of_each_clip(pixels: Tensor, positions: Tensor) -> Tensor:
    """Frames (b, n, …) at positions (b, t) that differ from clip to clip."""
    return pixels[torch.arange(len(pixels), device=pixels.device)[:, None], positions]


def answers(model: Family, pixels: Tensor) -> Tensor:
    """All stages: uint8 frames (b, n, s, s, 3) of the model's plan → logits (b, answers, classes)."""
    if not model.cuts_patches:
        return _answers_without_patches(model, pixels)
    forward_pass = ForwardPass.of(model, pixels)
    return forward_pass.answers(forward_pass.focus(forward_pass.policy_gaze()))


def _answers_without_patches(model: Family, pixels: Tensor) -> Tensor:
    (turn,) = model.turns()
    glance_maps = model.glance(model.normalised(pixels)).float()
    memory: Memory = {}
    if not turn.looks:
        with full_precision(glance_maps):
            return model.classify(turn, glance_maps, None, memory)
    with full_precision(glance_maps):
        gaze = model.locate(turn, glance_maps, memory)
    assert gaze.features is not None, "a family without patches gives features"
    focused = model.focus(gaze.features)
    with full_precision(glance_maps):
        return model.classify(turn, glance_maps, focused.float(), memory)


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    with torch.autocast(like.device.type, enabled=False):
        yield


def at_least_single(maps: Tensor) -> Tensor:
    """In single precision, if it was less."""
    return maps if maps.dtype == torch.float64 else maps.float()
