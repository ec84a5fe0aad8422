"""Overrides the policy of a model: patches at the centre, at random, in random frames, or whole frames, with the same
weights.

The accuracy that is lost is what the policy is worth. A runtime that wraps another one: either the frames stay those
that the policy chose and the boxes are replaced, or the frames are replaced and the boxes are the policy's for them.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import ChoosesFrames
from adafocus_cli.models.taught import TaughtToLook
from adafocus_cli.nn.pixels import view_of
from adafocus_cli.runtime import Runtime
from adafocus_cli.tagger import ClipTagger

Policy = Literal["learned", "random", "random-frames", "centre", "full"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

_KEY_WORDS = 4  # 16 bits each, which any float holds exactly


def with_policy(tagger: ClipTagger, policy: Policy, *, seed: int = 0) -> ClipTagger:
    """The tagger with its patches placed as `policy` says; `seed` is for random ones."""
    if policy == "learned":
        return tagger
    if not (tagger.family.cuts_patches or tagger.family.looks_at_source):
        raise UsageError(f"{tagger.spec.family} uses whole frames and has no policy; leave --policy out")
    if policy == "full" and tagger.family.looks_at_source:
        raise UsageError(
            f"{tagger.spec.family} looks into the source, where a whole frame has any size; "
            "give --policy learned, random or centre"
        )
    if policy == "random-frames" and not isinstance(tagger.family, ChoosesFrames):
        raise UsageError(
            f"{tagger.spec.family} does not choose its frames, so they cannot be others; give --policy random or centre"
        )
    overridden = _OVERRIDES[policy](tagger.runtime, seed)
    patch_size = overridden.model.spec.patch_size
    return ClipTagger(overridden, tagger.labels, lambda: replace(tagger.model, patch_size=patch_size))


class PolicyOverride:
    """A runtime that passes everything on; subclasses change a part of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.inner = runtime
        self.name, self.device, self.precision = runtime.name, runtime.device, runtime.precision
        self.model = runtime.model

    @property
    def lanes(self) -> int:
        return self.inner.lanes

    def halve_lanes(self) -> bool:
        return self.inner.halve_lanes()

    def spread(self) -> AbstractContextManager[int]:
        return nullcontext(1)  # subclasses remember the last pixels

    def one_by_one(self, macs: int) -> AbstractContextManager[None]:
        return self.inner.one_by_one(macs)

    def upload(self, clips: Sequence[np.ndarray]) -> Tensor:
        return self.inner.upload(clips)

    def glance(self, pixels: Tensor) -> Tensor:
        return self.inner.glance(pixels)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        return self.inner.locate(turn, glance_maps, memory)

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        return self.inner.patches(pixels, boxes)

    def focus(self, patches: Tensor) -> Tensor:
        return self.inner.focus(patches)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        return self.inner.classify(turn, glance_maps, focused, memory)

    def look(self, turn: Turn, glance_maps: Tensor, memory: Memory, points: Sequence[object] | None = None) -> Gaze:
        """The same frames and sizes of boxes at points (clips, looks, 2), row and column in 0…1, or in the centre."""
        model, gaze = self.model, self.inner.locate(turn, glance_maps, memory)
        left, top, right, bottom = gaze.boxes.unbind(-1)
        sides = torch.stack((bottom - top, right - left), dim=-1)
        room = sides.new_tensor(model.sides(glance_maps)) - sides
        share = torch.full_like(sides, 0.5) if points is None else sides.new_tensor(points)
        whole = model.whole_pixels and not model.looks_at_source
        corner = (share * (room + 1)).floor().minimum(room) if whole else share * room
        boxes = torch.cat((corner.flip(-1), (corner + sides).flip(-1)), dim=-1)
        boxes = _in_same_views(boxes, gaze.boxes, model.sides(glance_maps)[1])
        model.look_elsewhere(turn, boxes, glance_maps, memory)
        return replace(gaze, boxes=boxes)


class CentrePolicy(PolicyOverride):
    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        return self.look(turn, glance_maps, memory)


class WholeFramePolicy(PolicyOverride):
    """The focus network sees whole frames; the copied spec makes its cost count so."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.model = copy.copy(runtime.model)
        self.model.spec = runtime.model.spec.with_patch_size(runtime.model.spec.frame_size)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        gaze = super().locate(turn, glance_maps, memory)
        side = self.model.spec.frame_size
        frames = gaze.boxes.new_tensor((0, 0, side, side)).expand_as(gaze.boxes)
        return replace(gaze, boxes=_in_same_views(frames, gaze.boxes, side))

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        return self.model.whole_frames_of(pixels, boxes)


class _RandomByPixels(PolicyOverride):
    """By the seed and the pixels that were glanced at: in any batch the same.

    The `glance_maps` that a clip remembers end in the shape of the maps and a key of each frame's pixels, because a
    look may come turns after its glance.
    """

    def __init__(self, runtime: Runtime, seed: int) -> None:
        super().__init__(runtime)
        self._seed = seed
        self._clips: Sequence[np.ndarray] = ()

    def upload(self, clips: Sequence[np.ndarray]) -> Tensor:
        self._clips = clips
        return super().upload(clips)

    def glance(self, pixels: Tensor) -> Tensor:
        keys = [[_words(_digest(frame.tobytes())) for frame in clip] for clip in self._clips]
        glance_maps = super().glance(pixels)
        shape = glance_maps.new_tensor(glance_maps.shape[2:]).expand(*glance_maps.shape[:2], -1)
        of_maps = glance_maps.new_tensor(keys).repeat(1, self.model.spec.views, 1)
        return torch.cat((glance_maps.flatten(2), shape, of_maps), dim=2)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        return super().classify(turn, self._maps(glance_maps), focused, memory)

    def _keys(self, glance_maps: Tensor) -> list[list[list[float]]]:
        """Of each clip, those of its frames."""
        keys: list[list[list[float]]] = glance_maps[..., -_KEY_WORDS:].tolist()
        return keys

    def _maps(self, glance_maps: Tensor) -> Tensor:
        maps, shape = glance_maps[..., : -_KEY_WORDS - 3], glance_maps[0, 0, -_KEY_WORDS - 3 : -_KEY_WORDS]
        return maps.reshape(*glance_maps.shape[:2], *shape.int().tolist())


class RandomPolicy(_RandomByPixels):
    """Places uniform in the frame, another one for each step."""

    def __init__(self, runtime: Runtime, seed: int) -> None:
        super().__init__(runtime, seed)
        # What compares frames, or exchanges features between them, needs the same point in all of them.
        self._one_point = self.model.clip_wise or isinstance(self.model, TaughtToLook)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        keys = self._keys(glance_maps)
        points = [[self._point(clip, step, turn) for step in turn.looks] for clip in keys]
        return self.look(turn, self._maps(glance_maps), memory, points)

    def _point(self, keys: list[list[float]], step: int, turn: Turn) -> tuple[float, float]:
        """Row and column in 0…1. Steps are counted within the turn where each has its own glance, else from the first:
        either way a look has the same key however the turns are grouped."""
        if self._one_point:
            ingredients: object = (self._seed, keys)
        else:
            number = step - turn.looks.start if turn.glance else step
            ingredients = (self._seed, step, keys[number % len(keys)])
        digest = _digest(repr(ingredients).encode())
        return int.from_bytes(digest[:4], "big") / 2**32, int.from_bytes(digest[4:], "big") / 2**32


class RandomFramesPolicy(_RandomByPixels):
    """Different ones of the frames that may be chosen, in their order; the boxes are the policy's for these."""

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        if "frames" not in memory:
            chosen = [self._chosen(clip) for clip in self._keys(glance_maps)]
            memory["frames"] = torch.tensor(chosen, device=glance_maps.device)
        return super().locate(turn, self._maps(glance_maps), memory)

    def _chosen(self, keys: list[list[float]]) -> list[int]:
        """Of each view others."""
        spec = self.model.spec
        chance = np.random.default_rng(int.from_bytes(_digest(repr((self._seed, keys)).encode()), "big"))
        views = [chance.choice(spec.candidate_frames, spec.focus_frames, replace=False) for _ in range(spec.views)]
        return [int(frame) for view in views for frame in sorted(view)]


_OVERRIDES: dict[Policy, Callable[[Runtime, int], PolicyOverride]] = {
    "random": RandomPolicy,
    "random-frames": RandomFramesPolicy,
    "centre": lambda runtime, _: CentrePolicy(runtime),
    "full": lambda runtime, _: WholeFramePolicy(runtime),
}


def _in_same_views(boxes: Tensor, learned: Tensor, side: int) -> Tensor:
    """Boxes within the first view, moved to the one that each learned box is in: views are beside one another."""
    return boxes + side * view_of(learned, side)[..., None] * boxes.new_tensor((1, 0, 1, 0))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=2 * _KEY_WORDS).digest()


def _words(digest: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{_KEY_WORDS}H", digest)
