"""Looks go where the glance has evidence: no policy is trained, and labels are independent of one another.

Both networks are classifiers of pictures, linear over a mean. The glance's is asked about every cell of its map of
whole frames; looks go to the windows that are sure of a class, cut out of the source; a label is as good as the look
that speaks best for it (`nn/evidence.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adafocus_cli.models.base import Family, Gaze, Memory, Turn, frame_by_frame, in_groups
from adafocus_cli.nn import evidence, heads
from adafocus_cli.spec import OF_LITE, ModelSpec, Network
from adafocus_cli.video.framing import CELL
from adafocus_cli.video.sampling import Chance, FramePlan, same_frames, spread

_LIKELY = 0.5  # the score of a look that speaks for a label, where the model has no least score of its own


class EvidenceGuided(Family):
    name = "evidence"
    published = ModelSpec(
        family=name,
        classes=1000,
        dataset="imagenet",
        glance_frames=2,
        focus_frames=6,
        frame_area=640 * 352,
        glance=Network("efficientnet_lite0", 640),
        focus=Network("efficientnet_lite2", 192),
        mean=OF_LITE.mean,
        std=OF_LITE.std,
    )
    whole_pixels = True
    looks_at_source = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.rule = evidence.Evidence()
        self.glance_fc = nn.Linear(self.glance_net.channels, spec.classes)
        self.focus_fc = nn.Linear(self.focus_net.channels, spec.classes)

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        return same_frames(spread(count, self.spec.glance_frames))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        """All frames are glanced at first; every look gives an answer."""
        frames = tuple(range(self.spec.glance_frames))
        groups = in_groups(self.spec.focus_frames, group)
        return tuple(Turn(frames if looks.start == 0 else (), looks, looks) for looks in groups)

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, h, w) → what the classifier makes of every cell (b, t, rows, columns, classes)."""
        return evidence.cell_logits(frame_by_frame(self.glance_net, frames).float(), self.glance_fc)

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        """All looks are chosen at once, in the first turn that has some; each turn takes its share."""
        if "boxes" not in memory:
            looks = evidence.choose_looks(glance_maps, self.spec.focus_frames, self.rule)
            memory["frames"], memory["boxes"] = looks.frames, looks.boxes
        now = slice(turn.looks.start, turn.looks.stop)
        boxes = memory["boxes"][:, now]
        return Gaze(memory["frames"][:, now], boxes * self._scale(glance_maps, boxes))

    def look_elsewhere(self, turn: Turn, boxes: Tensor, glance_maps: Tensor, memory: Memory) -> None:
        memory["boxes"] = memory["boxes"].clone()
        memory["boxes"][:, turn.looks.start : turn.looks.stop] = boxes / self._scale(glance_maps, boxes)

    def sides(self, glance_maps: Tensor) -> tuple[int, int]:
        rows, columns = glance_maps.shape[2:4]
        return rows * CELL, columns * CELL

    def _scale(self, glance_maps: Tensor, boxes: Tensor) -> Tensor:
        """From shares of a frame to its pixels."""
        height, width = self.sides(glance_maps)
        return boxes.new_tensor((width, height, width, height))

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """They come cut out of the source."""
        return self.normalised(pixels)

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "every turn of this family takes looks"
        now = slice(turn.looks.start, turn.looks.stop)
        frames, boxes = memory["frames"][:, now], memory["boxes"][:, now]
        spoken = evidence.look_logits(
            self.focus_fc(heads.pooled(focused)),
            evidence.box_logits(glance_maps, frames, boxes, self.rule),
            turn.looks,
            self.rule,
        )
        memory["spoken"] = torch.cat((memory["spoken"], spoken), dim=1) if "spoken" in memory else spoken
        so_far, _ = evidence.answers(memory["spoken"])
        return so_far[:, now]

    def looks_for(self, label: int, memory: Memory) -> tuple[int, ...]:
        """Those that would have it told by themselves, and the best in any case."""
        scores = memory["spoken"][:, label].sigmoid()
        alone = scores >= (self.spec.min_score or _LIKELY)
        return tuple((alone | (scores == scores.max())).nonzero().flatten().tolist())
