"""How long `adafocus find` takes in many records, in every format that `batch` writes: CPU seconds.

    python bench/find.py [--videos 100000] [--formats sqlite,jsonl] [--rounds 3]

The records are like those of `objects` on short videos: up to five of its labels, and half a dozen looks each. What is
looked for is in about one of 250 of them. `command` is the whole command, with Python and its modules; `answer` is
what is left of it after the same command on a file of one record.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from adafocus_cli.labels import packaged
from adafocus_cli.output.journal import record_file
from adafocus_cli.output.records import SourceFile, with_origin
from adafocus_cli.schema import Cost, Exit, ModelInfo, PatchBox, Record, RunInfo, Tag, VideoInfo, VideoResult

MODEL = ModelInfo(name="objects", family="evidence", dataset="imagenet", sha256="7" * 64, patch_size=192)
SETTINGS = {
    **{"model": "7" * 64, "patch_size": "192", "views": "1", "labels": "0" * 16, "precision": "fp32"},
    **{"decode": "exact", "top_k": "5", "min_score": "0.3", "logits": "False", "exits": "none", "max_gmacs": "none"},
}
TEXT = "volleyball"
DIFFERENT = 2000  # records; the others are as one of them, under another path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--formats", default="sqlite,jsonl,jsonl.gz,csv,parquet")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for ending in given.formats.split(","):
            many, one = Path(folder, f"many.{ending}"), Path(folder, f"one.{ending}")
            record_file(many).build(records(given.videos))
            record_file(one).build(records(1))
            whole, answers = [], []
            for _ in range(given.rounds):
                started = cpu_seconds(["find", "", str(one)])
                whole.append(cpu_seconds(["find", TEXT, str(many)]))
                answers.append(whole[-1] - started)
            size = many.stat().st_size / 1e6
            print(
                f"{ending}: answer {statistics.median(answers):.2f} s, command {statistics.median(whole):.2f} s, "
                f"{given.videos} records, {size:.0f} MB",
                flush=True,
            )
            many.unlink()


def records(count: int) -> Iterator[Record]:
    dice = random.Random(0)
    labels = packaged("imagenet")
    results = [result("", labels.names, labels.parents, dice).to_dict() for _ in range(min(count, DIFFERENT))]
    for number in range(count):
        path = f"/library/{number % 97:02}/clip-{number:06}.mp4"
        source = SourceFile(path, 1_000_000 + number, 1_700_000_000_000_000_000 + number, f"{number:032x}")
        record = results[number % len(results)]
        yield with_origin({**record, "video": {**record["video"], "path": path}}, source, SETTINGS)


def result(path: str, names: Sequence[str], parents: Sequence[str | None], dice: random.Random) -> VideoResult:
    looks = tuple(
        PatchBox(step, 25 * step, float(step), (64.0 * step, 40.25, 64.0 * step + 192.0, 232.25)) for step in range(6)
    )
    scores = sorted((dice.random() for _ in range(dice.randint(1, 5))), reverse=True)
    tags = [
        Tag(names[index], index, score, parents[index], (dice.randrange(6),))
        for score, index in zip(scores, dice.sample(range(len(names)), len(scores)), strict=True)
    ]
    return VideoResult(
        video=VideoInfo(
            path=path,
            width=1280,
            height=720,
            fps=25.0,
            frames=150,
            duration=6.0,
            codec="h264",
            rotation=0,
            decoder="pyav",
        ),
        model=MODEL,
        labels=tuple(tags),
        cost=Cost({"glance": 4.0105, "policy": 0.0, "focus": 2.5357, "classify": 0.0077}, 15.496),
        trajectory=looks,
        exit=Exit(5, 6),
        frames_decoded=6,
        runtime=RunInfo(device="cpu", precision="fp32", runtime="torch", seconds={"decode": 0.1741, "infer": 0.8986}),
        logits=None,  # type: ignore[arg-type]
        step_logits=None,  # type: ignore[arg-type]
    )


def cpu_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "adafocus_cli", *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
