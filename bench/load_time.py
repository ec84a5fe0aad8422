"""How much faster a converted file loads than the published one: both in turn, best and median of several rounds.

    python bench/load_time.py 128s3_checkpoint.pth.tar [--patch-size 128] [--rounds 9]

`model` is from the file to a model that can run; `tagger` adds the labels, the hash, the device and the counted cost.
The files are read once before, so that both come from the page cache. Also checks that both give the same bytes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adafocus_cli import Tagger, checkpoint
from adafocus_cli.library.install import convert_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "converted.safetensors"
        convert_file(arguments.file, converted, patch_size=arguments.patch_size)
        size = arguments.patch_size
        compare(
            "model ",
            lambda file: checkpoint.load(file, patch_size=size).build(),
            arguments.file,
            converted,
            arguments.rounds,
        )
        compare(
            "tagger",
            lambda file: Tagger.load(file, patch_size=size, device="cpu").model,
            arguments.file,
            converted,
            arguments.rounds,
        )
        published, ours = (answers(Tagger.load(f, patch_size=size, device="cpu")) for f in (arguments.file, converted))
        print("logits", "the same bytes" if published == ours else "DIFFER")


def compare(title: str, load: Callable[[Path], object], published: Path, converted: Path, rounds: int) -> None:
    seconds: dict[Path, list[float]] = {published: [], converted: []}
    for file in (published, converted):
        load(file)
    for _ in range(rounds):
        for file, measured in seconds.items():
            started = time.perf_counter()
            load(file)
            measured.append(time.perf_counter() - started)
    theirs, ours = seconds[published], seconds[converted]
    print(
        f"{title}  published {statistics.median(theirs):.3f} s  converted {statistics.median(ours):.3f} s  "
        f"ratio of medians {statistics.median(theirs) / statistics.median(ours):.2f}  "
        f"of bests {min(theirs) / min(ours):.2f}"
    )


def answers(tagger: Tagger) -> bytes:
    plan = tagger.family.plan(1 << 20)
    side = tagger.spec.frame_size
    pixels = np.random.default_rng(0).integers(0, 256, (len(plan.frames), side, side, 3), np.uint8)
    return tagger.tag_frames(pixels).step_logits.tobytes()


if __name__ == "__main__":
    main()
