"""What a video costs more with `--engine ray` than with the local engine, on this machine alone.

    python bench/ray_overhead.py [--clips 200] [--rounds 5] [--model NAME]

Both take turns within each round; medians are printed. Time begins with the fifth part of the results, when all workers
have started.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import torch
from made_clips import make

from adafocus_cli.cli.batch import Engine, EngineName
from adafocus_cli.requests import DEFAULT_MODEL, ModelRequest, TagRequest, cores

ENGINES: tuple[EngineName, ...] = ("local", "ray")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    choice = ModelRequest(source=arguments.model, device=arguments.device)
    seconds: dict[EngineName, list[float]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        clips = make(Path(folder), arguments.clips)
        for _ in range(arguments.rounds):
            for name in ENGINES:
                seconds[name].append(seconds_per_video(name, clips, choice))
    local, ray = (statistics.median(seconds[name]) for name in ENGINES)
    for name in ENGINES:
        spread = f"from {min(seconds[name]):.4f} to {max(seconds[name]):.4f}"
        print(f"{name:6} {statistics.median(seconds[name]):.4f} s a video, {spread}")
    print(f"Ray adds {1000 * (ray - local):.1f} ms a video, {ray / local - 1:.1%}; {cores()} cores, {len(clips)} clips")


def seconds_per_video(name: EngineName, clips: list[str], choice: ModelRequest) -> float:
    torch.set_num_threads(cores())  # the local engine leaves it at one
    engine = Engine(name=name, address=None, workers=None)
    warm = len(clips) // 5
    with closing(
        engine.tag(clips, engine.load(choice), choice, TagRequest(workers=cores()), threading.Event())
    ) as results:
        for _ in range(warm):
            next(results)
        began = time.perf_counter()
        rest = sum(result.status == "ok" for result in results)
        seconds = time.perf_counter() - began
    assert rest == len(clips) - warm, "some clips failed"
    return seconds / rest


if __name__ == "__main__":
    main()
