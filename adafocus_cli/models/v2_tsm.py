"""AdaFocusV2 on TSM (Wang et al., CVPR 2022): clip-wise networks, one place between pixels for a whole clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze, Memory, Turn, frame_by_frame
from adafocus_cli.models.published import flat_mobilenet, shifted_resnet, with_prefixes
from adafocus_cli.nn.backbones import build_backbone
from adafocus_cli.nn.heads import mean_answer
from adafocus_cli.nn.patches import boxes_at, resize
from adafocus_cli.nn.policies import FeedForwardClipPolicy
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import FramePlan, repeat_first, separate_frames

_GLANCE_CHANNELS = 1280


class AdaFocusV2TSM(Family):
    name = "adafocus-v2-tsm"
    published = ModelSpec(family=name, classes=174, glance_frames=8, focus_frames=12, policy_channels=64)
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.glance_net = build_backbone(spec.glance, shift_over=spec.glance_frames)
        self.focus_net = build_backbone(spec.focus, shift_over=spec.focus_frames)
        map_side = self.glance_net.map_side(spec.glance.size)
        self.policy = FeedForwardClipPolicy(
            self.glance_net.channels, spec.glance_frames, map_side, spec.policy_channels, spec.policy_width
        )
        self.glance_fc = nn.Linear(self.glance_net.channels, spec.classes)
        self.focus_fc = nn.Linear(self.focus_net.channels, spec.classes)

    def plan(self, count: int) -> FramePlan:
        return separate_frames(
            repeat_first(count, self.spec.glance_frames), repeat_first(count, self.spec.focus_frames)
        )

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(self.spec.focus_frames), range(1)),)

    def frames_of(self, turn: Turn, plan: FramePlan) -> tuple[int, ...]:
        return (*plan.glance, *plan.focus)

    def glance(self, frames: Tensor) -> Tensor:
        return frame_by_frame(self.glance_net, resize(frames, self.spec.glance.size))

    def locate(self, turn: Turn, seen: Tensor, memory: Memory) -> Gaze:
        place = self.policy(seen.flatten(1, 2))
        box = boxes_at(place, self.spec.frame_size, self.spec.patch_size, whole_pixels=False)
        frames = torch.arange(len(turn.looks), device=box.device).expand(len(box), -1)
        return Gaze(frames, box[:, None].expand(-1, len(turn.looks), -1))

    def focus(self, patches: Tensor) -> Tensor:
        return frame_by_frame(self.focus_net, patches)

    def classify(self, turn: Turn, seen: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "every turn of this family takes looks"
        return (mean_answer(self.glance_fc, seen) + mean_answer(self.focus_fc, focused))[:, None]

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        clip_wise = "global_CNN.base_model.features.0.0.weight" in tensors
        return clip_wise and not any(name.startswith("spatial_policy.") for name in tensors)

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        return replace(
            cls.published,
            classes=len(tensors["global_CNN.new_fc.weight"]),
            glance_frames=tensors["policy_stn.0.weight"].shape[1] // _GLANCE_CHANNELS,
            policy_channels=len(tensors["policy_stn.0.weight"]),
            policy_width=len(tensors["policy_stn.4.weight"]),
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
                "focus_fc.": "local_CNN.new_fc.",
                "policy.": "policy_stn.",
            },
        )
