"""How far an answer moves with another runtime or precision: `python bench/agreement.py [--precision P] [--count N]`.

The same synthetic scenes, which training never showed, are tagged twice: as asked for, and by torch in fp32.
"""

from __future__ import annotations

import argparse

import numpy as np

from adafocus_cli.api import Tagger
from adafocus_cli.evaluation.frames import RenderedScene
from adafocus_cli.labels import softmax
from adafocus_cli.requests import DEFAULT_MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--world", default="motion")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--runtime", default="auto")
    arguments = parser.parse_args()
    asked = Tagger.load(
        arguments.model, device=arguments.device, precision=arguments.precision, runtime=arguments.runtime
    )
    exact = Tagger.load(arguments.model, device="cpu", precision="fp32", runtime="torch")
    same, moved = [], []
    for number in range(arguments.count):
        pixels = frames_of(asked, RenderedScene.open(f"world:{arguments.world}#{number}"))
        ours, theirs = scores(asked, pixels), scores(exact, pixels)
        same.append(ours.argmax() == theirs.argmax())
        moved.append(np.abs(ours - theirs).mean())
        if number % 50 == 49 or number + 1 == arguments.count:
            print(
                f"{number + 1} scenes, {asked.runtime.name} {asked.runtime.precision}: "
                f"same label {100 * np.mean(same):.1f} %, mean |Δscore| {np.mean(moved):.5f}",
                flush=True,
            )


def frames_of(tagger: Tagger, rendered: RenderedScene) -> np.ndarray:
    plan = tagger.family.plan(rendered.scene.count)
    return np.stack([rendered.pixels(frame, tagger.spec.framing) for frame in plan.frames])


def scores(tagger: Tagger, pixels: np.ndarray) -> np.ndarray:
    return softmax(tagger.tag_frames(pixels).logits)


if __name__ == "__main__":
    main()
