"""The stages of a family over a training batch, step by step: glance, where to look, patches, answers.

Only the two networks run in reduced precision, as they do when they tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from adafocus_cli.models.base import Family, Gaze, Memory, Turn
from adafocus_cli.nn.pixels import boxes_at

# A number of frames that is larger than any plan; all such plans have the same positions.
_LONG = 10_000


@dataclass(frozen=True)
class ForwardPass:
    """The glance's maps of a batch, and the frames to be looked at, uint8, both in looking order."""

    model: Family
    turn: Turn
    maps: Tensor
    frames: Tensor

    @classmethod
    def of(cls, model: Family, pixels: Tensor) -> ForwardPass:
        """`pixels` (b, n, s, s, 3) are the frames of the model's plan, uint8."""
        (turn,) = model.turns()
        plan = model.plan(_LONG)
        glanced = [plan.glance[i] for i in turn.glance]
        looked = [plan.focus[i] for i in _looks(model, turn)]
        maps = model.glance(model.normalised(_frames_at(pixels, glanced)))
        return cls(model, turn, maps.float(), _frames_at(pixels, looked))

    def policy_gaze(self) -> Gaze:
        """Where the policy looks; no gradient goes back into the maps."""
        with full_precision(self.maps):
            return self.model.locate(self.turn, self.maps.detach(), {})

    def random_gaze(self) -> Gaze:
        """Uniform: a point for each frame or, where networks exchange features between frames, one for the clip."""
        clips, looks = len(self.maps), len(self.turn.looks)
        return self.gaze_at(torch.rand(clips, 1 if self.model.clip_wise else looks, 2))

    def gaze_at(self, points: Tensor) -> Gaze:
        """Points (b, looks or 1, 2) as (row, col) in 0…1."""
        spec = self.model.spec
        boxes = boxes_at(
            points.to(self.maps.device), spec.frame_size, spec.patch_size, whole_pixels=self.model.whole_pixels
        )
        frames = torch.tensor(_looks(self.model, self.turn), device=boxes.device).expand(len(boxes), -1)
        return Gaze(frames, boxes.expand(-1, frames.shape[1], -1))

    def focus(self, gaze: Gaze) -> Tensor:
        """The focus network's maps of the patches there."""
        with full_precision(self.maps):
            patches = self.model.patches(self.frames.flatten(0, 1), gaze.boxes.flatten(0, 1))
        return self.model.focus(patches.view(*gaze.boxes.shape[:2], *patches.shape[1:]))

    def whole_frame_maps(self) -> Tensor:
        """The focus network's maps of whole frames, in evaluation mode and without gradient."""
        network = self.model.focus_net
        learning = network.training
        network.eval()
        with torch.no_grad():
            maps = self.model.focus(self.model.normalised(self.frames))
        network.train(learning)
        return maps.float()

    def answers(self, focused: Tensor) -> Tensor:
        """Logits (b, answers, classes)."""
        memory: Memory = {}
        with full_precision(focused):
            return self.model.classify(self.turn, self.maps, focused.float(), memory)


def _frames_at(pixels: Tensor, positions: list[int]) -> Tensor:
    return pixels.index_select(1, torch.tensor(positions, device=pixels.device))


def _looks(model: Family, turn: Turn) -> tuple[int, ...]:
    """The frames that are looked at, as positions in the plan's focus, in the order of the looks."""
    return tuple(turn.looks) if model.clip_wise else turn.glance


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
