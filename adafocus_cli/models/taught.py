"""Models of one's own classes, taught by a few clips: frozen networks, and a linear layer over what they tell.

Three kinds of evidence: what is there (EfficientNet-Lite0 on a few whole frames), what of it changes and in which
order, and what moves where to between neighbouring frames (`nn/movement.py`). Where that pays, the same of a box of the
source that the glance has chosen. Nothing but the layers is learnt (`training/quick.py`), so twenty clips a class are
enough.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus_cli.errors import ModelError
from adafocus_cli.models.base import Family, Gaze, Memory, Turn, frame_by_frame
from adafocus_cli.nn.backbones import EfficientNetLite
from adafocus_cli.nn.matching import CELL as MOVEMENT_CELL
from adafocus_cli.nn.matching import Likeness
from adafocus_cli.nn.movement import DIRECTIONS, LEVELS, Movement, anywhere, in_boxes
from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.spec import OF_LITE, ModelSpec, Network
from adafocus_cli.video.framing import CELL
from adafocus_cli.video.sampling import Chance, FramePlan, same_frames, spread

_PAIRS = 24
_APART = 6  # frames between the two of a pair, at most: what is farther apart is not found again
_GRID = 3  # cells along a side of a frame that are told apart
_BOX = 0.6  # the side of a box that is looked at, as a share of the frame's shorter side
_BOX_CELLS = 4  # along its side, in which movement is told apart
_FINE = CELL // MOVEMENT_CELL  # cells of movement along the side of one of the network's
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
        return self.whole_kinds

    @property
    def whole_kinds(self) -> dict[str, int]:
        """Those of whole frames."""
        cells = _GRID**2 * self.glance_net.widths[-1]
        seen = self.glance_net.channels + cells
        return {
            "things": seen,
            "changes": self.spec.focus_frames * seen,
            **Movement.sizes,
            "anywhere": Movement.anywhere_size,
        }

    # Frames: pairs of neighbours.

    def plan(self, count: int, chance: Chance | None = None) -> FramePlan:
        """The two frames of a pair follow one another in the plan."""
        pairs = self.spec.glance_frames // 2
        apart = min(_APART, max(1, round(count / (2 * pairs))), count - 1)
        return same_frames(tuple(n for first in spread(count - apart, pairs) for n in (first, first + apart)))

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(0), range(1)),)

    # Stages.

    def glance(self, frames: Tensor) -> Tensor:
        return self.whole_evidence(frames)

    def whole_evidence(self, frames: Tensor) -> Tensor:
        """(b, t, 3, h, w) → the evidence that is not made of other kinds (b, numbers)."""
        seen = self._vectors(*self._maps(frames[:, self.seen_whole]))
        return torch.cat((*_things_and_changes(seen), *self.movement(self._grey(frames))), dim=1)

    def all_evidence(self, seen: Tensor) -> Tensor:
        """What was seen at a glance, and what follows from it: (b, numbers) → (b, more numbers)."""
        sizes = [*Movement.sizes.values()]
        shares, _, ways = torch.split(seen[:, -sum(sizes) :], sizes, dim=1)
        return torch.cat((seen, anywhere(shares, ways)), dim=1)

    @property
    def seen_whole(self) -> list[int]:
        """The places of the frames that the network sees: first of their pairs."""
        return [2 * pair for pair in spread(self.spec.glance_frames // 2, self.spec.focus_frames)]

    def shallow(self, frames: Tensor) -> Tensor:
        """(b, t, 3, h, w) → what the network's first blocks make of the frames that it sees (b, t, c, h, w)."""
        return frame_by_frame(self.glance_net, frames[:, self.seen_whole], self.glance_net.shallow)

    def seen_deep(self, network: EfficientNetLite, maps: Tensor) -> Tensor:
        """Things and changes as another network sees them, from what the first blocks made of frames: (b, numbers)."""
        body = frame_by_frame(network, maps, network.deep)
        return torch.cat(_things_and_changes(self._vectors(body, frame_by_frame(network, body, network.head))), dim=1)

    def _maps(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(b, t, 3, h, w) → the maps of the last block, and those of the head, which is less than these for all but
        ImageNet's classes."""
        body = frame_by_frame(self.glance_net, frames, self.glance_net.body)
        return body, frame_by_frame(self.glance_net, body, self.glance_net.head)

    @staticmethod
    def _vectors(body: Tensor, head: Tensor) -> Tensor:
        """What is seen in each frame: (b, t, numbers)."""
        cells = F.adaptive_avg_pool2d(body.flatten(0, 1).float(), _GRID).reshape(*body.shape[:2], -1)
        return torch.cat((_even(head.float().mean(dim=(-2, -1))), _even(cells)), dim=-1)

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


class TaughtToLook(Taught):
    """The same, and a look at one place of the clip, in the pixels of the source.

    A grid of boxes is laid over the frame. The glance says of each what it would be worth to look there, by a linear
    layer that is learnt from what looks were worth; the network sees the best box in the frames that it has seen whole,
    and the layer that answers has the evidence of the box beside that of the whole frames.
    """

    name = "taught-looks"
    published = replace(Taught.published, family=name, focus=Network(_LITE.arch, 160))
    looks_at_source = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.worth = nn.Linear(self.hints, 1)

    @property
    def kinds(self) -> dict[str, int]:
        parts, seen, cells = self.spec.focus_frames, self.whole_kinds["things"], LEVELS * _BOX_CELLS**2
        shares, ways = parts * Likeness.channels * cells, parts * DIRECTIONS * cells
        in_box = {"things": seen, "changes": parts * seen, "shares": shares, "centred": shares, "ways": ways}
        return {**self.whole_kinds, **{f"box {name}": count for name, count in in_box.items()}}

    @property
    def hints(self) -> int:
        """How many numbers say what it would be worth to look into a box."""
        return 2 * self.glance_net.widths[-1] + 2 * LEVELS * (Likeness.channels + DIRECTIONS)

    def turns(self, group: int | None = None) -> tuple[Turn, ...]:
        return (Turn(tuple(range(self.spec.glance_frames)), range(self.spec.focus_frames), range(1)),)

    def grid(self, height: int, width: int) -> Tensor:
        """The boxes of a frame (boxes, 4), row by row."""
        side = _BOX * min(height, width)
        tops, lefts = (_apart(length, side) for length in (height, width))
        return torch.tensor([(left, top, left + side, top + side) for top in tops for left in lefts])

    # A glance: all that it finds is dealt out to cells of 32 pixels a side.

    def glance(self, frames: Tensor) -> Tensor:
        body, head = self._maps(frames[:, self.seen_whole])
        movement = self.movement.maps(self._grey(frames))
        things_and_changes = _things_and_changes(self._vectors(body, head))
        whole = torch.cat((*things_and_changes, *self.movement.of_frame(movement)), dim=1)
        rows, columns = body.shape[-2:]
        dealt = F.pad(whole, (0, -whole.shape[1] % (rows * columns))).view(len(whole), -1, rows, columns)
        moving = [F.pixel_unshuffle(self._means(maps).flatten(1, 2), _FINE) for level in movement for maps in level]
        return torch.cat((dealt, body.float().flatten(1, 2), *moving), dim=1)

    def _means(self, maps: Tensor) -> Tensor:
        """Over parts of the clip: (b, p, …) → (b, parts, …)."""
        parts = F.adaptive_avg_pool1d(maps.flatten(2).transpose(1, 2), self.spec.focus_frames)
        return parts.transpose(1, 2).reshape(len(maps), -1, *maps.shape[2:])

    def found(self, glance_maps: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The evidence of whole frames (b, numbers); what the network has of each (b, frames, c, rows, columns); what
        moves in each part (b, parts, c, h, w): shares and ways, for each level."""
        parts, fine = self.spec.focus_frames, self.spec.focus_frames * _FINE**2
        numbers = sum(self.whole_kinds.values()) - Movement.anywhere_size
        sizes = [ceil(numbers / (glance_maps.shape[2] * glance_maps.shape[3])), parts * self.glance_net.widths[-1]]
        sizes += [fine * Likeness.channels, fine * DIRECTIONS] * LEVELS
        whole, cells, *moving = torch.split(glance_maps, sizes, dim=1)
        return (
            whole.flatten(1)[:, :numbers],
            _by_part(cells, parts),
            [_by_part(F.pixel_shuffle(maps, _FINE), parts) for maps in moving],
        )

    def sides(self, glance_maps: Tensor) -> tuple[int, int]:
        rows, columns = glance_maps.shape[2:]
        return rows * CELL, columns * CELL

    # Where to look.

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        grid = self.grid(*self.sides(glance_maps)).to(glance_maps.device)
        best = self.worth(self.hints_of(glance_maps))[..., 0].argmax(dim=1)
        memory["boxes"] = grid[best][:, None].expand(-1, self.spec.focus_frames, -1)
        frames = torch.tensor(self.seen_whole, device=grid.device).expand(len(best), -1)
        return Gaze(frames, memory["boxes"])

    def hints_of(self, glance_maps: Tensor) -> Tensor:
        """What the glance has of each box of the grid, beyond the mean of all: (b, boxes, hints)."""
        sides, (_, cells, moving) = self.sides(glance_maps), self.found(glance_maps)
        boxes = self.grid(*sides).to(glance_maps.device).expand(len(cells), -1, -1)
        maps = [cells.mean(dim=1), cells.std(dim=1)]
        for part in moving:
            maps += [part.mean(dim=1).sqrt(), part.amax(dim=1).sqrt()]
        hints = torch.cat([in_boxes(each, boxes, sides, 1).flatten(2) for each in maps], dim=2)
        return hints - hints.mean(dim=1, keepdim=True)

    def look_elsewhere(self, turn: Turn, boxes: Tensor, glance_maps: Tensor, memory: Memory) -> None:
        memory["boxes"] = boxes

    # What is seen there.

    def patches(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """They come cut out of the source."""
        return self.normalised(pixels)

    def focus(self, patches: Tensor) -> Tensor:
        """(b, l, 3, p, p) → what is seen in each (b, l, numbers)."""
        return self._vectors(*self._maps(patches))

    def classify(self, turn: Turn, glance_maps: Tensor, focused: Tensor | None, memory: Memory) -> Tensor:
        assert focused is not None, "its turn takes looks"
        whole = self.all_evidence(self.found(glance_maps)[0])
        logits: Tensor = self.answer(
            torch.cat((whole, self.box_evidence(glance_maps, focused, memory["boxes"])), dim=1)
        )
        return logits[:, None]

    def box_evidence(self, glance_maps: Tensor, focused: Tensor, boxes: Tensor) -> Tensor:
        """What was seen in boxes (b, looks, 4), and what moves there: (b, numbers)."""
        sides, parts = self.sides(glance_maps), self.spec.focus_frames
        of_part = boxes.flatten(0, 1)[:, None]
        moving = [in_boxes(maps.flatten(0, 1), of_part, sides, _BOX_CELLS) for maps in self.found(glance_maps)[2]]
        moving = [maps.sqrt().view(len(boxes), parts, -1) for maps in moving]
        shares, ways = torch.cat(moving[::2], dim=2), torch.cat(moving[1::2], dim=2)
        centred = shares - shares.mean(dim=1, keepdim=True)
        evidence = (*_things_and_changes(focused), *(kind.flatten(1) for kind in (shares, centred, ways)))
        return torch.cat(evidence, dim=1)

    def mirrored(self, box_evidence: Tensor) -> Tensor:
        """The evidence of the same boxes in the mirrored clip, all but exactly: (n, numbers)."""
        parts, head = self.spec.focus_frames, self.glance_net.channels
        sizes = [count for name, count in self.kinds.items() if name.startswith("box ")]
        things, changes, shares, centred, ways = torch.split(box_evidence, sizes, dim=1)

        def seen(vectors: Tensor) -> Tensor:
            each = vectors.view(len(vectors), -1, head + _GRID**2 * self.glance_net.widths[-1])
            cells = each[..., head:].reshape(*each.shape[:2], -1, _GRID, _GRID).flip(-1)
            return torch.cat((each[..., :head], cells.flatten(2)), dim=2).flatten(1)

        def moved(vectors: Tensor) -> Tensor:
            reach = round(Likeness.channels**0.5)
            return vectors.view(-1, parts * LEVELS, reach, reach, _BOX_CELLS, _BOX_CELLS).flip(3, 5).flatten(1)

        to_the_other_side = [(DIRECTIONS // 2 - direction) % DIRECTIONS for direction in range(DIRECTIONS)]
        along = ways.view(-1, parts * LEVELS, DIRECTIONS, _BOX_CELLS, _BOX_CELLS)[:, :, to_the_other_side].flip(-1)
        return torch.cat((seen(things), seen(changes), moved(shares), moved(centred), along.flatten(1)), dim=1)


def _things_and_changes(seen: Tensor) -> tuple[Tensor, Tensor]:
    """What is there, and what changes, of what is seen in each frame (b, t, numbers)."""
    mean = seen.mean(dim=1, keepdim=True)
    return mean[:, 0], (seen - mean).flatten(1)


def _by_part(maps: Tensor, parts: int) -> Tensor:
    """(b, parts · c, h, w) → (b, parts, c, h, w)."""
    return maps.view(len(maps), parts, -1, *maps.shape[2:])


def _even(vectors: Tensor) -> Tensor:
    """Vectors of length 1 in which no single number outshines the rest; the root has a slope at 0, too."""
    return F.normalize(vectors.sign() * (vectors.abs() + 1e-12).sqrt(), dim=-1)


def _apart(length: int, side: float) -> list[float]:
    """Where boxes begin along a side of the frame: from one end to the other, each half over the next or more.

    >>> _apart(160, 96.0), _apart(96, 96.0)
    ([0.0, 32.0, 64.0], [0.0])
    """
    steps = ceil((length - side) / (side / 2) - 1e-6)
    return [(length - side) * step / max(steps, 1) for step in range(steps + 1)]
