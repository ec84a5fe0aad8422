"""Videos a second of `adafocus batch`, and of a loop that decodes and infers one video after the other.

    python bench/throughput.py [--clips 1000] [--loop-clips 100] [--rounds 3] [--model NAME] [--json FILE]

Both take turns within each round, so that a busy moment of the machine hits them alike; medians are printed. Speed and
processor time of `batch` are those of its steady state: from the first tenth of the clips to the last but one, and the
pace is told of the second tenth and of the last. Memory is that of all its processes together, in the mean while a
twentieth of the clips were tagged: before the first tenth was done, and before the end. Only on Linux, where processes
tell what they use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from made_clips import make

from adafocus_cli.api import Tagger
from adafocus_cli.requests import DEFAULT_MODEL, cores
from adafocus_cli.video.process import VideoProcess

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    batch_per_second: float
    early_per_second: float
    late_per_second: float
    loop_per_second: float
    processor_share: float
    early_gib: float
    late_gib: float


@dataclass(frozen=True)
class Use:
    """What the processes of a session have taken, at one moment, when so many clips were done."""

    done: int
    wall: float
    processor_seconds: float
    memory_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--loop-clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tagger = Tagger.load(arguments.model, device=arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        clips = make(Path(folder, "clips"), arguments.clips)
        rounds = []
        for number in range(arguments.rounds):
            output = Path(folder, f"tags-{number}.jsonl")
            uses = batch(Path(folder, "clips"), output, arguments.model, arguments.device)
            rounds.append(measured(uses, len(clips), loop(clips[: arguments.loop_clips], tagger)))
    medians = {name: statistics.median(getattr(each, name) for each in rounds) for name in asdict(rounds[0])}
    show(medians, arguments.clips)
    if arguments.json:
        facts = {"model": tagger.model.name, "device": tagger.runtime.device, "cores": cores(), "clips": len(clips)}
        arguments.json.write_text(json.dumps({**facts, "rounds": [asdict(each) for each in rounds], **medians}) + "\n")


def batch(folder: Path, output: Path, model: str, device: str) -> list[Use]:
    command = [sys.executable, "-m", "adafocus_cli", "batch", folder, "-m", model, "-o", output, "--device", device]
    process = subprocess.Popen([*map(str, command), "--quiet"], start_new_session=True)
    uses, done = [], 0
    while not output.exists() and process.poll() is None:
        time.sleep(0.1)
    if not output.exists():
        sys.exit(f"batch ended with status {process.wait()}")
    with output.open("rb") as lines:  # read on, for the whole of a long file would take a core from the batch
        while process.poll() is None:
            time.sleep(0.1)
            done += lines.read().count(b"\n")
            uses.append(use_of(process.pid, done))
    if process.returncode:
        sys.exit(f"batch ended with status {process.returncode}")
    return uses


def use_of(session: int, done: int) -> Use:
    ticks = pages = 0
    for entry in Path("/proc").iterdir():
        try:
            # After the name, which may have spaces: state, parent, group, session, …
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
        except OSError:
            continue  # it has ended
        if fields and int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return Use(done, time.perf_counter(), ticks / _TICKS, pages * _PAGE)


def loop(clips: Sequence[str], tagger: Tagger) -> float:
    """Videos a second, through the Python API, one after the other."""
    with VideoProcess() as process:
        tag_one(clips[0], process, tagger)
        began = time.perf_counter()
        for clip in clips:
            tag_one(clip, process, tagger)
    return len(clips) / (time.perf_counter() - began)


def tag_one(clip: str, process: VideoProcess, tagger: Tagger) -> None:
    video = process.open(clip)
    plan = tagger.family.plan(video.info.frames)
    tagger.tag_frames(process.frames(video, plan.frames, framing=tagger.spec.framing).pixels)


def measured(uses: Sequence[Use], count: int, loop_per_second: float) -> Measured:
    def memory(until: float) -> float:
        sizes = [use.memory_bytes for use in uses if (until - 0.05) * count <= use.done <= until * count]
        if not sizes:
            sys.exit("too few clips to see how memory grows; give more with --clips")
        return statistics.fmean(sizes) / (1 << 30)

    def ends(since: float, until: float) -> tuple[Use, Use]:
        part = [use for use in uses if since * count <= use.done < until * count]
        if len(part) < 2:
            sys.exit("too few clips to see how fast they go; give more with --clips")
        return part[0], part[-1]

    def pace(first: Use, last: Use) -> float:
        return (last.done - first.done) / (last.wall - first.wall)

    first, last = ends(0.1, 1.0)
    return Measured(
        batch_per_second=pace(first, last),
        early_per_second=pace(*ends(0.1, 0.2)),
        late_per_second=pace(*ends(0.9, 1.0)),
        loop_per_second=loop_per_second,
        processor_share=(last.processor_seconds - first.processor_seconds) / ((last.wall - first.wall) * cores()),
        early_gib=memory(0.1),
        late_gib=memory(1.0),
    )


def show(medians: dict[str, float], count: int) -> None:
    per_second, loop_per_second = medians["batch_per_second"], medians["loop_per_second"]
    print(f"batch            {per_second:8.2f} videos/s")
    print(f"                 {medians['early_per_second']:8.2f} in the second tenth of the clips")
    print(f"                 {medians['late_per_second']:8.2f} in the last")
    print(
        f"loop             {loop_per_second:8.2f} videos/s, batch is {per_second / loop_per_second:.2f} times as fast"
    )
    print(f"processors       {medians['processor_share']:8.0%} of {cores()} busy")
    print(f"memory           {medians['early_gib']:8.2f} GiB after {count // 10} clips")
    print(f"                 {medians['late_gib']:8.2f} GiB after {count} clips")
    print(f"a million videos {1e6 / per_second / 3600:8.1f} hours")


if __name__ == "__main__":
    main()
