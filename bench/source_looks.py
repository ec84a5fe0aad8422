"""What looks into the source cost beside decoding: `python bench/source_looks.py answer` and `... first`.

`answer`: 10 s of 1080p, with keyframes every 48 and every 250 frames. From opening the file to the answer, in a process
and with a child that are warm, against opening it and decoding the frames that are glanced at, by one thread and by as
many as the answer's frames are. Interleaved; medians.

`first`: the whole process of `adafocus classify` on a short clip, against `python -c "import torch"`. Interleaved; wall
and CPU seconds (of children, too), medians.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adafocus_cli import Tagger
from adafocus_cli.benchmark.videos import encode
from adafocus_cli.engine.decoding import MOST_THREADS
from adafocus_cli.engine.local import tag_files
from adafocus_cli.requests import TagRequest, cores
from adafocus_cli.schema import VideoResult
from adafocus_cli.video.process import VideoProcess

KEYFRAMES = (48, 250)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["answer", "first"])
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--model", default="objects")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "answer":
            answer(Path(folder), given.model, given.times)
        else:
            first(Path(folder), given.model, given.times)


def answer(folder: Path, model: str, times: int) -> None:
    tagger = Tagger.load(model, device="cpu")
    for every in KEYFRAMES:
        path = str(made(folder / f"{every}.mp4", keyframes=every))
        answered = Answered(tagger, path)
        tagging: list[float] = []
        decoding: dict[int, list[float]] = {threads: [] for threads in sorted({1, min(MOST_THREADS, cores())})}
        with VideoProcess() as process:
            for run in range(times + 1):  # the first is to warm up
                once = {threads: seconds_of(partial(decoded, process, path, tagger, threads)) for threads in decoding}
                answer_took = answered.next()
                if run:
                    tagging.append(answer_took)
                    for threads, seconds in once.items():
                        decoding[threads].append(seconds)
        answered.close()
        print(
            f"keyframes every {every}: open to answer {1000 * median(tagging):.0f} ms, of these "
            + ", ".join(f"{name} {1000 * median(values):.0f} ms" for name, values in answered.parts.items())
        )
        for threads, took in decoding.items():
            ratios = [tag / decode for tag, decode in zip(tagging, took, strict=True)]
            print(
                f"  decoding by {threads}: {1000 * median(took):.0f} ms, "
                f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


def decoded(process: VideoProcess, path: str, tagger: Tagger, threads: int) -> None:
    """The frames that are glanced at."""
    video = process.open(path, threads=threads)
    process.frames(video, tagger.family.plan(video.info.frames).frames, framing=tagger.spec.framing)


class Answered:
    """Answers for the same path, one after the other: the next is opened when it is asked for."""

    def __init__(self, tagger: Tagger, path: str) -> None:
        self._asked = threading.Semaphore(0)
        self._closed = False
        self.parts: dict[str, list[float]] = {}
        self._results = tag_files(self._paths(path), lambda: tagger, TagRequest(workers=1))

    def next(self) -> float:
        self._asked.release()
        return seconds_of(self._take)

    def _take(self) -> None:
        result = next(self._results)
        assert isinstance(result, VideoResult), result
        for name, seconds in result.runtime.seconds.items():
            self.parts.setdefault(name, []).append(seconds)

    def close(self) -> None:
        self._closed = True
        self._asked.release()
        assert isinstance(self._results, Generator), "which closes its decoder"
        self._results.close()

    def _paths(self, path: str) -> Iterator[str]:
        while True:
            self._asked.acquire()
            if self._closed:
                return
            yield path


def first(folder: Path, model: str, times: int) -> None:
    clip = str(made(folder / "short.mp4", keyframes=48, frames=50, size=(640, 360)))
    programs = {
        "import torch": [sys.executable, "-c", "import torch"],
        "first label": [sys.executable, "-m", "adafocus_cli", "classify", clip, "-m", model, "-q"],
    }
    wall: dict[str, list[float]] = {name: [] for name in programs}
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    for run in range(times + 1):
        for name, program in programs.items():
            before = cpu_seconds()
            seconds = seconds_of(partial(subprocess.run, program, check=True, capture_output=True))
            if run:
                wall[name].append(seconds)
                cpu[name].append(cpu_seconds() - before)
    for what, found in (("wall", wall), ("CPU", cpu)):
        torch, label = median(found["import torch"]), median(found["first label"])
        allowed = 1.3 * torch + 1.0
        print(f"{what}: import torch {torch:.2f} s, first label {label:.2f} s, of {allowed:.2f} s allowed")


def seconds_of(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def made(path: Path, *, keyframes: int, frames: int = 250, size: tuple[int, int] = (1920, 1080)) -> Path:
    """Noise that moves over a slope of colours, as hard to decode as a film."""
    width, height = size
    chance = np.random.default_rng(0)
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    coarse = chance.normal(0, 20, (height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)
    picture = (slope + coarse[:height, :width]).clip(0, 255).astype(np.uint8)
    moved = (np.roll(picture, (number, 3 * number), axis=(0, 1)) for number in range(frames))
    options = {"preset": "veryfast", "g": str(keyframes), "keyint_min": str(keyframes), "sc_threshold": "0"}
    encode(path, moved, fps=25, size=size, options=options)
    return path


if __name__ == "__main__":
    main()
