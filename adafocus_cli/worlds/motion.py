"""The world *motion*: what moves and where to, 17 answers that no single frame tells.

The camera's labels name what the camera does, not the picture: when it pans left, the scene moves right; when it tilts
up, the scene moves down; when it rolls clockwise, the picture turns counter-clockwise. An object moves left when its
place in the frame does; the scene behind it drifts at most a quarter as far. Where nothing moves, the camera may still
tremble, and the light flicker. Other objects may stand in any scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from adafocus_cli.worlds import objects
from adafocus_cli.worlds.effects import Effects, effects
from adafocus_cli.worlds.scene import SIDE, Scene
from adafocus_cli.worlds.textures import rotation_matrix, texture

# Where each word points on a screen, x to the right and y down.
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_LEAN = np.radians(15)
_SHAKE = 0.015 * SIDE
# How far the scene may drift behind an object that does not move in it.
_SLOW = 0.03 * SIDE
# The smallest and the largest object that comes closer or goes away.
_FAR, _NEAR = 0.06 * SIDE, 0.30 * SIDE


class Pose(NamedTuple):
    """Of a camera or an object in one frame.

    Camera: x and y say where in the scene the middle of the frame is, `scale` how many of the scene's pixels one of the
    frame's covers, `rotation` how far it is turned clockwise, in radians. Object: x and y are its middle in the frame,
    from the frame's middle, `scale` its size, 1 as drawn, and `shown` its opacity.
    """

    x: float
    y: float
    scale: float = 1.0
    rotation: float = 0.0
    shown: float = 1.0


class PosePath:
    """A pose for every frame."""

    def __init__(
        self,
        places: np.ndarray,
        *,
        scale: np.ndarray | float = 1.0,
        rotation: np.ndarray | float = 0.0,
        shown: np.ndarray | float = 1.0,
    ) -> None:
        self._rows = np.empty((len(places), 5))
        self._rows[:, :2] = places
        self._rows[:, 2], self._rows[:, 3], self._rows[:, 4] = scale, rotation, shown

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def places(self) -> np.ndarray:
        """x and y of every frame."""
        return self._rows[:, :2]

    def at(self, time: float) -> Pose:
        """The pose at a frame's number, or between two."""
        first = int(time)
        row, part = self._rows[first], time - first
        return Pose(*(row + part * (self._rows[first + 1] - row) if part else row).tolist())

    def corners(self) -> np.ndarray:
        """Where in the scene a camera's frames have their corners: (points, 2)."""
        x, y, scale, angle, _ = self._rows.T
        frame = np.array([(a, b) for a in (-SIDE / 2, SIDE / 2) for b in (-SIDE / 2, SIDE / 2)])
        cos, sin = (scale * np.cos(angle))[:, None], (scale * np.sin(angle))[:, None]
        across, down = frame.T
        seen = np.stack([across * cos - down * sin + x[:, None], across * sin + down * cos + y[:, None]], -1)
        return seen.reshape(-1, 2)


def camera_shake(chance: np.random.Generator, count: int) -> np.ndarray:
    """A hand's trembling, around where the camera is: none, waves, or jumps from frame to frame."""
    kind = chance.integers(3)
    if kind == 0:
        return np.zeros((count, 2))
    reach = chance.uniform(0.1, 1) * _SHAKE
    if kind == 1:
        return reach * chance.uniform(-1, 1, (count, 2))
    times = np.linspace(0, 2 * np.pi, count)[:, None, None]
    # Whole waves, so that it ends where it began.
    waves = np.sin(times * chance.integers(1, 9, (2, 3)) + chance.uniform(0, 2 * np.pi, (2, 3)))
    return np.asarray(reach * waves.mean(2))


def camera_path(chance: np.random.Generator, label: str, trembling: np.ndarray, drift: np.ndarray) -> PosePath:
    """The camera's path for a label; `drift` is where it has got by the last frame if the label is about an object."""
    count = len(trembling)
    progress = _progress(chance, count)
    verb, _, direction = label.removeprefix("camera ").partition(" ")
    if verb in ("pans", "tilts"):
        way = _leaning(chance, direction) * SIDE * _even_odds(chance, 0.06, 0.6)
        return PosePath(trembling + progress[:, None] * way)
    if verb == "zooms":
        ratio = _even_odds(chance, 1.12, 1.8) ** (-1 if direction == "in" else 1)
        return _around(chance, trembling, ratio ** (progress - 0.5), np.zeros(count))
    if verb == "rolls":
        angle = np.radians(_even_odds(chance, 8, 60)) * (1 if direction == "clockwise" else -1)
        return _around(chance, trembling, np.ones(count), angle * (progress - chance.random()))
    return PosePath(trembling + progress[:, None] * drift)


def drift_behind(chance: np.random.Generator, label: str, travel: float) -> np.ndarray:
    """How far the scene drifts while an object does something; half of the scenes stand still."""
    if not label.startswith("object") or chance.random() < 0.5:
        return np.zeros(2)
    reach = min(travel / 4, 0.08 * SIDE) if label.startswith("object moves") else _SLOW
    angle = chance.uniform(0, 2 * np.pi)
    return reach * chance.random() * np.array([np.cos(angle), np.sin(angle)])


def travel_distance(chance: np.random.Generator) -> float:
    """How far an object moves, in pixels."""
    return SIDE * _even_odds(chance, 0.15, 0.7)


def moving_path(
    chance: np.random.Generator, direction: str, distance: float, side: int, trembling: np.ndarray
) -> PosePath:
    """An object on its way across the frame, in which it stays."""
    way = _leaning(chance, direction) * distance
    place = _place(chance, side, np.minimum(way, 0), np.maximum(way, 0))
    return PosePath(place + _progress(chance, len(trembling))[:, None] * way - trembling)


def nearing_path(chance: np.random.Generator, label: str, scene: np.ndarray) -> tuple[PosePath, int]:
    """An object that comes closer or goes away, and the side to draw it with; `scene` is the camera's x and y."""
    growth = chance.uniform(1.7, 3.0)
    smallest = chance.uniform(_FAR, _NEAR / growth)
    # Drawn in between, so that it is neither stretched nor shrunk much.
    side = round(smallest * growth**0.5)
    progress = _progress(chance, len(scene)) - 0.5
    scale = growth ** (progress if label.endswith("closer") else -progress)
    return PosePath(_place(chance, round(smallest * growth)) - scene, scale=scale), side


def showing_path(chance: np.random.Generator, label: str, side: int, scene: np.ndarray) -> PosePath:
    """An object that appears or disappears, at once or fading, where it stands in the scene."""
    count = len(scene)
    fade = chance.choice([0.0, chance.uniform(0.02, 0.12)]) * count
    moment = chance.uniform(0.25, 0.75) * (count - 1)
    since = np.arange(count) - moment
    shown = np.clip(since / fade + 0.5, 0, 1) if fade else (since > 0).astype(float)
    return PosePath(_place(chance, side) - scene, shown=shown if label.endswith(" appears") else 1 - shown)


def _around(chance: np.random.Generator, trembling: np.ndarray, scale: np.ndarray, angle: np.ndarray) -> PosePath:
    """A zoom or a roll about a point that need not be the frame's middle."""
    fixed = chance.uniform(-0.12, 0.12, 2) * SIDE
    moved = np.stack([s * (fixed @ rotation_matrix(-a)) for s, a in zip(scale, angle, strict=True)])
    return PosePath(trembling + fixed - moved, scale=scale, rotation=angle)


def _place(
    chance: np.random.Generator, side: int, back: np.ndarray | float = 0.0, forth: np.ndarray | float = 0.0
) -> np.ndarray:
    """Where an object can begin and be wholly in the frame, or nearly, also on its way."""
    room = SIDE / 2 - 0.48 * side
    return np.asarray(chance.uniform(-room - back, room - forth, 2))


def _leaning(chance: np.random.Generator, direction: str) -> np.ndarray:
    return np.asarray(np.array(DIRECTIONS[direction]) @ rotation_matrix(chance.uniform(-_LEAN, _LEAN)))


def _progress(chance: np.random.Generator, count: int) -> np.ndarray:
    """From 0 to 1 over the clip, steadily or with a smooth start and stop."""
    time = np.linspace(0, 1, count)
    smooth = chance.choice([0.0, chance.random()])
    return np.asarray(time + smooth * (time * time * (3 - 2 * time) - time))


def _even_odds(chance: np.random.Generator, low: float, high: float) -> float:
    """Between two numbers, each doubling being as likely as the next."""
    return float(low * (high / low) ** chance.random())


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
    camera: PosePath
    effects: Effects
    canvas: Tensor
    origin: tuple[float, float]
    item: Tensor | None = None
    path: PosePath | None = None

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
        trembling, travel = camera_shake(chance, count), travel_distance(chance)
        camera = camera_path(chance, text, trembling, drift_behind(chance, text, travel))
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
        camera: PosePath,
        trembling: np.ndarray,
        canvas: Tensor,
        origin: tuple[float, float],
    ) -> tuple[Tensor | None, PosePath | None]:
        """What the label is about and how it moves, unless that is the camera."""
        if not text.startswith("object"):
            return None, None
        side = _side(chance)
        if text.startswith("object moves"):
            path = moving_path(chance, text.split()[-1], travel, side, trembling)
        elif text.endswith("appears"):
            path = showing_path(chance, text, side, camera.places)
        else:
            path, side = nearing_path(chance, text, camera.places)
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
        return objects.unseen_filling if self.unseen else objects.training_filling

    def _picture(self, chance: np.random.Generator, height: int, width: int) -> Tensor:
        if self.pictures is None:
            return texture(chance, height, width, unseen=self.unseen)
        return crop(chance, self.pictures[int(chance.integers(len(self.pictures)))], height, width)


def view(canvas: Tensor, pose: Pose, origin: tuple[float, float]) -> Tensor:
    """What a camera sees of a canvas, in a tensor of its own."""
    x, y = pose.x + origin[0], pose.y + origin[1]
    if pose.scale == 1 and pose.rotation == 0:
        left, top = x - SIDE / 2, y - SIDE / 2
        column, row = int(left), int(top)
        wide = canvas[row : row + SIDE + 1, column : column + SIDE + 1]
        rows = torch.lerp(wide[:-1], wide[1:], top - row)
        return torch.lerp(rows[:, :-1], rows[:, 1:], left - column)
    height, width = canvas.shape[:2]
    cos, sin = pose.scale * float(np.cos(pose.rotation)), pose.scale * float(np.sin(pose.rotation))
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
