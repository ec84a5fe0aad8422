"""Where the camera and an object are in every frame, for each label of the world *motion*. Knows no pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adafocus_cli.worlds.outlines import turn
from adafocus_cli.worlds.scene import SIDE

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
    frame's covers, `turn` how far it has turned clockwise, in radians. Object: x and y are its middle in the frame,
    from the frame's middle, `scale` its size, 1 as drawn, and `shown` its opacity.
    """

    x: float
    y: float
    scale: float = 1.0
    turn: float = 0.0
    shown: float = 1.0


class Path:
    """A pose for every frame."""

    def __init__(
        self,
        places: np.ndarray,
        *,
        scale: np.ndarray | float = 1.0,
        turn: np.ndarray | float = 0.0,
        shown: np.ndarray | float = 1.0,
    ) -> None:
        self._rows = np.empty((len(places), 5))
        self._rows[:, :2] = places
        self._rows[:, 2], self._rows[:, 3], self._rows[:, 4] = scale, turn, shown

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


def shake(chance: np.random.Generator, count: int) -> np.ndarray:
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


def camera(chance: np.random.Generator, label: str, trembling: np.ndarray, drift: np.ndarray) -> Path:
    """The camera's path for a label; `drift` is where it has got by the last frame if the label is about an object."""
    count = len(trembling)
    progress = _progress(chance, count)
    verb, _, direction = label.removeprefix("camera ").partition(" ")
    if verb in ("pans", "tilts"):
        way = _leaning(chance, direction) * SIDE * _even_odds(chance, 0.06, 0.6)
        return Path(trembling + progress[:, None] * way)
    if verb == "zooms":
        ratio = _even_odds(chance, 1.12, 1.8) ** (-1 if direction == "in" else 1)
        return _around(chance, trembling, ratio ** (progress - 0.5), np.zeros(count))
    if verb == "rolls":
        angle = np.radians(_even_odds(chance, 8, 60)) * (1 if direction == "clockwise" else -1)
        return _around(chance, trembling, np.ones(count), angle * (progress - chance.random()))
    return Path(trembling + progress[:, None] * drift)


def drift(chance: np.random.Generator, label: str, travel: float) -> np.ndarray:
    """How far the scene drifts while an object does something; half of the scenes stand still."""
    if not label.startswith("object") or chance.random() < 0.5:
        return np.zeros(2)
    reach = min(travel / 4, 0.08 * SIDE) if label.startswith("object moves") else _SLOW
    angle = chance.uniform(0, 2 * np.pi)
    return reach * chance.random() * np.array([np.cos(angle), np.sin(angle)])


def travel(chance: np.random.Generator) -> float:
    """How far an object moves, in pixels."""
    return SIDE * _even_odds(chance, 0.15, 0.7)


def moving(chance: np.random.Generator, direction: str, distance: float, side: int, trembling: np.ndarray) -> Path:
    """An object on its way across the frame, in which it stays."""
    way = _leaning(chance, direction) * distance
    place = _place(chance, side, np.minimum(way, 0), np.maximum(way, 0))
    return Path(place + _progress(chance, len(trembling))[:, None] * way - trembling)


def nearing(chance: np.random.Generator, label: str, scene: np.ndarray) -> tuple[Path, int]:
    """An object that comes closer or goes away, and the side to draw it with; `scene` is the camera's x and y."""
    growth = chance.uniform(1.7, 3.0)
    smallest = chance.uniform(_FAR, _NEAR / growth)
    # Drawn in between, so that it is neither stretched nor shrunk much.
    side = round(smallest * growth**0.5)
    progress = _progress(chance, len(scene)) - 0.5
    scale = growth ** (progress if label.endswith("closer") else -progress)
    return Path(_place(chance, round(smallest * growth)) - scene, scale=scale), side


def showing(chance: np.random.Generator, label: str, side: int, scene: np.ndarray) -> Path:
    """An object that appears or disappears, at once or fading, where it stands in the scene."""
    count = len(scene)
    fade = chance.choice([0.0, chance.uniform(0.02, 0.12)]) * count
    moment = chance.uniform(0.25, 0.75) * (count - 1)
    since = np.arange(count) - moment
    shown = np.clip(since / fade + 0.5, 0, 1) if fade else (since > 0).astype(float)
    return Path(_place(chance, side) - scene, shown=shown if label.endswith(" appears") else 1 - shown)


def _around(chance: np.random.Generator, trembling: np.ndarray, scale: np.ndarray, angle: np.ndarray) -> Path:
    """A zoom or a roll about a point that need not be the frame's middle."""
    fixed = chance.uniform(-0.12, 0.12, 2) * SIDE
    moved = np.stack([s * (fixed @ turn(-a)) for s, a in zip(scale, angle, strict=True)])
    return Path(trembling + fixed - moved, scale=scale, turn=angle)


def _place(
    chance: np.random.Generator, side: int, back: np.ndarray | float = 0.0, forth: np.ndarray | float = 0.0
) -> np.ndarray:
    """Where an object can begin and be wholly in the frame, or nearly, also on its way."""
    room = SIDE / 2 - 0.48 * side
    return np.asarray(chance.uniform(-room - back, room - forth, 2))


def _leaning(chance: np.random.Generator, direction: str) -> np.ndarray:
    return np.asarray(np.array(DIRECTIONS[direction]) @ turn(chance.uniform(-_LEAN, _LEAN)))


def _progress(chance: np.random.Generator, count: int) -> np.ndarray:
    """From 0 to 1 over the clip, steadily or with a smooth start and stop."""
    time = np.linspace(0, 1, count)
    smooth = chance.choice([0.0, chance.random()])
    return np.asarray(time + smooth * (time * time * (3 - 2 * time) - time))


def _even_odds(chance: np.random.Generator, low: float, high: float) -> float:
    """Between two numbers, each doubling being as likely as the next."""
    return float(low * (high / low) ** chance.random())
