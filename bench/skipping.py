"""Whether frames that tell nothing can be skipped: `python bench/skipping.py --runs FOLDER`.

On the world *glyphs-turning* the sign can be read in 4 of 16 frames. V1 is taught as in looking_pays.py to find and
read signs, then to answer from 16 frames, then to skip (`--recipe skip --looks 5`). Asked about scenes that no training
showed: with all looks, before it learned to skip and after; with those that it keeps; with as many at random, and every
so many; and, for three budgets, with the exits that `adafocus calibrate` finds for the model that looks at all, by the
half of the videos that they were not fitted to.

Finished runs are not repeated, and interrupted ones are resumed. The table is of what is finished.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from looking_pays import Job, mean, run
from looking_pays import Plan as Looking
from torch import Tensor

from adafocus_cli.evaluation.frames import WORLD, QueuedSample, RenderedScene, scenes, tag_sources
from adafocus_cli.evaluation.policy_override import PolicyOverride
from adafocus_cli.models.base import Gaze, Memory, Turn
from adafocus_cli.models.shared import StepWise
from adafocus_cli.requests import ModelRequest, TagRequest
from adafocus_cli.runtime import Runtime
from adafocus_cli.schema import VideoResult
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.worlds import world
from adafocus_cli.worlds.glyphs import SIGN, GlyphScene

TURNING, FRAMES, LOOKS, BUDGETS = "glyphs-turning", 16, 5, (3, 5, 8)
SEEDS = (1, 2, 3)
SHORTER = "--clips-per-epoch 1024 --batch-size 16 --val-clips 100 --threads 1 --workers 1"
ANSWERS = f"--recipe v1 --frames {FRAMES} --epochs 0,0,0,4 --lr 0.001 --optimizer adamw --dropout 0 {SHORTER}"
SKIP = f"--recipe skip --looks {LOOKS} --epochs 8,3 --lr 0.0002 --optimizer adamw --dropout 0 {SHORTER}"

Keep = Callable[[Gaze], Tensor]


@dataclass(frozen=True)
class Plan:
    """Which commands there are, and where each leaves what it makes."""

    runs: Path

    def jobs(self, seed: int) -> Iterator[Job]:
        yield from Looking(self.runs).training("v1", seed)
        yield self._training(f"turning-{seed}", TURNING, f"--init {self.model('v1', seed)} {ANSWERS}", seed)
        yield self._training(f"skip-{seed}", TURNING, f"--init {self.model('turning', seed)} {SKIP}", seed)

    def model(self, name: str, seed: int) -> Path:
        return self.runs / f"{name}-{seed}" / "model.safetensors"

    def _training(self, name: str, of_world: str, options: str, seed: int) -> Job:
        folder = self.runs / name
        command = f"adafocus train {WORLD}{of_world} {options} --seed {seed} -o {folder}"
        return Job(tuple(shlex.split(command)), folder / "model.safetensors")


class Skipping(PolicyOverride):
    """Keeps other looks than the model does."""

    def __init__(self, runtime: Runtime, keep: Keep) -> None:
        super().__init__(runtime)
        self._keep = keep

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        gaze = super().locate(turn, glance_maps, memory)
        return replace(gaze, kept=self._keep(gaze))


class Listening(PolicyOverride):
    """Remembers what the head of a model thinks every look is worth."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.gains: list[Tensor] = []

    def locate(self, turn: Turn, glance_maps: Tensor, memory: Memory) -> Gaze:
        model = self.model
        assert isinstance(model, StepWise)
        assert model.skip_policy is not None, "the model that skips"
        with torch.inference_mode():
            self.gains.append(model.skip_policy(glance_maps, None)[0].flatten())
        return super().locate(turn, glance_maps, memory)


def at_random(looks: float, seed: int) -> Keep:
    """So many in the mean."""
    chance = torch.Generator().manual_seed(seed)

    def keep(gaze: Gaze) -> Tensor:
        clips, frames = gaze.frames.shape
        count = int(looks) + (torch.rand((), generator=chance) < looks % 1).int().item()
        return torch.rand(clips, frames, generator=chance).argsort(dim=1) < count

    return keep


def all_of_them(gaze: Gaze) -> Tensor:
    return torch.ones(gaze.frames.shape, dtype=torch.bool)


def every(looks: float) -> Keep:
    def keep(gaze: Gaze) -> Tensor:
        kept = torch.zeros(gaze.frames.shape, dtype=torch.bool)
        kept[:, [int((place + 0.5) * FRAMES / round(looks)) for place in range(round(looks))]] = True
        return kept

    return keep


def tagged(tagger: ClipTagger, count: int, *, keep: Keep | None = None) -> list[VideoResult]:
    if keep is not None:
        tagger = tagger.over(Skipping(tagger.runtime, keep))
    names = [sample.path for sample in scenes(WORLD + TURNING, count, 0).samples]
    sources = [QueuedSample(number, name, partial(RenderedScene.open, name)) for number, name in enumerate(names)]
    results = dict(tag_sources(sources, tagger, TagRequest(workers=1)))
    found = [results[number] for number in range(count)]
    assert all(isinstance(result, VideoResult) for result in found), "scenes cannot fail"
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class Figures:
    """Of many videos: shares of 1, and means."""

    top1: float
    looks: float
    focus_gmacs: float
    gmacs: float
    on_sign: float

    @classmethod
    def of(cls, results: list[VideoResult]) -> Figures:
        right, looks, on_sign = 0, 0, 0
        for result in results:
            scene = scene_of(result)
            right += result.labels[0].label == world(TURNING, unseen=True).labels[scene.label]
            looks += len(result.trajectory)
            on_sign += sum(holds(scene, look.frame, look.box) for look in result.trajectory)
        return cls(
            right / len(results),
            looks / len(results),
            statistics.fmean(result.cost.stages["focus"] for result in results),
            statistics.fmean(result.cost.gmacs for result in results),
            on_sign / looks,
        )


def scene_of(result: VideoResult) -> GlyphScene:
    scene = RenderedScene.open(result.video.path).scene
    assert isinstance(scene, GlyphScene)
    return scene


def holds(scene: GlyphScene, frame: int, box: tuple[float, float, float, float]) -> bool:
    """Whether the middle of the sign is in the box, and its front is seen."""
    x, y = (scene.path[frame] + SIGN / 2).tolist()
    return frame in scene.front and box[0] <= x <= box[2] and box[1] <= y <= box[3]


def figures(plan: Plan, seed: int, count: int) -> dict[str, Any]:
    """Of one seed, by what is kept."""
    whole, skips = (
        ClipTagger.of(ModelRequest(source=plan.model(name, seed), runtime="torch")) for name in ("turning", "skip")
    )
    ways = {"all": Figures.of(tagged(whole, count)), "learned": Figures.of(tagged(skips, count))}
    ways["all again"] = Figures.of(tagged(skips, count, keep=all_of_them))
    kept = ways["learned"].looks
    ways["random"] = Figures.of(tagged(skips, count, keep=at_random(kept, seed)))
    ways["every"] = Figures.of(tagged(skips, count, keep=every(kept)))
    return {
        "ways": {name: vars(way) for name, way in ways.items()},
        "budgets": list(budgets(plan, seed, skips, count)),
    }


def budgets(plan: Plan, seed: int, skips: ClipTagger, count: int) -> Iterator[dict[str, float]]:
    """The head with its threshold moved, and exits that may cost as much, these on the half that they were not fitted
    to."""
    listening = Listening(skips.runtime)
    tagged(skips.over(listening), count)
    gains = torch.cat(listening.gains)
    family = skips.family
    assert isinstance(family, StepWise), "the model that skips"
    ours = []
    for looks in BUDGETS:
        family.skip_below = gains.quantile(1 - looks / FRAMES).item()
        ours.append(Figures.of(tagged(skips, count)))
    family.skip_below = StepWise.skip_below
    for of_head, of_exits in zip(ours, exits(plan, seed, [each.gmacs for each in ours], count), strict=True):
        yield {"looks": of_head.looks, "gmacs": of_head.gmacs, "head": of_head.top1, **of_exits}


def exits(plan: Plan, seed: int, gmacs: list[float], count: int) -> Iterator[dict[str, float]]:
    """Of the model that looks at all frames, for each budget."""
    allowed = ",".join(f"{each:.9f}" for each in gmacs)
    command = f"calibrate {WORLD}{TURNING} --limit {count} --budgets {allowed} -w {plan.model('turning', seed)} -f json"
    done = subprocess.run(
        [sys.executable, "-m", "adafocus_cli", *shlex.split(command)], stdout=subprocess.PIPE, check=True
    )
    for budget in json.loads(done.stdout)["budgets"]:
        yield {"exits": budget["checked"]["top1"], "exits_gmacs": budget["checked"]["gmacs"]}


LINES = {
    "all": "all frames, before it learned to skip",
    "all again": "all frames, after",
    "learned": "those that it keeps",
    "random": "as many at random",
    "every": "as many, evenly spread",
}


def table(reports: list[dict[str, Any]]) -> str:
    lines = [
        "| looks | top-1, % | looks a video | GMACs of looks | on the readable sign, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, words in LINES.items():
        ways = [report["ways"][name] for report in reports]
        cells = [
            mean([100 * way["top1"] for way in ways]),
            f"{statistics.fmean(way['looks'] for way in ways):.1f}",
            f"{statistics.fmean(way['focus_gmacs'] for way in ways):.4f}",
            mean([100 * way["on_sign"] for way in ways]),
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += [
        "",
        "| skipping, GMACs a video | top-1, % | exits, GMACs a video | top-1, % |",
        "| --- | --- | --- | --- |",
    ]
    for place in range(len(BUDGETS)):
        rows = [report["budgets"][place] for report in reports]
        head, left = (mean([100 * row[name] for row in rows]) for name in ("head", "exits"))
        cost, left_at = (statistics.fmean(row[name] for row in rows) for name in ("gmacs", "exits_gmacs"))
        lines.append(f"| {cost:.4f} | {head} | {left_at:.4f} | {left} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="where the models and their figures are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--scenes", type=int, default=400)
    given = parser.parse_args()
    plan, reports = Plan(given.runs), []
    for seed in given.seeds:
        for job in plan.jobs(seed):
            command = job.due()
            if command is not None:
                print(shlex.join(command), file=sys.stderr, flush=True)
                run(command)
        file = given.runs / f"skipping-{seed}.json"
        if not file.exists():
            file.write_text(json.dumps(figures(plan, seed, given.scenes)), "utf-8")
        reports.append(json.loads(file.read_text("utf-8")))
    print(table(reports))


if __name__ == "__main__":
    main()
