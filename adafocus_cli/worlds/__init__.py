"""Synthetic videos with known labels, rendered on demand: for training, tests and controls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from adafocus_cli.errors import UsageError
from adafocus_cli.worlds.glyphs import Glyphs
from adafocus_cli.worlds.moments import Moments
from adafocus_cli.worlds.motion import Motion
from adafocus_cli.worlds.scene import SIDE, Scene, World

__all__ = ["SIDE", "WORLDS", "Scene", "World", "world"]

WORLDS: dict[str, Callable[[bool], World]] = {
    "motion": Motion,
    "glyphs": Glyphs,
    "glyphs-close": partial(Glyphs, close=True),
    "glyphs-turning": partial(Glyphs, turning=True),
    "moments": Moments,
    "moments-close": partial(Moments, close=True),
}


def world(name: str, *, unseen: bool = False) -> World:
    """A world by name; `unseen` has textures, shapes and colours that training never shows."""
    if name not in WORLDS:
        raise UsageError(f"there is no world {name!r}; choose one of {', '.join(WORLDS)}")
    return WORLDS[name](unseen)
