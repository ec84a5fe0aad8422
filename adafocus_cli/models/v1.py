"""AdaFocus (Wang et al., ICCV 2021): a recurrent policy picks one of 49 places in each of 16 frames.

The policy reads the glance only, so all patches of a clip are known before the focus network sees the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor

from adafocus_cli.models.base import Memory, Turn
from adafocus_cli.models.shared import StepWise, with_prefixes
from adafocus_cli.nn.heads import RecurrentClassifier, pooled
from adafocus_cli.nn.policies import GridPolicy
from adafocus_cli.spec import ModelSpec


class AdaFocusV1(StepWise):
    name = "adafocus-v1"
    published = ModelSpec(family=name, classes=200)
    whole_pixels = True
    policy: GridPolicy

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.policy = GridPolicy(
            self.glance_net.channels, self.map_side, spec.policy_channels, spec.policy_width, spec.grid
        )
        features = self.glance_net.channels + self.focus_net.channels
        self.classifier = RecurrentClassifier(features, spec.classifier_width, spec.classes)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "every turn of this family takes looks"
        features = torch.cat((pooled(glance_maps), pooled(focused)), dim=-1)
        states, memory["classifier"] = self.classifier.states(features, memory.get("classifier"))
        logits: Tensor = self.classifier.fc(self.dropout(states))
        return logits

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "glancer.net.features.2.conv.0.0.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        return replace(
            cls.published,
            classes=len(tensors["classifier.fc.weight"]),
            policy_channels=len(tensors["focuser.policy.policy.state_encoder.0.weight"]),
            policy_width=len(tensors["focuser.policy.policy.state_encoder.3.weight"]),
            classifier_width=tensors["classifier.gru.weight_hh_l0"].shape[1],
            grid=isqrt(len(tensors["focuser.policy.policy.actor.0.weight"])),
        )

    @staticmethod
    def published_name(name: str) -> str:
        return with_prefixes(
            name,
            {
                "glance_net.": "glancer.net.",
                "focus_net.": "focuser.net.",
                "policy.encode.": "focuser.policy.policy.state_encoder.",
                "policy.actor.": "focuser.policy.policy.actor.0.",
                "policy.gru.": "focuser.policy.policy.gru.",
                "classifier.": "classifier.",
            },
        )
