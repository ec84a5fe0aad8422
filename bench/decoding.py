"""Processor seconds to get 16 frames of a video: `python bench/decoding.py [--rounds 3] VIDEO…`

`exact` and `fast` are ours, from opening to the frames as a model sees them; `decord` is `VideoReader` and `get_batch`
of the same frames, which leaves them at full size. `in turns` is exact too, but frame by frame in looking order, as a
model asks that may leave at any time. One thread each; all take turns within each round, and the least of the rounds
is printed, with its ratio to decord's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import decord

from adafocus_cli.video.decode import Video, open_video
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.sampling import coarse_to_fine, spread

_FRAMES = 16


def exact(path: str) -> None:
    video = _opened(path)
    video.frames(spread(video.info.frames, _FRAMES))
    video.close()


def in_turns(path: str) -> None:
    video = _opened(path)
    wanted = spread(video.info.frames, _FRAMES)
    for position in coarse_to_fine(_FRAMES):
        video.frames([wanted[position]], later=wanted)
    video.close()


def fast(path: str) -> None:
    video = _opened(path)
    video.frames(video.keyframes_near(spread(video.info.frames, _FRAMES)))
    video.close()


def plain_decord(path: str) -> None:
    video = decord.VideoReader(path, num_threads=1)
    video.get_batch(spread(len(video), _FRAMES)).asnumpy()


_WAYS: dict[str, Callable[[str], None]] = {"decord": plain_decord, "exact": exact, "in turns": in_turns, "fast": fast}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for path in given.videos:
        least = dict.fromkeys(_WAYS, float("inf"))
        for _ in range(given.rounds):
            for name, way in _WAYS.items():
                least[name] = min(least[name], _processor_seconds(way, path))
        times = ", ".join(f"{name} {spent:.3f} ({spent / least['decord']:.2f})" for name, spent in least.items())
        print(f"{path}: {times}; keyframes {_seconds_off(path):.2f} s off on average", flush=True)


def _opened(path: str) -> Video:
    return open_video(path, decoder="pyav", limits=Limits(seconds=600))


def _processor_seconds(way: Callable[[str], None], path: str) -> float:
    before = time.process_time()
    way(path)
    return time.process_time() - before


def _seconds_off(path: str) -> float:
    video = _opened(path)
    wanted = spread(video.info.frames, _FRAMES)
    found = video.keyframes_near(wanted)
    video.close()
    fps = video.info.fps or float("nan")
    return sum(abs(a - b) for a, b in zip(wanted, found, strict=True)) / fps / _FRAMES


if __name__ == "__main__":
    main()
