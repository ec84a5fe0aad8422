"""Uni-AdaFocus on TSM (Wang et al., TPAMI 2024): one box of any size for a clip, frames chosen by the glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from adafocus_cli.models.shared import ClipWise, OneBox, flat_mobilenet, shifted_resnet, with_prefixes
from adafocus_cli.spec import ModelSpec


class UniAdaFocusTSM(OneBox, ClipWise):
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

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        # `glance_fc` has learnt to be added to `focus_fc`; on its own, the glance answers with this one.
        self.exit_fc = nn.Linear(self.glance_net.channels, spec.classes)

    def early_answer(self, glance_maps: Tensor) -> Tensor:
        return self.mean_answer(self.exit_fc, glance_maps)

    def full_answer(self, glance_maps: Tensor, focused: Tensor) -> Tensor:
        return self.mean_answer(self.glance_fc, glance_maps) + self.mean_answer(self.focus_fc, focused)

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
