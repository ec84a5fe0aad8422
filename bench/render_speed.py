"""How fast `adafocus render` is: `python bench/render_speed.py --seconds 10 --kind mp4`.

Makes a video of 1280×720 with sound, draws a synthetic record into it, and prints how many seconds of video it draws in
a second, of wall time and of CPU time: on a machine with other work, only the latter is meaningful. Decoding, drawing,
encoding and the start of the child process are all in it; tagging is not.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from adafocus_cli.render.process import render
from adafocus_cli.worlds import world

_WIDTH, _HEIGHT, _FPS, _RATE = 1280, 720, 30, 48_000
_LOOKS, _SIDE = 16, 410


def made_video(path: Path, seconds: int) -> None:
    scene = world("motion").scene(1)
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=_FPS, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        audio = output.add_stream("aac", rate=_RATE, layout="mono")
        for number in range(seconds * _FPS):
            picture = Image.fromarray(scene.frames([number % scene.count])[0]).resize((_WIDTH, _HEIGHT))
            output.mux(video.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        tone = np.sin(np.arange(seconds * _RATE) * (2 * np.pi * 440 / _RATE)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            frame: Any = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = _RATE, start, Fraction(1, _RATE)
            output.mux(audio.encode(frame))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))


def made_record(seconds: int) -> dict[str, Any]:
    """The box wanders about, and looks as often as the published models do."""
    looks = []
    for step in range(_LOOKS):
        left, top = (_WIDTH - _SIDE) * (step % 5) / 4, (_HEIGHT - _SIDE) * (step % 3) / 2
        moment = seconds * (step + 0.5) / _LOOKS
        box = [left, top, left + _SIDE, top + _SIDE]
        looks.append({"step": step, "frame": int(moment * _FPS), "time": moment, "box": box})
    return {
        "status": "ok",
        "video": {"width": _WIDTH, "height": _HEIGHT, "frames": seconds * _FPS, "decoder": "pyav"},
        "labels": [{"label": "object moves left", "index": 0, "score": 0.9}],
        "cost": {"gmacs": 27.0, "stages": {"glance": 4.8}, "full_frame_gmacs": 65.4},
        "trajectory": looks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--kind", choices=("mp4", "webm", "gif"), default="mp4")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "made.mp4"
        made_video(video, given.seconds)
        began = time.perf_counter()
        render(str(video), made_record(given.seconds), output=Path(folder) / f"drawn.{given.kind}")
        took = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = used.ru_utime + used.ru_stime
    print(f"{given.seconds} s of video: {took:.1f} s by the clock, {given.seconds / took:.2f} × real time")
    print(f"the processors worked {worked:.1f} s: {2 * given.seconds / worked:.2f} × real time at best on 2 cores")


if __name__ == "__main__":
    main()
