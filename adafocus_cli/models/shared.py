"""What several families share: a step-wise policy, two networks over clips, one network over whole frames, and how
the authors' checkpoints name the tensors of backbones.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze, Memory, Turn, in_groups
from adafocus_cli.nn.clip_networks import build_clip_net
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import boxes_at, boxes_of_any_size
from adafocus_cli.nn.policies import SkipHead, SpatialPolicy, TemporalPolicy, frames_by_weight
from adafocus_cli.nn.x3d import SHAPES, X3D
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import (
    Chance,
    FramePlan,
    repeat_first,
    repeat_last,
    same_frames,
    separate_frames,
    spread,
    spread_by_share,
)


class StepWise(Family):
    policy: nn.Module
    """Maps (b, t, c, h, w) and a memory → places (b, t, 2) and the memory after them."""
    skip_below = 0.0
    """A frame is skipped unless the head says more of it; as taught, where a look is likelier than none."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.skip_policy = SkipHead(self.glance_net.channels, self.map_side) if spec.skips else None

    @property
    def skips(self) -> bool:
        return self.skip_policy is not None

    def order(self) -> tuple[int, ...]:
        """The frames in the order in which they are seen."""
        return tuple(range(self.spec.glance_frames))

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        return same_frames(repeat_last(count, self.spec.glance_frames, chance))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        order = self.order()
        return tuple(Turn(order[steps.start : steps.stop], steps, steps) for steps in in_groups(len(order), group))

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        places, memory["policy"] = self.policy(glance_maps, memory.get("policy"))
        boxes = boxes_at(places, self.spec.frame_size, self.spec.patch_size, whole_pixels=self.whole_pixels)
        frames = torch.tensor(turn.glance, device=boxes.device).expand(len(boxes), -1)
        return Gaze(frames, boxes, kept=self._kept(turn, glance_maps, memory))

    def _kept(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Tensor | None:
        """Which frames get a look (b, looks); the last one does if no other did."""
        if self.skip_policy is None:
            return None
        gains, memory["skip"] = self.skip_policy(glance_maps, memory.get("skip"))
        kept: Tensor = gains > self.skip_below
        looked = kept.any(dim=1)
        if "looked" in memory:
            looked |= memory["looked"]
        if turn.looks.stop == self.spec.focus_frames:
            kept[:, -1] |= ~looked
        memory["looked"] = looked
        return kept


class ClipWise(Family):
    """Two networks over a clip, each with a classifier of its own."""

    clip_wise = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.glance_fc = nn.Linear(self.glance_net.channels, spec.classes)
        self.focus_fc = nn.Linear(self.focus_net.channels, spec.classes)

    def mean_answer(self, head: nn.Linear, maps: Tensor) -> Tensor:
        """The mean over frames of each frame's answer: maps (b, t, c, h, w) → logits (b, classes)."""
        answers: Tensor = head(pooled(maps))
        return answers.mean(dim=1)


class OnePlace(ClipWise):
    """One turn, one place for all looks of a clip, one answer."""

    @abstractmethod
    def place(self, glance_maps: Tensor) -> Tensor:
        """Feature maps (b, t, channels, h, w) → (row, col) in 0…1 (b, 2)."""

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        rule = spread if self.spec.short_videos == "evenly" else repeat_first
        glance = rule(count, self.spec.glance_frames, chance)
        return separate_frames(glance, rule(count, self.spec.focus_frames, chance))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(self.spec.focus_frames), range(1)),)

    def frames_of(self, turn: Turn, plan: FramePlan) -> tuple[int, ...]:
        return (*plan.glance, *plan.focus)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        place, spec = self.place(glance_maps), self.spec
        box = boxes_at(place, spec.frame_size, spec.patch_size, whole_pixels=self.whole_pixels)
        frames = torch.arange(len(turn.looks), device=box.device).expand(len(box), -1)
        return Gaze(frames, box[:, None].expand(-1, len(turn.looks), -1))

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "the one turn takes looks"
        return (self.mean_answer(self.glance_fc, glance_maps) + self.mean_answer(self.focus_fc, focused))[:, None]


class ChoosesFrames(Family):
    """Chooses the frames that it looks at among more, by the glance."""

    temporal_policy: TemporalPolicy

    def chosen_frames(self, glance_maps: Tensor, memory: Memory) -> Tensor:
        """The candidates to look at (b, looks); those that `memory` has as `frames`, if others chose them."""
        if "frames" in memory:
            return memory["frames"].view(len(glance_maps), -1)
        shares = self.temporal_policy(pooled(glance_maps))
        return frames_by_weight(shares, self.spec.focus_frames, self.spec.candidate_frames)


class OneBox(ChoosesFrames):
    """One box of any size for a clip, in frames that the glance chooses; the glance answers, then both together."""

    clip_wise = True
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        channels = self.glance_channels
        self.spatial_policy = SpatialPolicy(
            channels, self.map_side, spec.policy_channels, over_frames=spec.glance_frames
        )
        self.temporal_policy = TemporalPolicy(channels, spec.policy_width)

    @property
    def glance_channels(self) -> int:
        """Of its maps."""
        return self.glance_net.channels

    @abstractmethod
    def early_answer(self, glance_maps: Tensor) -> Tensor:
        """Of the glance by itself: logits (b, classes)."""

    @abstractmethod
    def full_answer(self, glance_maps: Tensor, focused: Tensor) -> Tensor:
        """Of both together."""

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        """Spread evenly in short videos, too."""
        glance = spread_by_share(count, self.spec.glance_frames, chance)
        return separate_frames(glance, spread_by_share(count, self.spec.candidate_frames, chance))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        """In groups, the glance is a turn of its own; the focus network needs all its frames together."""
        glance, looks = tuple(range(self.spec.glance_frames)), range(self.spec.focus_frames)
        if group is None:
            return (Turn(glance, looks, range(2)),)
        return (Turn(glance, range(0), range(1)), Turn((), looks, range(1, 2)))

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        spec = self.spec
        box = boxes_of_any_size(self.spatial_policy(glance_maps), spec.frame_size, spec.smallest_patch)
        return Gaze(self.chosen_frames(glance_maps, memory), box.expand(-1, spec.focus_frames, -1))

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        answers = []
        if turn.glance:
            answers.append(self.early_answer(glance_maps))
        if focused is not None:
            answers.append(self.full_answer(glance_maps, focused))
        return torch.stack(answers, dim=1)


class WholeClip(Family):
    """`spec.glance` is the network, and so is `spec.focus`."""

    cuts_patches = False
    whole_pixels = True

    def add_networks(self) -> None:
        network, classes = self.spec.glance, self.spec.classes
        self.net = X3D(network, classes) if network.arch in SHAPES else build_clip_net(network, classes)

    @property
    def whole_frames(self) -> int:
        (turn,) = self.turns()
        return len(turn.glance)

    def answer(self, vectors: Tensor) -> Tensor:
        """(…, channels) → logits (…, classes)."""
        logits = self.net.answer(self.dropout(vectors.flatten(0, -2)))
        return logits.view(*vectors.shape[:-1], -1)

    @staticmethod
    def published_name(name: str) -> str:
        return name.removeprefix("net.")


def blocks_of(tensors: Iterable[str], name: str, *, first: int) -> tuple[int, ...]:
    """How many blocks each stage of a published network has, of tensors that begin with `name` of stage and block.

    >>> blocks_of(["s2.res0.a", "s2.res1.a", "s3.res0.a", "s3.res0.b"], "s{}.res{}.", first=2)
    (2, 1)
    """
    pattern = re.compile(re.escape(name).replace(r"\{\}", r"(\d+)"))
    found = {(int(match[1]), int(match[2])) for match in map(pattern.match, tensors) if match}
    counts = Counter(stage for stage, _ in found)
    return tuple(counts[stage] for stage in range(first, first + len(counts)))


# A nested block of two (conv, bn) and two single layers; older MobileNetV2 code kept all layers in one flat list,
# activations included, so that unit i begins at 3·i.
_INVERTED_RESIDUAL = re.compile(
    r"(?P<before>.*)features\.(?P<block>\d+)\.conv\.(?P<unit>\d+)(\.(?P<layer>[01]))?\.(?P<leaf>\w+)"
)

_SHIFTED_BLOCKS = frozenset({3, 5, 6, 8, 9, 10, 12, 13, 15, 16})  # those with an expansion and a residual


def flat_mobilenet(name: str, *, shifted: bool = False) -> str:
    """Our MobileNetV2 name → that of the flat layout; `shifted` networks wrap the expanding convolution.

    >>> flat_mobilenet("features.3.conv.1.0.weight"), flat_mobilenet("features.1.conv.2.bias")
    ('features.3.conv.3.weight', 'features.1.conv.4.bias')
    >>> flat_mobilenet("features.3.conv.0.0.weight", shifted=True)
    'features.3.conv.0.net.weight'
    """
    match = _INVERTED_RESIDUAL.fullmatch(name)
    if match is None:
        return name
    block, unit = int(match["block"]), int(match["unit"])
    if match["layer"] is not None:
        index = 3 * unit + int(match["layer"])
    else:
        last_unit = 1 if block == 1 else 2  # the first block has no expansion
        index = 3 * last_unit + (unit - last_unit)
    wrapper = "net." if shifted and block in _SHIFTED_BLOCKS and index == 0 else ""
    return f"{match['before']}features.{block}.conv.{index}.{wrapper}{match['leaf']}"


_RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered_resnet(name: str) -> str:
    """Our ResNet name → that of a plain list of its children.

    >>> numbered_resnet("layer1.0.conv2.weight")
    '4.0.conv2.weight'
    """
    child, _, rest = name.partition(".")
    return f"{_RESNET_CHILDREN[child]}.{rest}"


def shifted_resnet(name: str) -> str:
    """Our ResNet name → that of a network whose first convolutions of blocks are wrapped.

    >>> shifted_resnet("layer1.0.conv1.weight"), shifted_resnet("conv1.weight")
    ('layer1.0.conv1.net.weight', 'conv1.weight')
    """
    return re.sub(r"^(layer\d\.\d+\.conv1)\.", r"\1.net.", name)


def with_prefixes(name: str, prefixes: dict[str, str]) -> str:
    """Replaces the one of our prefixes that the name has.

    >>> with_prefixes("policy.gru.bias_ih_l0", {"policy.": "module.policy_stn."})
    'module.policy_stn.gru.bias_ih_l0'
    """
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)
