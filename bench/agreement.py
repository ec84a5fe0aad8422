"""How far answers move with another runtime or precision: `python bench/agreement.py [--precision P] [--count N]`.

The same scenes, which training never showed, are tagged twice: as asked for, and in fp32. They are those of a world or,
with `--photos`, composed of photographs (`bench/scenes.py`). Of those that get a label in either way, the share with
the same first one is printed; and of all, how often it is right in either way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import scenes

from adafocus_cli.api import Tagger
from adafocus_cli.evaluation.frames import RenderedScene
from adafocus_cli.labels import scores_of
from adafocus_cli.schema import VideoResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="motion")
    parser.add_argument("--world", default="motion")
    parser.add_argument("--photos", type=Path, help="a folder of labelled photographs, for `objects`")
    parser.add_argument("--half", choices=("all", "even", "odd"), default="odd", help="constants were fitted on even")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--beside", default="torch", help="the runtime in fp32")
    given = parser.parse_args()
    asked = Tagger.load(given.model, device=given.device, precision=given.precision, runtime=given.runtime)
    exact = Tagger.load(given.model, device="cpu", precision="fp32", runtime=given.beside)
    photos = scenes.photographs(given.photos, given.half) if given.photos else []
    same, moved, right = [], [], []
    for number in range(given.count):
        pixels, answers = composed(exact, photos, number) if photos else rendered(exact, given.world, number)
        ours, theirs = asked.tag_frames(pixels), exact.tag_frames(pixels)
        moved.append(np.abs(scores(ours) - scores(theirs)).mean())
        firsts = first(ours), first(theirs)
        if firsts != (None, None):
            same.append(firsts[0] == firsts[1])
        right.append([each in answers for each in firsts])
        if number % 50 == 49 or number + 1 == given.count:
            now, before = 100 * np.mean(right, axis=0)
            print(
                f"{number + 1} scenes, {asked.runtime.name} {asked.runtime.precision}: same label "
                f"{100 * np.mean(same):.1f} % of {len(same)}, mean |Δscore| {np.mean(moved):.5f}, "
                f"right {now:.1f} % (fp32 {before:.1f})",
                flush=True,
            )


def rendered(tagger: Tagger, world: str, number: int) -> tuple[np.ndarray, set[int]]:
    """The frames that the model asks for, and the right answers."""
    scene = RenderedScene.open(f"world:{world}#{number}")
    plan = tagger.family.plan(scene.scene.count)
    return np.stack([scene.pixels(frame, tagger.spec.framing) for frame in plan.frames]), {scene.scene.label}


def composed(tagger: Tagger, photos: list[Path], number: int) -> tuple[np.ndarray, set[int]]:
    """The same of a scene with one object; to name a sharp background is right, too."""
    scene = scenes.scene(photos, "one", number)
    answers = {each.index for each in scene.objects}
    if scene.background_index is not None:
        answers.add(scene.background_index)
    return np.stack([scene.frame(frame) for frame in tagger.family.plan(scene.frames).frames]), answers


def scores(result: VideoResult) -> np.ndarray:
    found: np.ndarray = scores_of(result.logits[None], result.model.family)[0]
    return found


def first(result: VideoResult) -> int | None:
    return result.labels[0].index if result.labels else None


if __name__ == "__main__":
    main()
