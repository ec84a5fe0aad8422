"""What a family of models supplies: four stages, the frames it wants, and the turns in which it looks.

    glance    whole frames              → feature maps          the light network
    locate    feature maps              → a `Gaze`              the policy: which frames, which boxes
    focus     the patches found there → feature maps          the strong network
    classify  both                      → one answer a step     what it makes of them so far

The tagger owns the loop around them: it decodes, crops, drops finished clips and adds up the cost. A family never
sees a file, a device, or another clip; what it must remember of a clip between turns it keeps in that clip's `Memory`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.nn.backbones import Backbone
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.nn.pixels import crop, normalised, resize, sample
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import Chance, FramePlan

Memory = dict[str, Tensor]
"""What clips remember between turns; the first dimension of every tensor is the clip."""


@dataclass(frozen=True)
class Turn:
    """One round of the loop: glance at some frames, take some careful looks, give some answers.

    `glance` are places in the plan's glance frames, in looking order; `looks` and `answers` are numbers of steps.
    A turn may leave out any of the three.
    """

    glance: tuple[int, ...]
    looks: range
    answers: range


@dataclass(frozen=True)
class Gaze:
    """Where a turn looks: `frames` (clips, looks) are places in the plan's focus frames, `boxes` (clips, looks, 4)."""

    frames: Tensor
    boxes: Tensor
    features: Tensor | None = None
    """What is to be seen there (clips, looks, …), where it is the glance's own maps; None: pixels are cut out."""
    kept: Tensor | None = None
    """Which of the looks are taken (clips, looks), where frames may be skipped; None: all of them."""


class Family(nn.Module, ABC):
    """The base of all families; shapes below: b clips, t frames, l looks, s the side of a frame, p of a patch."""

    name: ClassVar[str]
    published: ClassVar[ModelSpec]
    """The sizes of the published models; a checkpoint's own tensors override what they tell."""
    whole_pixels: ClassVar[bool]
    """Whether patches are cut out exactly or sampled between pixels."""

    cuts_patches: ClassVar[bool] = True
    """Whether the second network sees patches, of a size that may be asked for, and not whole frames."""

    looks_at_source: ClassVar[bool] = False
    """Whether looks are cut out of the source, in all its pixels, and not out of the frame that was glanced at."""

    views: ClassVar[tuple[int, ...]] = (1,)
    """How often it may see a video, the answers being averaged."""

    clip_wise: ClassVar[bool] = False
    """Whether the two networks see all frames of a clip together (temporal shift)."""

    int8: Mapping[str, Tensor] = {}
    """Where the two networks may round to eight bits what their layers are given, and between which two numbers;
    empty: nobody has chosen any."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.add_networks()
        self.dropout = nn.Dropout(0.0)  # before the answers; training says how much

    def add_networks(self) -> None:
        """One that glances and one that looks."""
        spec = self.spec
        self.glance_net = build_backbone(spec.glance, shift_over=spec.glance_frames if self.clip_wise else 0)
        self.focus_net = build_backbone(spec.focus, shift_over=spec.focus_frames if self.clip_wise else 0)

    @property
    def map_side(self) -> int:
        """How wide the glance's feature maps are."""
        return self.glance_net.map_side(self.spec.glance.size)

    # The frames, and the order of looking.

    @abstractmethod
    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        """Which frames of a video of `count` frames may be looked at; by `chance`, where the family is trained so."""

    @abstractmethod
    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        """All the turns: in one go, or in groups of about `group` looks between which a clip may leave."""

    def frames_of(self, turn: Turn, plan: FramePlan) -> tuple[int, ...]:
        """The positions in `plan.frames` that a turn is sure to need, before anything of it has run."""
        return tuple(plan.glance[i] for i in turn.glance)

    @property
    def skips(self) -> bool:
        """Whether it may skip frames: glance at them without a look."""
        return False

    # The stages.

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (…, h, w, 3) → the numbers (…, 3, h, w) that the networks know."""
        return normalised(pixels, self.spec.mean, self.spec.std)

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, s, s) → feature maps (b, t, channels, h, w)."""
        small = resize(frames, self.spec.glance.size, smooth=self.glance_net.smooth)
        return frame_by_frame(self.glance_net, small)

    @abstractmethod
    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        """From the latest glance: where this turn looks. May use `memory`."""

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """uint8 (n, s, s, 3) and (n, 4) → normalised (n, 3, p, p)."""
        side = self.spec.patch_size
        if self.whole_pixels:  # once they are cut out, there are fewer to normalise
            return self.normalised(crop(pixels, boxes, side))
        return sample(self.normalised(pixels), boxes, side)

    def focus(self, patches: Tensor) -> Tensor:
        """(b, l, 3, p, p) → feature maps (b, l, channels, h, w)."""
        return frame_by_frame(self.focus_net, patches)

    @property
    def whole_frames(self) -> int | None:
        """How many frames the strong network would see, if it saw whole ones; None: nothing to compare with."""
        return self.spec.focus_frames

    def whole_frames_of(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """As `patches`, but of all of the frame that each box is in, as it is."""
        return self.normalised(pixels)

    def on_whole_frames(self, frames: Tensor) -> Tensor:
        """What it would do to them; only the cost of it is ever asked for."""
        return self.focus(frames)

    @abstractmethod
    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        """From the latest glance and this turn's looks: logits (b, answers, classes). May use `memory`."""

    def look_elsewhere(self, turn: Turn, boxes: Tensor, glance_maps: Tensor, memory: Memory) -> None:
        """Told that a turn looks at other boxes than it chose, before it classifies what is there."""

    def sides(self, glance_maps: Tensor) -> tuple[int, int]:
        """Height and width of the frames that were glanced at."""
        return self.spec.frame_size, self.spec.frame_size

    def looks_for(self, label: int, memory: Memory) -> tuple[int, ...] | None:
        """The steps whose looks speak for a label, of the memory of one clip that is over; None: it cannot say."""
        return None

    # Published checkpoints; a family without any leaves these as they are.

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a checkpoint with these published names (and shapes) is one of this family."""
        return False

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        """The spec as far as the tensors tell it; the patch size is not among them.

        A `ModelError` goes on where the file's name leaves off: it is of this family, but cannot be used.
        """
        raise ModelError(f"cannot be a published checkpoint of {cls.name}: none are published")

    @staticmethod
    def published_name(name: str) -> str:
        """The name in a published checkpoint of the tensor that this model calls `name`."""
        return name


def in_groups(steps: int, group: int | None) -> list[range]:
    """
    >>> in_groups(16, 6)
    [range(0, 6), range(6, 12), range(12, 16)]
    >>> in_groups(16, None)
    [range(0, 16)]
    """
    size = group or steps
    return [range(start, min(start + size, steps)) for start in range(0, steps, size)]


def frame_by_frame(network: Backbone, frames: Tensor, see: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Runs a network on all frames of all clips as one batch, or in pieces of it: (b, t, …) → (b, t, …).

    `see` is what of the network runs, if not all.
    """
    pictures, see = frames.flatten(0, 1), see or network
    if network.pixels_at_once is None:
        out = see(pictures)
    else:
        most = max(1, network.pixels_at_once // prod(frames.shape[-2:]))
        out = torch.cat([see(some) for some in torch.chunk(pictures, ceil(len(pictures) / most))])
    return out.view(*frames.shape[:2], *out.shape[1:])
