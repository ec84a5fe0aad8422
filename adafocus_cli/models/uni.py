"""Uni-AdaFocus (Wang et al., TPAMI 2024): where and how large a patch, and in which frames, from one glance.

16 of 48 frames are glanced at; the glance alone gives 16 answers, and each look at one of the 16 chosen frames
gives one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus_cli.models.base import Gaze, Memory, Turn, in_groups
from adafocus_cli.models.shared import ChoosesFrames, flat_mobilenet, with_prefixes
from adafocus_cli.nn.heads import StepClassifiers, Vector, pooled, running_maximum
from adafocus_cli.nn.pixels import boxes_of_any_size
from adafocus_cli.nn.policies import SpatialPolicy, TemporalPolicy
from adafocus_cli.spec import ModelSpec
from adafocus_cli.video.sampling import Chance, FramePlan, one_list, spread_by_share


class UniAdaFocus(ChoosesFrames):
    name = "uni-adafocus"
    published = ModelSpec(
        family=name, classes=200, candidate_frames=48, policy_channels=128, policy_width=64, classifier_width=4096
    )
    whole_pixels = False

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        channels, width = self.glance_net.channels, spec.classifier_width
        self.spatial_policy = SpatialPolicy(channels, self.map_side, spec.policy_channels, over_frames=1)
        self.temporal_policy = TemporalPolicy(channels, spec.policy_width)
        self.glance_vector = Vector(channels, width)
        self.focus_vector = Vector(self.focus_net.channels, width)
        self.glance_classifiers = StepClassifiers(spec.glance_frames, width, spec.classes)
        self.focus_classifiers = StepClassifiers(spec.focus_frames, 2 * width, spec.classes)

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        glance, candidates = self.spec.glance_frames, self.spec.candidate_frames
        return one_list(spread_by_share(count, candidates, chance), glance=spread_by_share(candidates, glance))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        """In groups, the glance is a turn of its own; a clip may be left after it and after each group of looks."""
        glances, looks = self.spec.glance_frames, self.spec.focus_frames
        every_glance = tuple(range(glances))
        if group is None:
            return (Turn(every_glance, range(looks), range(glances + looks)),)
        return (
            Turn(every_glance, range(0), range(glances)),
            *(Turn((), g, range(glances + g.start, glances + g.stop)) for g in in_groups(looks, group)),
        )

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        if "boxes" not in memory:
            frames = self.chosen_frames(glance_maps, memory)
            memory["frames"], memory["boxes"] = frames, self.boxes_in(frames, self.spatial_policy(glance_maps))
        looks = slice(turn.looks.start, turn.looks.stop)
        return Gaze(memory["frames"][:, looks], memory["boxes"][:, looks])

    def boxes_in(self, frames: Tensor, actions: Tensor) -> Tensor:
        """Of these candidates (b, looks), from the policy's actions for every glance (b, t, 4)."""
        spec = self.spec
        everywhere = F.interpolate(
            actions.transpose(1, 2), spec.candidate_frames, mode="linear", align_corners=False
        ).transpose(1, 2)
        chosen = everywhere.gather(1, frames[..., None].expand(-1, -1, 4))
        return boxes_of_any_size(chosen, spec.frame_size, spec.smallest_patch)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        answers = []
        if turn.glance:
            best = running_maximum(self.glance_vector(pooled(glance_maps)), None)
            memory["glance"] = best[:, -1]
            answers.append(self.glance_classifiers(best, range(len(turn.glance))))
        if focused is not None:
            best = running_maximum(self.focus_vector(pooled(focused)), memory.get("focus"))
            memory["focus"] = best[:, -1]
            glance = memory["glance"][:, None].expand_as(best)
            answers.append(self.focus_classifiers(torch.cat((best, glance), dim=-1), turn.looks))
        return torch.cat(answers, dim=1)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        return "classifier.global_mlp.layers.0.weight" in tensors

    @classmethod
    def spec_of(cls, tensors: Mapping[str, Tensor]) -> ModelSpec:
        glances, looks = (
            sum(name.startswith(f"classifier.{who}_classifiers.") and name.endswith(".weight") for name in tensors)
            for who in ("global", "local")
        )
        return replace(
            cls.published,
            classes=len(tensors["classifier.global_classifiers.0.1.weight"]),
            glance_frames=glances,
            focus_frames=looks,
            candidate_frames=3 * glances,
            policy_channels=len(tensors["spatial_policy.encoder.0.weight"]),
            policy_width=len(tensors["temporal_policy.Tconv.0.weight"]),
            classifier_width=len(tensors["classifier.global_mlp.layers.0.weight"]),
        )

    @staticmethod
    def published_name(name: str) -> str:
        part, _, rest = name.partition(".")
        if part in ("glance_classifiers", "focus_classifiers"):
            step, leaf = rest.split(".")
            who = "global" if part.startswith("glance") else "local"
            return f"classifier.{who}_classifiers.{step}.1.{leaf}"
        return with_prefixes(
            flat_mobilenet(name),
            {
                "glance_net.": "global_CNN.",
                "focus_net.": "local_CNN.",
                "glance_vector.": "classifier.global_mlp.",
                "focus_vector.": "classifier.local_mlp.",
                "spatial_policy.": "spatial_policy.",
                "temporal_policy.": "temporal_policy.",
            },
        )
