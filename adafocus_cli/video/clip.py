"""From a decoded picture to the squares that a model sees: bilinear with antialias, as the checkpoints were tested.

Knows nothing of files or models.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from adafocus_cli.video.framing import USUAL, Framing


def preprocess(picture: np.ndarray, framing: Framing = USUAL) -> np.ndarray:
    """What is seen of an upright H×W×3 uint8 picture."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is H×W×3 uint8, not {picture.shape} {picture.dtype}")
    geometry, size = framing.geometry(picture.shape[1], picture.shape[0]), framing.size
    width, height = geometry.resized
    image = Image.fromarray(np.ascontiguousarray(picture))
    if framing.squeezed:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    corners = (geometry.corner,) if framing.crops == 1 else geometry.corners
    if max(width, height) <= 8 * min(width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        crops = [image.crop((left, top, left + size, top + size)) for left, top in corners]
    else:
        # A very long picture is never resized whole; this may differ by one grey level.
        across, down = geometry.width / width, geometry.height / height
        boxes = [(x * across, y * down, (x + size) * across, (y + size) * down) for x, y in corners]
        crops = [image.resize((size, size), Image.Resampling.BILINEAR, box=box) for box in boxes]
    return np.concatenate([np.asarray(crop) for crop in crops], axis=1)


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """All of square frames (n, side, side, 3), at another size."""
    if frames.shape[1] == size:
        return frames
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])
