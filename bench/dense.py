"""A network over whole clips that learns new classes from a few clips, and SFC taught on top of it: docs/sfc.md.

    python bench/dense.py --folder DIR [--output FILE.json]

Clips are made up: 6 classes × 30 to learn from and 50 to test on, of the world *moments*, cut to the disc whose hue is
the class; tested scenes are others. The network is small and knows nothing at first. Everything goes through the
command line, and what was broken off goes on. Seconds are of the model alone, of the processor, the least of the
rounds, in which the models take turns. At the end it prints the table.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from adafocus_cli import weights_file
from adafocus_cli.benchmark.bench_model import noise_clip
from adafocus_cli.benchmark.videos import encode
from adafocus_cli.models import build, default_spec
from adafocus_cli.nn.x3d import initialise
from adafocus_cli.spec import Network
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.weights_file import About
from adafocus_cli.worlds import world

LEARNT, TESTED = 30, 50  # clips of each class


def make_clips(folder: Path, count: int, *, unseen: bool) -> None:
    """Nothing, if they are there."""
    if folder.exists():
        return
    made, begun = world("moments", unseen=unseen), folder.with_name(f"{folder.name}-begun")
    for number in range(count * len(made.labels)):
        label = number % len(made.labels)
        path = begun / made.labels[label] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = made.scene(number, label=label)
        frames = scene.discs[0].frames  # type: ignore[attr-defined]
        encode(
            path,
            scene.frames(frames),
            fps=scene.fps,
            size=(scene.side, scene.side),
            options={"crf": "18", "preset": "veryfast"},
        )
    begun.rename(folder)


def make_network(path: Path, arch: str, side: int, width: float) -> Path:
    """Random weights, of as many classes as nobody asks for."""
    usual = default_spec(arch.replace("_", "-"))
    network = Network(usual.glance.arch, side, width)
    spec = replace(usual, glance=network, focus=network, frame_size=side, short_side=None, classes=2, frame_step=3)
    torch.manual_seed(0)
    model = build(spec)
    initialise(model)
    with path.open("wb") as file:
        weights_file.write(file, About(spec=spec), model.state_dict())
    return path


def adafocus(*arguments: object) -> str:
    command = [sys.executable, "-m", "adafocus_cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def accuracy(test: Path, weights: Path, *more: object) -> float:
    report = json.loads(adafocus("evaluate", test, "-w", weights, "-f", "json", "-q", "--device", "cpu", *more))
    return float(report["accuracy"]["top1"])


def seconds(models: Mapping[str, tuple[Path, int | None]], rounds: int) -> dict[str, float]:
    """Of the processor, for one clip of noise, by torch on one thread; the models, each with its views, take turns."""
    torch.set_num_threads(1)
    taggers = {
        name: ClipTagger.load(weights, views=views, device="cpu", runtime="torch")
        for name, (weights, views) in models.items()
    }
    clips = {name: noise_clip(tagger.family) for name, tagger in taggers.items()}
    least = dict.fromkeys(taggers, math.inf)
    for _ in range(rounds):
        for name, tagger in taggers.items():
            started = time.process_time()
            tagger.tag([clips[name]])
            least[name] = min(least[name], time.process_time() - started)
    return least


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    longest = max(each["seconds"] for each in found.values())
    lines = ["| way | top-1 | seconds | times faster |", "| --- | --- | --- | --- |"]
    for name, each in found.items():
        cells = f"{100 * each['top1']:.1f} | {each['seconds']:.3f} | {longest / each['seconds']:.1f}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of clips and runs")
    parser.add_argument("--arch", default="slow_r50")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.004, help="four times the usual one: the weights are random")
    parser.add_argument("--rounds", type=int, default=20, help="of measuring seconds")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    folder = given.folder
    learnt, test = (folder / name for name in ("learn", "test"))
    make_clips(learnt, LEARNT, unseen=False)
    make_clips(test, TESTED, unseen=True)
    network = make_network(folder / f"{given.arch}.safetensors", given.arch, given.side, given.width)
    shared = ["--batch-size", 12, "--workers", 0, "--threads", 1, "--device", "cpu"]
    dense, sfc = folder / f"{given.arch}-dense", folder / f"{given.arch}-sfc"
    asked = {
        dense: ["--recipe", "dense", "--init", network, "--epochs", given.epochs, "--lr", given.lr],
        sfc: ["--recipe", "sfc", "--init", dense / "model.safetensors"],
    }
    for run, options in asked.items():
        if (run / "last.pt").exists():
            adafocus("train", "--resume", run)
        else:
            adafocus("train", learnt, *options, "-o", run, *shared)
    ways = {"one view": (dense, 1), "30 views": (dense, 30), "SFC, τ = 4": (sfc, None)}
    least = seconds({name: (run / "model.safetensors", views) for name, (run, views) in ways.items()}, given.rounds)
    found = {}
    for name, (run, views) in ways.items():
        more = () if views is None else ("--views", views)
        found[name] = {"top1": accuracy(test, run, *more), "seconds": least[name]}
        print(name, found[name], file=sys.stderr, flush=True)
    print(table(found))
    if given.output:
        given.output.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
