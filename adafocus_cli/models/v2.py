"""AdaFocusV2 (Wang et al., CVPR 2022): a place anywhere in each frame, frames seen coarse to fine.

The order (middle, ends, then halves) makes every step refine the last, so that a clip can be left early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from adafocus_cli.models.base import Memory, Turn
from adafocus_cli.models.shared import StepWise, flat_mobilenet, with_prefixes
from adafocus_cli.nn.heads import StepClassifiers, Vector, pooled, running_maximum
from adafocus_cli.nn.policies import StepPolicy
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.video.sampling import coarse_to_fine


class AdaFocusV2(StepWise):
    name = "adafocus-v2"
    published = ModelSpec(family=name, classes=200, policy_channels=64, policy_width=2048, classifier_width=4096)
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.policy = StepPolicy(self.glance_net.channels, self.map_side, spec.policy_channels, spec.policy_width)
        self.vector = Vector(self.glance_net.channels + self.focus_net.channels, spec.classifier_width)
        self.classifiers = StepClassifiers(spec.glance_frames, spec.classifier_width, spec.classes)

    def order(self) -> tuple[int, ...]:
        return coarse_to_fine(self.spec.glance_frames)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "every turn of this family takes looks"
        vectors = self.vector(torch.cat((pooled(glance_maps), pooled(focused)), dim=-1))
        best = running_maximum(vectors, memory.get("best"))
        memory["best"] = best[:, -1]
        logits: Tensor = self.classifiers(self.dropout(best), turn.answers)
        return logits

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "classifier.mlp.layers.0.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        steps = sum(name.startswith("classifier.classifiers.") and name.endswith(".weight") for name in tensors)
        from_resnet = "global_CNN.layer1.0.conv1.weight" in tensors
        return replace(
            cls.published,
            classes=len(tensors["classifier.classifiers.0.1.weight"]),
            glance_frames=steps,
            focus_frames=steps,
            glance=Network("resnet50", 96) if from_resnet else cls.published.glance,
            policy_channels=len(tensors["policy_stn.encoder.0.weight"]),
            policy_width=len(tensors["policy_stn.encoder.4.weight"]),
            classifier_width=len(tensors["classifier.mlp.layers.0.weight"]),
        )

    @staticmethod
    def published_name(name: str) -> str:
        if name.startswith("classifiers."):
            _, step, leaf = name.split(".")
            return f"classifier.classifiers.{step}.1.{leaf}"
        return with_prefixes(
            flat_mobilenet(name),
            {
                "glance_net.": "global_CNN.",
                "focus_net.": "local_CNN.",
                "policy.fc.": "policy_stn.fc.0.",
                "policy.": "policy_stn.",
                "vector.": "classifier.mlp.",
            },
        )
