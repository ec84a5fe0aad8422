"""One look at a batch of clips, in pieces that a learner can change: glance, where to look, patches, answers.

The stages are the family's own; only the two networks run in reduced precision, as they do when they tag. Knows nothing
of losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from adafocus_cli.models.base import Family, Gaze, Memory, Turn
from adafocus_cli.nn.patches import boxes_at

# Of any video that is longer than a model's samples, the same positions are glanced at and looked at.
_LONG = 10_000


@dataclass(frozen=True)
class Glance:
    """What was seen of a batch: the glance's maps, and the frames to be looked at, uint8, both in looking order."""

    model: Family
    turn: Turn
    maps: Tensor
    frames: Tensor

    @classmethod
    def at(cls, model: Family, pixels: Tensor) -> Glance:
        """`pixels` (b, n, s, s, 3) are the frames of the model's plan, uint8."""
        (turn,) = model.turns()
        plan = model.plan(_LONG)
        glanced = [plan.glance[i] for i in turn.glance]
        looked = [plan.focus[i] for i in _looks(model, turn)]
        maps = model.glance(model.normalised(_at(pixels, glanced)))
        return cls(model, turn, maps.float(), _at(pixels, looked))

    def learned(self) -> Gaze:
        """Where the policy looks; it learns from the maps without changing them."""
        with full_precision(self.maps):
            return self.model.locate(self.turn, self.maps.detach(), {})

    def at_random(self) -> Gaze:
        """Uniform: a place for each frame or, where networks exchange features between frames, one for the clip."""
        clips, looks = len(self.maps), len(self.turn.looks)
        return self.at_places(torch.rand(clips, 1 if self.model.clip_wise else looks, 2))

    def at_places(self, places: Tensor) -> Gaze:
        """Places (b, looks or 1, 2) as (row, col) in 0…1."""
        spec = self.model.spec
        boxes = boxes_at(
            places.to(self.maps.device), spec.frame_size, spec.patch_size, whole_pixels=self.model.whole_pixels
        )
        frames = torch.tensor(_looks(self.model, self.turn), device=boxes.device).expand(len(boxes), -1)
        return Gaze(frames, boxes.expand(-1, frames.shape[1], -1))

    def focus(self, gaze: Gaze) -> Tensor:
        """The focus network's maps of the patches there."""
        with full_precision(self.maps):
            patches = self.model.patches(self.frames.flatten(0, 1), gaze.boxes.flatten(0, 1))
        return self.model.focus(patches.view(*gaze.boxes.shape[:2], *patches.shape[1:]))

    def whole(self) -> Tensor:
        """The focus network's maps of whole frames, as it makes them when it tags; nothing can be learned from them."""
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


def _at(pixels: Tensor, positions: list[int]) -> Tensor:
    return pixels.index_select(1, torch.tensor(positions, device=pixels.device))


def _looks(model: Family, turn: Turn) -> tuple[int, ...]:
    """The frames, by their places in the plan's focus, that are looked at, in the order of the looks."""
    return tuple(turn.looks) if model.clip_wise else turn.glance


def answers(model: Family, pixels: Tensor) -> Tensor:
    """All of it: uint8 frames (b, n, s, s, 3) of the model's plan → logits (b, answers, classes)."""
    if not model.cuts_patches:
        return _answers_of_features(model, pixels)
    seen = Glance.at(model, pixels)
    return seen.answers(seen.focus(seen.learned()))


def _answers_of_features(model: Family, pixels: Tensor) -> Tensor:
    (turn,) = model.turns()
    seen = model.glance(model.normalised(pixels)).float()
    memory: Memory = {}
    with full_precision(seen):
        gaze = model.locate(turn, seen, memory)
    assert gaze.features is not None, "what sees no patches sees features"
    focused = model.focus(gaze.features)
    with full_precision(seen):
        return model.classify(turn, seen, focused.float(), memory)


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    with torch.autocast(like.device.type, enabled=False):
        yield
