"""Shapes as rings of points: some for training, others that only unseen scenes have. Knows no pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Every outline has as many points, so that many can be turned and scaled at once.
POINTS = 24
_ROUND = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)


def outline(chance: np.random.Generator, *, unseen: bool = False) -> np.ndarray:
    """POINTS × (x, y), turned somehow, the farthest from the middle at distance 1."""
    shapes = _UNSEEN if unseen else _SEEN
    points = shapes[chance.integers(len(shapes))](chance) * (1, chance.uniform(0.65, 1))
    points = points - (points.max(0) + points.min(0)) / 2
    points = points @ turn(chance.uniform(0, 2 * np.pi))
    return np.asarray(points / np.hypot(*points.T).max())


def turn(angle: float) -> np.ndarray:
    """The matrix that turns row vectors counter-clockwise as seen on a screen, where y points down."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _ring(radii: np.ndarray | float) -> np.ndarray:
    return np.asarray(np.stack([np.cos(_ROUND), np.sin(_ROUND)], 1) * np.reshape(radii, (-1, 1)))


def _corners(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, float)[np.arange(POINTS) * len(corners) // POINTS]


def _disc(chance: np.random.Generator) -> np.ndarray:
    return _ring(1)


def _box(chance: np.random.Generator) -> np.ndarray:
    return _corners((-1, -1), (1, -1), (1, 1), (-1, 1))


def _triangle(chance: np.random.Generator) -> np.ndarray:
    return _corners((-1, 0.9), (1, 0.9), (chance.uniform(-0.6, 0.6), -0.9))


def _polygon(chance: np.random.Generator) -> np.ndarray:
    return _corners(*_ring(1)[:: POINTS // int(chance.choice([6, 8]))])


def _blob(chance: np.random.Generator) -> np.ndarray:
    waves = sum(chance.uniform(0, 0.5 / k) * np.cos(k * _ROUND + chance.uniform(0, 6.3)) for k in (2, 3, 4))
    return _ring(1 + waves)


def _half(chance: np.random.Generator) -> np.ndarray:
    return np.asarray(np.clip(_ring(1), (-1, -0.1), (1, 1)))


def _star(chance: np.random.Generator) -> np.ndarray:
    rays = int(chance.choice([4, 6]))
    angles = _ROUND[:: POINTS // (2 * rays)]
    radii = np.tile([1, chance.uniform(0.45, 0.65)], rays)
    return _corners(*np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1))


def _cross(chance: np.random.Generator) -> np.ndarray:
    a = chance.uniform(0.33, 0.5)
    return _corners(
        (-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)
    )


def _crescent(chance: np.random.Generator) -> np.ndarray:
    outer = _ring(1)[: POINTS // 2]
    return np.concatenate([outer, outer[::-1] * (1, -chance.uniform(0, 0.3))])


def _heart(chance: np.random.Generator) -> np.ndarray:
    x = np.sin(_ROUND) ** 3
    y = 0.8 * np.cos(_ROUND) - 0.3 * np.cos(2 * _ROUND) - 0.12 * np.cos(3 * _ROUND) - 0.06 * np.cos(4 * _ROUND)
    return np.stack([x, -y], 1)


def _arrow(chance: np.random.Generator) -> np.ndarray:
    a = chance.uniform(0.3, 0.5)
    return _corners((-1, -a), (0, -a), (0, -0.9), (1, 0), (1, 0), (0, 0.9), (0, a), (-1, a))


_SEEN: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (_disc, _box, _triangle, _polygon, _blob, _half)
_UNSEEN: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (_star, _cross, _crescent, _heart, _arrow)
