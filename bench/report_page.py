"""How long the page of `adafocus report` takes to make and to open, and how large it is, for many synthetic records.

    python bench/report_page.py [--videos 1000] [--rounds 5]

The videos are scenes of the world *motion*, 640×360, under many names; the answers and the looks are made up. Opening
is from the call to the load event, and to the first picture that is on the screen, in a headless Chromium; `processor`
is what the page's thread has computed by then, which other programs on the machine change less.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from made_clips import SCENES, make
from playwright.sync_api import Page, sync_playwright

from adafocus_cli.report.build import build

LABELS = [f"label number {number}" for number in range(40)]
SIZE, FRAMES, STEPS = (640, 360), 60, 16
_FIRST_PICTURE = "[...document.querySelectorAll('.card img')].some((image) => image.complete && image.naturalWidth)"


def records(files: list[str]) -> Iterator[dict[str, Any]]:
    dice = random.Random(0)
    for number, path in enumerate(files):
        if number % 20 == 19:
            error = {"stage": "open", "type": "VideoError", "message": f"{path}: the file is empty; copy it again"}
            yield {"schema": "adafocus/1", "status": "error", "video": {"path": path}, "error": error}
            continue
        steps = dice.randint(1, STEPS)
        logits = [[dice.gauss(0, 2) for _ in LABELS] for _ in range(steps)]
        total = sum(math.exp(value) for value in logits[-1])
        best = sorted(range(len(LABELS)), key=lambda index: -logits[-1][index])[:5]
        boxes = [(dice.uniform(0, 400), dice.uniform(0, 120)) for _ in range(steps)]
        gmacs = 5 + 1.5 * steps
        yield {
            "schema": "adafocus/1",
            "status": "ok",
            "video": {"path": path, "width": SIZE[0], "height": SIZE[1], "fps": 30, "frames": FRAMES, "duration": 2.0}
            | {"codec": "h264"},
            "model": {"name": "made-up", "patch_size": 128},
            "labels": [
                {"label": LABELS[index], "index": index, "score": math.exp(logits[-1][index]) / total} for index in best
            ],
            "cost": {"gmacs": gmacs, "stages": {"glance": 5.0, "focus": 1.5 * steps}, "full_frame_gmacs": 65.0},
            "trajectory": [
                {"step": step, "frame": 2 * step, "time": step / 15, "box": [x, y, x + 240, y + 240]}
                for step, (x, y) in enumerate(boxes)
            ],
            "exit": {"step": steps - 1, "of": STEPS},
            "step_logits": logits,
            "frames_decoded": steps,
            "runtime": {"seconds": {}},
        }


def opened(page: Page, address: str) -> tuple[float, float, float]:
    """Seconds until the load event, until the first picture, and of the processor."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    started = time.perf_counter()
    page.goto(address)
    loaded = time.perf_counter() - started
    while not page.evaluate(_FIRST_PICTURE):
        page.wait_for_timeout(5)
    seen = time.perf_counter() - started
    measured = session.send("Performance.getMetrics")["metrics"]
    return loaded, seen, next(entry["value"] for entry in measured if entry["name"] == "ThreadTime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = make(folder, SCENES, size=SIZE)
        files = [str(folder / f"video-{number}.mp4") for number in range(given.videos)]
        for number, file in enumerate(files):
            Path(file).symlink_to(scenes[number % SCENES])
        results, output = folder / "tags.jsonl", folder / "tags.html"
        results.write_text("".join(json.dumps(record) + "\n" for record in records(files)))
        started = time.perf_counter()
        build(results, output, title="Bench", root=None, thumbnails=4, progress=lambda done, total: None)
        print(f"made in {time.perf_counter() - started:.1f} s, {output.stat().st_size / 1e6:.1f} MB")
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            times = []
            for _ in range(given.rounds):
                page = browser.new_page()
                times.append(opened(page, output.as_uri()))
                heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
                page.close()
            browser.close()
        for what, seconds in zip(("loaded", "first picture", "processor"), zip(*times, strict=True), strict=True):
            print(f"{what}: median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")
        print(f"JavaScript heap: {heap:.0f} MB")


if __name__ == "__main__":
    main()
