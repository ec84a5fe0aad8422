"""Uni-AdaFocus on TSM (Wang et al., TPAMI 2024): one box of any size for a clip, frames chosen by the glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import ClipWise, flat_mobilenet, shifted_resnet, with_prefixes
from adafocus_cli.nn.heads import pooled
from adafocus_cli.nn.pixels import boxes_of_any_size
from adafocus_cli.nn.policies import SpatialPolicy, TemporalPolicy, frames_by_weight
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import Chance, FramePlan, separate_frames, spread_by_share


class UniAdaFocusTSM(ClipWise):
    name = "uni-adafocus-tsm"
    published = ModelSpec(
        family=name,
        classes=174,
        glance_frames=8,
        focus_frames=12,
        candidate_frames=36,
        policy_channels=128,
        policy_width=64,
    )
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        channels = self.glance_net.channels
        self.spatial_policy = SpatialPolicy(
            channels, self.map_side, spec.policy_channels, over_frames=spec.glance_frames
        )
        self.temporal_policy = TemporalPolicy(channels, spec.policy_width)
        # `glance_fc` has learnt to be added to `focus_fc`; on its own, the glance answers with this one.
        self.exit_fc = nn.Linear(channels, spec.classes)

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
        frames = frames_by_weight(self.temporal_policy(pooled(glance_maps)), spec.focus_frames, spec.candidate_frames)
        box = boxes_of_any_size(self.spatial_policy(glance_maps), spec.frame_size, spec.smallest_patch)
        return Gaze(frames, box.expand(-1, spec.focus_frames, -1))

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        answers = []
        if turn.glance:
            answers.append(self.mean_answer(self.exit_fc, glance_maps))
        if focused is not None:
            answers.append(self.mean_answer(self.glance_fc, glance_maps) + self.mean_answer(self.focus_fc, focused))
        return torch.stack(answers, dim=1)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        clip_wise = "global_CNN.base_model.features.0.0.weight" in tensors
        return clip_wise and any(name.startswith("spatial_policy.") for name in tensors)

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        return replace(
            cls.published,
            classes=len(tensors["global_CNN.new_fc.weight"]),
            glance_frames=tensors["spatial_policy.encoder.9.weight"].shape[2],
            policy_channels=len(tensors["spatial_policy.encoder.0.weight"]),
            policy_width=len(tensors["temporal_policy.Tconv.0.weight"]),
        )

    @staticmethod
    def published_name(name: str) -> str:
        if name.startswith("focus_net."):
            return "local_CNN.base_model." + shifted_resnet(name.removeprefix("focus_net."))
        return with_prefixes(
            flat_mobilenet(name, shifted=True),
            {
                "glance_net.": "global_CNN.base_model.",
                "glance_fc.": "global_CNN.new_fc.",
                "exit_fc.": "global_CNN.new_new_fc.",
                "focus_fc.": "local_CNN.new_fc.",
                "spatial_policy.": "spatial_policy.",
                "temporal_policy.": "temporal_policy.",
            },
        )
