"""What the families share that look at every frame that they glance at: a step for each, and a policy with a memory.

How places become patches, and looks an answer, is for each family to say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze, Memory, Turn, in_groups
from adafocus_cli.nn.patches import boxes_at
from adafocus_cli.video.sampling import FramePlan, repeat_last, same_frames


class StepWise(Family):
    policy: nn.Module
    """Maps (b, t, c, h, w) and a memory → places (b, t, 2) and the memory after them."""

    def order(self) -> tuple[int, ...]:
        """The frames in the order in which they are seen."""
        return tuple(range(self.spec.glance_frames))

    def plan(self, count: int) -> FramePlan:
        return same_frames(repeat_last(count, self.spec.glance_frames))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        order = self.order()
        return tuple(Turn(order[steps.start : steps.stop], steps, steps) for steps in in_groups(len(order), group))

    def locate(self, turn: Turn, seen: Tensor, memory: Memory) -> Gaze:
        places, memory["policy"] = self.policy(seen, memory.get("policy"))
        boxes = boxes_at(places, self.spec.frame_size, self.spec.patch_size, whole_pixels=self.whole_pixels)
        frames = torch.tensor(turn.glance, device=boxes.device).expand(len(boxes), -1)
        return Gaze(frames, boxes)
