"""What a camera does to a picture: focus, contrast, uneven light, flicker, noise, compression."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adafocus_cli.worlds.scene import SIDE

_GRAIN_SIDE = 512


@dataclass(frozen=True, eq=False)
class Effects:
    """The camera of one scene. `shutter` is how much of a frame's time it is open; 0 is an instant."""

    blur: int
    contrast: float
    brightness: float
    shutter: float
    noise: float
    grain: np.ndarray
    gains: np.ndarray
    vignette: Tensor | None
    quality: int | None

    @property
    def margin(self) -> int:
        """How many pixels `soften` takes off a picture's height and width."""
        return (1 << self.blur) - 1

    def soften(self, picture: Tensor) -> Tensor:
        """Out of focus; of channels × height × width, whose borders it eats."""
        for step in (1 << k for k in range(self.blur)):
            picture = torch.lerp(picture[:, step:], picture[:, :-step], 0.5)
            picture = torch.lerp(picture[..., step:], picture[..., :-step], 0.5)
        return picture

    def develop(self, frame: Tensor, number: int) -> np.ndarray:
        """The bytes of one frame, from height × width × RGB."""
        frame = frame.mul(float(self.contrast * self.gains[number])).add_(self.brightness)
        if self.vignette is not None:
            frame.mul_(self.vignette)
        if self.noise:
            top, left = self.grain[number].tolist()
            frame.add_(_grain()[top : top + SIDE, left : left + SIDE], alpha=self.noise)
        pixels: np.ndarray = frame.clamp_(0, 255).to(torch.uint8).numpy()
        return pixels if self.quality is None else _compressed(pixels, self.quality)


def effects(chance: np.random.Generator, count: int) -> Effects:
    """A camera for `count` frames; most of its faults are in some scenes only."""
    contrast = float(chance.choice([1.0, chance.uniform(0.45, 1.0)]))
    low, high = sorted((0.0, 255 * (1 - contrast)))
    return Effects(
        blur=int(chance.choice(4, p=[0.5, 0.3, 0.15, 0.05])),
        contrast=contrast,
        brightness=float(chance.uniform(low, high)),
        shutter=float(chance.uniform(0.3, 1)) if chance.random() < 0.15 else 0.0,
        noise=contrast * float(chance.uniform(1, 9)) if chance.random() < 0.6 else 0.0,
        grain=chance.integers(_GRAIN_SIDE - SIDE, size=(count, 2)),
        gains=_flicker(chance, count),
        vignette=_vignette(chance) if chance.random() < 0.3 else None,
        quality=int(chance.integers(25, 90)) if chance.random() < 0.14 else None,
    )


def _flicker(chance: np.random.Generator, count: int) -> np.ndarray:
    """Brightness of each frame: steady, in waves, or jumping."""
    kind, depth = chance.integers(4), chance.uniform(0.01, 0.1)
    if kind == 0:
        return np.asarray(1 + depth * np.sin(np.linspace(0, chance.uniform(3, 60), count) + chance.uniform(0, 6.3)))
    return np.asarray(1 + depth * chance.uniform(-1, 1, count) * (kind == 1))


def _vignette(chance: np.random.Generator) -> Tensor:
    """Darker corners, around a middle that need not be the picture's."""
    x, y = (np.linspace(-1, 1, SIDE, dtype=np.float32) - chance.uniform(-0.4, 0.4) for _ in range(2))
    dark = 1 - chance.uniform(0.05, 0.25) * (x**2 + y[:, None] ** 2)
    return torch.from_numpy(dark.astype(np.float32))[..., None].repeat(1, 1, 3)


@lru_cache(maxsize=1)
def _grain() -> Tensor:
    """Noise to cut from, since fresh noise would take longer than all else in a frame."""
    noise = np.random.default_rng(5).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3), dtype=np.float32)
    return torch.from_numpy(noise)


def _compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
