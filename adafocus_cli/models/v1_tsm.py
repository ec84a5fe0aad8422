"""AdaFocus on TSM (Wang et al., ICCV 2021), for fine motions: clip-wise networks and one place for a whole clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from adafocus_cli.errors import ModelError
from adafocus_cli.models.shared import OnePlace, flat_mobilenet, numbered_resnet, shifted_resnet, with_prefixes
from adafocus_cli.nn.policies import ClipPolicy
from adafocus_cli.spec import ModelSpec, Network

_GLANCE_CHANNELS = 1280
_ENCODER = "focuser.policy.policy.state_encoder."


class AdaFocusV1TSM(OnePlace):
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
        self.policy = ClipPolicy(
            self.glance_net.channels, spec.glance_frames, self.map_side, spec.policy_channels, spec.policy_width
        )

    def place(self, glance_maps: Tensor) -> Tensor:
        place: Tensor = self.policy(glance_maps)
        return place

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "focuser.net.base_model.4.0.conv1.net.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        frames = tensors[_ENCODER + "0.weight"].shape[1] // _GLANCE_CHANNELS
        if frames < cls.published.glance_frames:  # its policy stacks the frames of one division of the video
            raise ModelError(
                f"has a policy that sees {frames} frames at a time and chooses a place for each part of a video "
                f"(video_div > 1); only files with one place for all {cls.published.glance_frames} frames can be used: "
                "train it with video_div 1"
            )
        return replace(
            cls.published,
            classes=len(tensors["classifier.weight"]),
            glance_frames=frames,
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
