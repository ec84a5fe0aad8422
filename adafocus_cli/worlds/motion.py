"""The world *motion*: what moves and where to, 17 answers that no single frame tells.

The camera's labels name what the camera does, not the picture: when it pans left, the scene moves right; when it tilts
up, the scene moves down; when it rolls clockwise, the picture turns counter-clockwise. An object moves left when its
place in the frame does; the scene behind it drifts at most a quarter as far. Where nothing moves, the camera may still
tremble, and the light flicker. Other objects may stand in any scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from adafocus_cli.worlds import objects, paths
from adafocus_cli.worlds.effects import Effects, effects
from adafocus_cli.worlds.paths import Path, Pose
from adafocus_cli.worlds.scene import SIDE, Scene
from adafocus_cli.worlds.textures import texture

LABELS = (
    "nothing moves",
    "camera pans left",
    "camera pans right",
    "camera tilts up",
    "camera tilts down",
    "camera zooms in",
    "camera zooms out",
    "camera rolls clockwise",
    "camera rolls counter-clockwise",
    "object moves left",
    "object moves right",
    "object moves up",
    "object moves down",
    "object comes closer",
    "object goes away",
    "object appears",
    "object disappears",
)
# The side of an object, as a part of the frame's.
_SMALL, _LARGE = 0.08, 0.25
# How often a frame is drawn while the shutter is open.
_EXPOSURES = 3
# How often a part of a picture is looked for whose pixels deviate by so much, of 255.
_CUTS, _DETAILED = 4, 25.0


@dataclass(frozen=True, eq=False)
class MotionScene:
    """`canvas` is the whole scene, height × width × RGB; `origin` is where in it the camera's (0, 0) is."""

    label: int
    fps: float
    camera: Path
    effects: Effects
    canvas: Tensor
    origin: tuple[float, float]
    item: Tensor | None = None
    path: Path | None = None

    @property
    def count(self) -> int:
        return len(self.camera)

    @property
    def side(self) -> int:
        return SIDE

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        out = np.empty((len(numbers), SIDE, SIDE, 3), np.uint8)
        for place, number in enumerate(numbers):
            out[place] = self.effects.develop(self._exposed(number), number)
        return out

    def _exposed(self, number: int) -> Tensor:
        """What falls into the camera while the shutter is open: it ends with the frame."""
        if not self.effects.shutter:
            return self._instant(number)
        light = self._instant(number)
        for part in range(1, _EXPOSURES):
            light += self._instant(max(0.0, number - self.effects.shutter * part / _EXPOSURES))
        return light.div_(_EXPOSURES)

    def _instant(self, time: float) -> Tensor:
        frame = view(self.canvas, self.camera.at(time), self.origin)
        if self.item is not None and self.path is not None:
            pose = self.path.at(time)
            middle = SIDE / 2
            objects.lay(frame, self.item, middle + pose.x, middle + pose.y, scale=pose.scale, opacity=pose.shown)
        return frame


@dataclass(frozen=True)
class Motion:
    """With `pictures`, bytes of height × width × RGB and at least SIDE high and wide, scenes are cut from them."""

    unseen: bool = False
    pictures: Sequence[np.ndarray] | None = None
    name: str = "motion"
    labels: tuple[str, ...] = LABELS

    def scene(self, seed: int, *, label: int | None = None) -> Scene:
        chance = np.random.default_rng((seed, int(self.unseen), 17))
        label = int(chance.integers(len(LABELS))) if label is None else label
        text = LABELS[label]
        count = int(chance.integers(16, 121))
        looks = effects(chance, count)
        trembling, travel = paths.shake(chance, count), paths.travel(chance)
        camera = paths.camera(chance, text, trembling, paths.drift(chance, text, travel))
        low, high = camera.corners().min(0), camera.corners().max(0)
        # A part of a pixel, lest pictures that do not move be sharper than all others.
        x, y = (chance.random(2) - low + 1).tolist()
        width, height = (int(side) + 4 for side in high - low)
        canvas = self._background(chance, looks, height, width)
        item, path = self._object(chance, looks, text, travel, camera, trembling, canvas, (x, y))
        fps = round(float(chance.uniform(8, 60)))
        return MotionScene(label, fps, camera, looks, canvas, (x, y), item, path)

    def _background(self, chance: np.random.Generator, looks: Effects, height: int, width: int) -> Tensor:
        """The scene with what stands in it."""
        sides = height + looks.margin, width + looks.margin
        canvas = looks.soften(self._picture(chance, *sides)).permute(1, 2, 0).contiguous()
        for _ in range(int(chance.integers(1, 4)) if chance.random() < 0.5 else 0):
            x, y = float(chance.uniform(0, width)), float(chance.uniform(0, height))
            objects.lay(canvas, self._thing(chance, looks, _side(chance), canvas, x, y), x, y)
        return canvas

    def _object(
        self,
        chance: np.random.Generator,
        looks: Effects,
        text: str,
        travel: float,
        camera: Path,
        trembling: np.ndarray,
        canvas: Tensor,
        origin: tuple[float, float],
    ) -> tuple[Tensor | None, Path | None]:
        """What the label is about and how it moves, unless that is the camera."""
        if not text.startswith("object"):
            return None, None
        side = _side(chance)
        if text.startswith("object moves"):
            path = paths.moving(chance, text.split()[-1], travel, side, trembling)
        elif text.endswith("appears"):
            path = paths.showing(chance, text, side, camera.places)
        else:
            path, side = paths.nearing(chance, text, camera.places)
        middle = path.places[len(path) // 2] + camera.places[len(path) // 2] + origin
        return self._thing(chance, looks, side, canvas, *middle.tolist()), path

    def _thing(
        self, chance: np.random.Generator, looks: Effects, side: int, canvas: Tensor, x: float, y: float
    ) -> Tensor:
        top, left = max(0, int(y - side / 2)), max(0, int(x - side / 2))
        behind = canvas[top : top + side, left : left + side].mean((0, 1))
        filling = self._filling(chance)
        item = objects.thing(chance, side, behind, margin=looks.margin, filling=filling, unseen=self.unseen)
        return looks.soften(item)

    def _filling(self, chance: np.random.Generator) -> objects.Filling:
        if self.pictures is not None and chance.random() < 0.5:
            return lambda chance, side: self._picture(chance, side, side)
        return objects.unseen_filling if self.unseen else objects.seen_filling

    def _picture(self, chance: np.random.Generator, height: int, width: int) -> Tensor:
        if self.pictures is None:
            return texture(chance, height, width, unseen=self.unseen)
        return crop(chance, self.pictures[int(chance.integers(len(self.pictures)))], height, width)


def view(canvas: Tensor, pose: Pose, origin: tuple[float, float]) -> Tensor:
    """What a camera sees of a canvas, in a tensor of its own."""
    x, y = pose.x + origin[0], pose.y + origin[1]
    if pose.scale == 1 and pose.turn == 0:
        left, top = x - SIDE / 2, y - SIDE / 2
        column, row = int(left), int(top)
        wide = canvas[row : row + SIDE + 1, column : column + SIDE + 1]
        rows = torch.lerp(wide[:-1], wide[1:], top - row)
        return torch.lerp(rows[:, :-1], rows[:, 1:], left - column)
    height, width = canvas.shape[:2]
    cos, sin = pose.scale * float(np.cos(pose.turn)), pose.scale * float(np.sin(pose.turn))
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    grid = torch.empty(SIDE, SIDE, 2)
    torch.add(line * (cos * 2 / width), (line * (-sin * 2 / width) + (2 * x / width - 1))[:, None], out=grid[..., 0])
    torch.add(line * (sin * 2 / height), (line * (cos * 2 / height) + (2 * y / height - 1))[:, None], out=grid[..., 1])
    seen = grid_sample(canvas.permute(2, 0, 1)[None], grid[None], align_corners=False)
    return seen[0].permute(1, 2, 0).contiguous()


def crop(chance: np.random.Generator, picture: np.ndarray, height: int, width: int) -> Tensor:
    """Some part of a picture, RGB × height × width; made smaller where the picture has more than is needed.

    Empty sky does not tell how a camera moves, so a part with little in it is only taken when others have no more.
    """
    parts = (_cut(chance, picture, height, width) for _ in range(_CUTS))
    part = next((part for part in parts if part.std() > _DETAILED), None)
    part = _cut(chance, picture, height, width) if part is None else part
    return torch.from_numpy(part).permute(2, 0, 1).contiguous()


def _cut(chance: np.random.Generator, picture: np.ndarray, height: int, width: int) -> np.ndarray:
    high, wide = picture.shape[:2]
    least = max(height / high, width / wide)
    shrink = least ** chance.random() if least < 1 else least
    high_part, wide_part = min(high, height / shrink), min(wide, width / shrink)
    left, top = chance.uniform(0, wide - wide_part), chance.uniform(0, high - high_part)
    box = (left, top, min(wide, left + wide_part), min(high, top + high_part))
    part = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.array(part, np.float32)


def _side(chance: np.random.Generator) -> int:
    return round(SIDE * float(chance.uniform(_SMALL, _LARGE)))
