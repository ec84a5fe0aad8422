"""Teaches a small ResNet-18 to read the signs of the world *glyphs*: `python bench/reader.py --size 96 FILE`.

It learns on close-ups (`glyphs-close`), picture by picture, and comes back to the same ones: reading is learnt sooner
from a few thousand signs seen often than from as many seen once. FILE takes its weights by torchvision's names, for
`--glance-weights` and `--focus-weights` of `adafocus train`. With `--size` 40 the signs are as small as they are to a
glance of 96 pixels: what is learnt then is to find them rather than to read them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from adafocus_cli.nn.networks import build_backbone
from adafocus_cli.nn.pixels import normalised
from adafocus_cli.spec import Network
from adafocus_cli.video.pictures import resized
from adafocus_cli.worlds import world

_FRAMES = 4
_BATCH, _RATE, _DECAY = 32, 0.002, 0.01
_JUDGED = 0.05


def pictures(scenes: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Some frames of each scene, and what they say."""
    made = world("glyphs-close")
    frames, labels = [], []
    for number in range(scenes):
        scene = made.scene(seed * 1_000_000 + number)
        frames.append(resized(scene.frames([k * (scene.count - 1) // (_FRAMES - 1) for k in range(_FRAMES)]), size))
        labels += [scene.label] * _FRAMES
    return torch.from_numpy(np.concatenate(frames)), torch.tensor(labels)


def taught(seen: Tensor, labels: Tensor, *, size: int, width: float, epochs: int) -> nn.Module:
    network = build_backbone(Network("resnet18", size, width))
    head = nn.Linear(network.channels, int(labels.max()) + 1)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=_RATE, weight_decay=_DECAY)
    judged = _FRAMES * round(len(seen) * _JUDGED / _FRAMES)  # whole scenes

    def answers(some: Tensor) -> Tensor:
        answer: Tensor = head(network(normalised(some)).mean(dim=(2, 3)))
        return answer

    steps = epochs * math.ceil((len(seen) - judged) / _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        network.train()
        for some in torch.split(judged + torch.randperm(len(seen) - judged), _BATCH):
            optimizer.zero_grad()
            F.cross_entropy(answers(seen[some]), labels[some]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            said = torch.cat([answers(some).argmax(dim=1) for some in torch.split(seen[:judged], 100)])
        right = (said == labels[:judged]).float().mean()
        print(f"epoch {epoch + 1}/{epochs}: right about {right:.1%} of {judged} other pictures", flush=True)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int, required=True, help="of the pictures, in pixels")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    seen, labels = pictures(given.scenes, given.size, given.seed)
    network = taught(seen, labels, size=given.size, width=given.width, epochs=given.epochs)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, given.file)


if __name__ == "__main__":
    main()
