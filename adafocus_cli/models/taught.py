"""A model of one's own classes, taught by a few clips: frozen networks, and one linear layer over what they tell.

Three kinds of evidence: what is there (EfficientNet-Lite0 on a few whole frames), what of it changes and in which
order, and what moves where to between neighbouring frames (`nn/movement.py`). Nothing but the layer is learnt
(`training/quick.py`), so twenty clips a class are enough.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.models.base import Family, Gaze, Memory, Turn, frame_by_frame
from adafocus_cli.nn.backbones import EfficientNetLite
from adafocus_cli.nn.movement import Movement, anywhere
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.spec import OF_LITE, ModelSpec, Network
from adafocus_cli.video.sampling import FramePlan, same_frames, spread

_PAIRS = 24
_APART = 6  # frames between the two of a pair, at most: what is farther apart is not found again
_GRID = 3  # cells along a side of a frame that are told apart
_LITE = Network("efficientnet_lite0", 224)


class Taught(Family):
    name = "taught"
    published = ModelSpec(
        family=name,
        classes=10,
        glance_frames=2 * _PAIRS,
        focus_frames=8,
        frame_area=_LITE.size**2,
        glance=_LITE,
        focus=_LITE,
        mean=OF_LITE.mean,
        std=OF_LITE.std,
    )
    glance_net: EfficientNetLite
    cuts_patches = False
    whole_pixels = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.movement = Movement()
        self.answer = nn.Linear(sum(self.kinds.values()), spec.classes)

    def add_networks(self) -> None:
        """One, which sees `focus_frames` of the `glance_frames`; movement is seen in all."""
        network = build_backbone(self.spec.glance)
        if not isinstance(network, EfficientNetLite):
            raise ModelError(f"{self.name} sees with an EfficientNet-Lite, not with {self.spec.glance.arch}")
        self.glance_net = network

    @property
    def kinds(self) -> dict[str, int]:
        """The kinds of evidence, and how many numbers each has, in their order."""
        cells = _GRID**2 * self.glance_net.widths[-1]
        seen = self.glance_net.channels + cells
        return {
            "things": seen,
            "changes": self.spec.focus_frames * seen,
            **Movement.sizes,
            "anywhere": Movement.anywhere_size,
        }

    # Frames: pairs of neighbours.

    def plan(self, count: int) -> FramePlan:
        """The two frames of a pair follow one another in the plan."""
        pairs = self.spec.glance_frames // 2
        apart = min(_APART, max(1, round(count / (2 * pairs))), count - 1)
        return same_frames(tuple(n for first in spread(count - apart, pairs) for n in (first, first + apart)))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(0), range(1)),)

    # Stages.

    def glance(self, frames: Tensor) -> Tensor:
        """(b, t, 3, h, w) → the evidence that is not made of other kinds (b, numbers)."""
        return torch.cat((*self._seen(frames), *self.movement(self._grey(frames))), dim=1)

    def all_evidence(self, seen: Tensor) -> Tensor:
        """What was seen at a glance, and what follows from it: (b, numbers) → (b, more numbers)."""
        sizes = [*Movement.sizes.values()]
        shares, _, ways = torch.split(seen[:, -sum(sizes) :], sizes, dim=1)
        return torch.cat((seen, anywhere(shares, ways)), dim=1)

    def _seen(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What is there, and what changes: of whole frames, first of their pairs."""
        pairs, whole = self.spec.glance_frames // 2, self.spec.focus_frames
        chosen = torch.stack([frames[:, 2 * place] for place in spread(pairs, whole)], dim=1)
        body = frame_by_frame(self.glance_net, chosen, self.glance_net.body)
        head = frame_by_frame(self.glance_net, body, self.glance_net.head).float()
        cells = F.adaptive_avg_pool2d(body.flatten(0, 1).float(), _GRID).reshape(*body.shape[:2], -1)
        seen = torch.cat((_even(head.mean(dim=(-2, -1))), _even(cells)), dim=-1)
        mean = seen.mean(dim=1, keepdim=True)
        return mean[:, 0], (seen - mean).flatten(1)

    def _grey(self, frames: Tensor) -> Tensor:
        """Brightness of pairs (b, p, 2, h, w), 0…1."""
        spread_, middle = (sum(values) / 3 for values in (self.spec.std, self.spec.mean))
        grey: Tensor = frames.float().mean(dim=2) * spread_ + middle
        return grey.view(len(grey), -1, 2, *grey.shape[2:])

    @property
    def whole_frames(self) -> None:
        """It sees them already."""

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        raise NotImplementedError  # its one turn has no looks

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        logits: Tensor = self.answer(self.all_evidence(glance_maps))
        return logits[:, None]


def _even(vectors: Tensor) -> Tensor:
    """Vectors of length 1 in which no single number outshines the rest."""
    return F.normalize(vectors.sign() * vectors.abs().sqrt(), dim=-1)
