"""What one thread is worth to a model on a busy machine: `classify` on one and on all cores, beside other programs.

    python bench/threads.py examples/motion/object-moves-left.mp4 --model motion [--busy 2] [--rounds 4]

Both take turns within each round, without and with so many processes that only compute; ratios are of the seconds in
the networks, and of the processor time of all that this process does. `SHARED_FROM` (runtime/pytorch.py) is chosen so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from adafocus_cli.__main__ import sleep_soon

sleep_soon()  # as in the command `adafocus`; before torch is loaded

import torch  # noqa: E402

from adafocus_cli.engine.local import tag_files  # noqa: E402
from adafocus_cli.requests import DEFAULT_MODEL, ModelRequest, TagRequest  # noqa: E402
from adafocus_cli.runtime import pytorch  # noqa: E402
from adafocus_cli.schema import Failure  # noqa: E402
from adafocus_cli.tagger import ClipTagger  # noqa: E402

ALWAYS_ONE, NEVER_ONE = sys.maxsize, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    tagger = ClipTagger.of(ModelRequest(source=given.model, device="cpu", runtime=given.runtime))
    dearest = tagger.loop(tagger.exit_rule(TagRequest())).dearest_turn
    chosen = "one thread" if dearest < pytorch.SHARED_FROM else f"{torch.get_num_threads()} threads"
    print(f"{given.model} on {tagger.runtime.name}: {dearest / 1e9:.2f} GMACs a turn, so {chosen} without being asked")
    tag(given.video, tagger, ALWAYS_ONE)
    for busy in (0, given.busy):
        with beside(busy):
            rounds = [in_turn(given.video, tagger, number) for number in range(given.rounds)]
        ratios = sorted(all_[0] / one[0] for one, all_ in rounds)
        work = sum(all_[1] for _, all_ in rounds) / sum(one[1] for one, _ in rounds)
        print(
            f"beside {busy}: all cores take {statistics.median(ratios):.2f} times as long as one thread "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), and {work:.2f} times the processor time"
        )


@contextmanager
def beside(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def in_turn(video: str, tagger: ClipTagger, number: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """On one thread and on all, which one first by the number of the round."""
    order = (ALWAYS_ONE, NEVER_ONE) if number % 2 else (NEVER_ONE, ALWAYS_ONE)
    taken = {limit: tag(video, tagger, limit) for limit in order}
    return taken[ALWAYS_ONE], taken[NEVER_ONE]


def tag(video: str, tagger: ClipTagger, limit: int) -> tuple[float, float]:
    """Seconds in the networks, and of processor time."""
    pytorch.SHARED_FROM = limit
    started = time.process_time()
    (result,) = tag_files([video], lambda: tagger)
    assert not isinstance(result, Failure), result.message
    return result.runtime.seconds["infer"], time.process_time() - started


if __name__ == "__main__":
    main()
