"""What keeping frames as JPEG pictures costs: bytes, time, and how far it moves what a network sees.

    python bench/frame_cache.py examples/*.mp4

Every tenth frame of each video becomes a picture of the shorter side that training keeps, and a part of 224 pixels is
looked at as in training: by EfficientNet-Lite0, before and after. For comparison, the same part of the next frame, and
another part of the same one, which is what training changes at every look.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from adafocus_cli.models import build
from adafocus_cli.models.taught import Taught
from adafocus_cli.nn.heads import pooled
from adafocus_cli.training import frame_cache, initial_model
from adafocus_cli.training.clips import random_part
from adafocus_cli.video.framing import CROP, Framing
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.weights_packages import installed

SIDE, APART, QUALITIES = 360, 10, (60, 75, 85, 90, 95)


def main(paths: Sequence[str]) -> None:
    torch.set_num_threads(1)
    pictures = [pair for path in paths for pair in pairs_of(path)]
    chance = np.random.default_rng(0)
    boxes = [random_part(first.shape[1], first.shape[0], CROP, chance) for first, _ in pictures]
    before = [part(Image.fromarray(first), box) for (first, _), box in zip(pictures, boxes, strict=True)]
    network = Network()
    seen = network.sees(before)
    print(f"{len(pictures)} frames of {len(paths)} videos, shorter side {SIDE}")
    print("quality  kB a frame  ms to write  ms to read  grey levels  features")
    for quality in QUALITIES:
        frame_cache.QUALITY = quality
        started = time.process_time()
        files = [frame_cache.as_jpeg(first) for first, _ in pictures]
        written = time.process_time()
        after = [part(frame_cache.decoded(file), box) for file, box in zip(files, boxes, strict=True)]
        milliseconds = [1000 * seconds / len(files) for seconds in (written - started, time.process_time() - written)]
        size = sum(map(len, files)) / len(files) / 1000
        change = f"{grey(before, after):11.2f}  {network.change(seen, after):8.3f}"
        print(f"{quality:7}  {size:10.1f}  {milliseconds[0]:11.2f}  {milliseconds[1]:10.2f}  {change}")
    next_frame = [part(Image.fromarray(second), box) for (_, second), box in zip(pictures, boxes, strict=True)]
    others = [random_part(first.shape[1], first.shape[0], CROP, chance) for first, _ in pictures]
    other_part = [part(Image.fromarray(first), box) for (first, _), box in zip(pictures, others, strict=True)]
    for name, after in (("the next frame", next_frame), ("another part", other_part)):
        print(f"{name:46}{grey(before, after):11.2f}  {network.change(seen, after):8.3f}")


def pairs_of(path: str) -> list[np.ndarray]:
    """Frames with those that follow them."""
    with VideoProcess() as process:
        video = process.open(path)
        numbers = [n for first in range(0, video.info.frames - 1, APART) for n in (first, first + 1)]
        pixels = process.frames(video, numbers, framing=Framing(size=SIDE, whole=True)).pixels
    return list(pixels.reshape(-1, 2, *pixels.shape[1:]))


def part(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(image.crop(box).resize((CROP, CROP), Image.Resampling.BILINEAR))


def grey(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The mean difference of pixels, of 255."""
    return float(np.abs(np.stack(before).astype(int) - np.stack(after)).mean())


class Network:
    def __init__(self) -> None:
        self._model = build(Taught.published).eval()
        initial_model.load_network(self._model, "glance", installed(Taught.published.glance.arch))

    @torch.inference_mode()
    def sees(self, parts: Sequence[np.ndarray]) -> torch.Tensor:
        """Features (pictures, channels)."""
        frames = (self._model.normalised(torch.from_numpy(each.copy()))[None] for each in parts)
        return torch.cat([pooled(self._model.glance_net(frame)) for frame in frames])

    def change(self, seen: torch.Tensor, after: Sequence[np.ndarray]) -> float:
        """The median change of a picture's features, as a share of them."""
        return float(((self.sees(after) - seen).norm(dim=1) / seen.norm(dim=1)).median())


if __name__ == "__main__":
    main(sys.argv[1:])
