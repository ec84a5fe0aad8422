"""What SFC costs and what it is worth, next to dense testing and to plain ways of seeing less: docs/sfc.md.

    python bench/sfc.py accuracy --seeds 1 2 3 --output right.json    a small network, on the world *moments*
    python bench/sfc.py size --output size.json                       slow-r50 as published, weights that mean nothing
    python bench/sfc.py size --network x3d-m --only clip "one view" res3      another, and only ways named like this
    python bench/sfc.py table right.json size.json                    both, as the table of that page

Knows nothing of how a network is divided or compressed: the stages are those that tag.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from adafocus_cli.flops import cost_of
from adafocus_cli.models import build, default_spec, with_views
from adafocus_cli.models.base import Family
from adafocus_cli.models.sfc import LONG, around
from adafocus_cli.nn.compression import highest
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.video.pictures import resized
from adafocus_cli.worlds import world

PLACES = ("res2", "res3")
TIMES = (4 / 3, 2.0, 4.0)
SIDE, WIDTH = 32, 0.125
CLOSE, LEARNT, JUDGED = 1536, 160, 150  # clips: trimmed ones, long ones for training, and for validation
EPOCHS, COMPRESSION_EPOCHS, BATCH = 3, 8, 16


@dataclass(frozen=True)
class Way:
    """One way to see a video; `learns`: its compression has something to learn; `topk`: it takes no attention."""

    name: str
    spec: ModelSpec
    learns: bool = False
    topk: bool = False

    @property
    def gmacs(self) -> float:
        cost = cost_of(self.spec)
        return cost.gmacs - (cost.stages["policy"] if self.topk else 0.0)


def ways(dense: ModelSpec) -> Iterator[Way]:
    yield Way("10 clips × 3 crops", with_views(dense, 30))
    yield Way("10 clips", with_views(dense, 10))
    yield Way("one clip", dense)
    for times in (1.0, *TIMES):
        frames = round(LONG / times)
        yield Way(f"one view of {frames} frames", around(dense, insertion="res3", compression=1.0, frames=frames))
    for place in PLACES:
        for times in TIMES:
            spec = around(dense, insertion=place, compression=times)
            yield Way(f"TopK after {place}, to {round(LONG / times)}", spec, topk=True)
            yield Way(f"SFC after {place}, to {round(LONG / times)}", spec, learns=True)


def seen(model: Family, pixels: Tensor) -> Tensor:
    return model.glance(model.normalised(pixels))


def answered(way: Way, model: Family, maps: Tensor) -> Tensor:
    (turn,) = model.turns()
    if not turn.looks:
        return model.classify(turn, maps, None, {})[:, 0]
    features = highest(maps, len(turn.looks)) if way.topk else model.locate(turn, maps, {}).features
    assert features is not None, "what sees whole frames sees features"
    return model.classify(turn, maps, model.focus(features), {})[:, 0]


# Accuracy.


def clips(name: str, spec: ModelSpec, count: int, first: int, *, unseen: bool) -> tuple[np.ndarray, Tensor]:
    """The frames that a model of this spec sees of so many scenes, and their labels."""
    plan, made = build(spec).plan, world(name, unseen=unseen)
    pixels, labels = [], []
    for number in range(first, first + count):
        scene = made.scene(number, label=number % len(made.labels))
        numbers = plan(scene.count).frames
        distinct = sorted(set(numbers))
        frames = resized(scene.frames(distinct), spec.frame_size)
        pixels.append(frames[np.searchsorted(distinct, numbers)])
        labels.append(scene.label)
    return np.tile(np.stack(pixels), (1, 1, 1, spec.framing.crops, 1)), torch.tensor(labels)


def learn(parameters: Any, step: Callable[[Tensor], Tensor], count: int, epochs: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (count // BATCH))
    for _ in range(epochs):
        for some in torch.randperm(count)[: count // BATCH * BATCH].view(-1, BATCH):
            optimizer.zero_grad()
            step(some).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def backbone(spec: ModelSpec, seed: int) -> Family:
    """Taught with trimmed clips."""
    torch.manual_seed(seed)
    model = build(spec)
    pixels, labels = clips("moments-close", spec, CLOSE, seed * 100_000, unseen=False)
    (turn,) = model.turns()
    model.train()

    def step(some: Tensor) -> Tensor:
        maps = seen(model, torch.from_numpy(pixels[some.numpy()]))
        return F.cross_entropy(model.classify(turn, maps, None, {})[:, 0], labels[some])

    learn(model.parameters(), step, CLOSE, EPOCHS, 0.003)
    return model.eval()


def accuracy(seed: int) -> dict[str, float]:
    network = Network("slow_r50", SIDE, WIDTH)
    usual = default_spec("slow-r50")
    dense = replace(usual, glance=network, focus=network, frame_size=SIDE, short_side=None, classes=6)
    taught = backbone(dense, seed)
    pixels, labels = clips("moments-close", dense, JUDGED, seed * 100_000, unseen=True)
    right = {"trimmed clips": float(np.mean(judged(Way("", dense), taught, pixels) == labels.numpy()))}
    print(f"seed {seed}  trimmed clips {right['trimmed clips']:.3f}", flush=True)
    for way in ways(dense):
        if way.spec.views == 30:
            continue  # frames are square, so that all three crops of a clip are the same
        model = build(way.spec)
        torch.manual_seed(seed)
        model.load_state_dict(taught.state_dict(), strict=False)
        if way.learns:
            compress(way, model, seed)
        pixels, labels = clips("moments", way.spec, JUDGED, seed * 100_000, unseen=True)
        right[way.name] = float(np.mean(judged(way, model, pixels) == labels.numpy()))
        print(f"seed {seed}  {way.name:30} {right[way.name]:.3f}", flush=True)
    return right


def compress(way: Way, model: Family, seed: int) -> None:
    """By the loss of the recipe `sfc`, from features of the head that are calculated once: it does not change."""
    pixels, labels = clips("moments", way.spec, LEARNT, seed * 100_000, unseen=False)
    with torch.no_grad():
        maps = torch.cat([seen(model, torch.from_numpy(some)) for some in np.split(pixels, LEARNT // BATCH)])
    model.requires_grad_(False)
    module = model.get_submodule("compress").requires_grad_(True)
    learn(
        module.parameters(),
        lambda some: F.cross_entropy(answered(way, model, maps[some]), labels[some]),
        LEARNT,
        COMPRESSION_EPOCHS,
        0.002,
    )


@torch.inference_mode()
def judged(way: Way, model: Family, pixels: np.ndarray) -> np.ndarray:
    answers = [answered(way, model, seen(model, torch.from_numpy(some[None]))) for some in pixels]
    return torch.cat(answers).argmax(-1).numpy()


def summary(seeds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Percent, the mean over seeds, and their standard deviation."""
    found = {name: [100 * right[name] for right in seeds] for name in seeds[0]}
    return {
        name: {"top1": mean(each), "spread": stdev(each) if len(each) > 1 else 0.0, "seeds": each}
        for name, each in found.items()
    }


# Size.


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that the results of operations took at any time: activations, no weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: Any = WeakTensorKeyDictionary()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._alive[leaf] = (storage.data_ptr(), storage.nbytes())
        self.bytes = max(self.bytes, sum(dict(self._alive.values()).values()))
        return result


@torch.inference_mode()
def size(way: Way, side: int) -> dict[str, float]:
    """Of one video: megabytes, and seconds of the processor once it is warm, with frames of that side, which are there
    before the clock runs; and multiply-adds with frames of the usual one."""
    torch.manual_seed(0)
    model = build(replace(way.spec, frame_size=side))
    (turn,) = model.turns()
    pixels = torch.randint(0, 255, (1, len(turn.glance), *model.spec.framing.shape), dtype=torch.uint8)
    with Peak() as peak:
        answered(way, model, seen(model, pixels))
    started = time.process_time()
    answered(way, model, seen(model, pixels))
    return {"seconds": time.process_time() - started, "megabytes": peak.bytes / 1e6, "gmacs": way.gmacs}


def sizes(network: str, side: int | None, rounds: int, only: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of every way that is asked for, in turns; the least seconds of all rounds."""
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for way in ways(default_spec(network)):
            if only and not any(text in way.name for text in only):
                continue
            now = size(way, side or way.spec.frame_size)
            found[way.name] = min(found.get(way.name, now), now, key=lambda measured: measured["seconds"])
            print(way.name, now, flush=True)
    return found


# The table.


def table(right: dict[str, Any], sizes: dict[str, Any]) -> str:
    lines = ["| way | GMACs | seconds | memory, MB | top-1 on *moments* |", "| --- | --- | --- | --- | --- |"]
    for name, size in sizes.items():
        found = right.get(
            "10 clips" if name.startswith("10 clips") else name
        )  # its frames are square: all crops are one
        cells = f"{size['gmacs']:.1f} | {size['seconds']:.1f} | {size['megabytes']:.0f}"
        lines.append(
            f"| {name} | {cells} | {found['top1']:.1f} ± {found['spread']:.1f} |" if found else f"| {name} | {cells} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "size", "table"))
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--side", type=int, help="of the frames whose seconds and memory are measured; default: the usual"
    )
    parser.add_argument("--network", default="slow-r50", help="whose size is measured")
    parser.add_argument("--only", nargs="+", default=(), help="ways with these words in their names")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring seconds")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "table":
        print(table(*(json.loads(file.read_text("utf-8")) for file in given.files)))
        return
    rows: dict[str, Any]
    if given.what == "accuracy":
        rows = summary([accuracy(seed) for seed in given.seeds])
    else:
        rows = sizes(given.network, given.side, given.rounds, given.only)
    print(json.dumps(rows, indent=2, ensure_ascii=False))
    if given.output:
        given.output.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
