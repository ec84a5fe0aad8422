"""AdaFocus on TSM (Wang et al., ICCV 2021), for fine motions: clip-wise networks and one place for a whole clip.

Glance (8 frames) and focus (12 frames) sample the video separately; their answers are averaged over frames and added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze, Memory, Turn, frame_by_frame
from adafocus_cli.models.published import flat_mobilenet, numbered_resnet, shifted_resnet, with_prefixes
from adafocus_cli.nn.backbones import build_backbone
from adafocus_cli.nn.heads import mean_answer
from adafocus_cli.nn.patches import boxes_at, resize
from adafocus_cli.nn.policies import ClipPolicy
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.video.sampling import FramePlan, repeat_first, separate_frames

_GLANCE_CHANNELS = 1280
_ENCODER = "focuser.policy.policy.state_encoder."


class AdaFocusV1TSM(Family):
    name = "adafocus-v1-tsm"
    published = ModelSpec(
        family=name,
        classes=174,
        glance_frames=8,
        focus_frames=12,
        focus=Network("resnet50", 144),
        policy_channels=64,
    )
    whole_pixels = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.glance_net = build_backbone(spec.glance, shift_over=spec.glance_frames)
        self.focus_net = build_backbone(spec.focus, shift_over=spec.focus_frames)
        map_side = self.glance_net.map_side(spec.glance.size)
        self.policy = ClipPolicy(
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
        box = boxes_at(self.policy(seen), self.spec.frame_size, self.spec.patch_size, whole_pixels=True)
        frames = torch.arange(len(turn.looks), device=box.device).expand(len(box), -1)
        return Gaze(frames, box[:, None].expand(-1, len(turn.looks), -1))

    def focus(self, patches: Tensor) -> Tensor:
        return frame_by_frame(self.focus_net, patches)

    def classify(self, turn: Turn, seen: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "every turn of this family takes looks"
        return (mean_answer(self.glance_fc, seen) + mean_answer(self.focus_fc, focused))[:, None]

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "focuser.net.base_model.4.0.conv1.net.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        stacked = tensors[_ENCODER + "0.weight"].shape[1]
        return replace(
            cls.published,
            classes=len(tensors["classifier.weight"]),
            glance_frames=stacked // _GLANCE_CHANNELS,
            policy_channels=len(tensors[_ENCODER + "0.weight"]),
            policy_width=len(tensors[_ENCODER + "4.weight"]),
        )

    @staticmethod
    def published_name(name: str) -> str:
        if name.startswith("focus_net."):
            return "focuser.net.base_model." + numbered_resnet(shifted_resnet(name.removeprefix("focus_net.")))
        return with_prefixes(
            flat_mobilenet(name, shifted=True),
            {
                "glance_net.": "glancer.net.",
                "policy.encode.": _ENCODER,
                "policy.actor.": "focuser.policy.policy.actor.0.",
                "policy.gru.": "focuser.policy.policy.gru.",
                "glance_fc.": "glancer.net.classifier.",
                "focus_fc.": "classifier.",
            },
        )
