"""AdaFocusV2 on TSM (Wang et al., CVPR 2022): clip-wise networks, one place between pixels for a whole clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from adafocus_cli.models.shared import OnePlace, flat_mobilenet, shifted_resnet, with_prefixes
from adafocus_cli.nn.policies import FeedForwardClipPolicy
from adafocus_cli.spec import ModelSpec

_GLANCE_CHANNELS = 1280


class AdaFocusV2TSM(OnePlace):
    name = "adafocus-v2-tsm"
    published = ModelSpec(family=name, classes=174, glance_frames=8, focus_frames=12, policy_channels=64)
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.policy = FeedForwardClipPolicy(
            self.glance_net.channels, spec.glance_frames, self.map_side, spec.policy_channels, spec.policy_width
        )

    def place(self, glance_maps: Tensor) -> Tensor:
        place: Tensor = self.policy(glance_maps.flatten(1, 2))
        return place

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
