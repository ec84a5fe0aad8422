"""How right a model of the world *motion* is where the pictures are real: `python bench/on_real_footage.py FOLDER`.

Scenes are cut from a few frames of every video in FOLDER. What moves is real, but how it moves is made up, so that the
answer is known. The same scenes are seen at learned places, at random ones, and at the centre.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from adafocus_cli.api import Tagger
from adafocus_cli.cli.inputs import expand_listed
from adafocus_cli.errors import VideoError
from adafocus_cli.evaluation.data import Dataset, Sample
from adafocus_cli.evaluation.frames import QueuedSample, RenderedScene, tag_sources
from adafocus_cli.evaluation.policy_override import Policy, with_policy
from adafocus_cli.evaluation.report import EvaluationReport
from adafocus_cli.evaluation.scoring import Scorer
from adafocus_cli.requests import DEFAULT_MODEL, TagRequest
from adafocus_cli.tagger import ClipTagger
from adafocus_cli.video.framing import CROP, SHORT_SIDE, Framing
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.worlds import SIDE, World
from adafocus_cli.worlds.motion import Motion

POLICIES: tuple[Policy, ...] = ("learned", "random", "centre")
GROUPS = {"all": "", "camera": "camera", "object": "object"}
PER_VIDEO = 3
LARGEST = 560  # the side of a square from the middle of a picture whose short side is 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default=DEFAULT_MODEL, required=DEFAULT_MODEL is None)
    parser.add_argument("--per-label", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    pictures = pictures_of(arguments.folder)
    if not pictures:
        sys.exit(f"no video in {arguments.folder} can be read; give another folder")
    tagger, world = Tagger.load(arguments.model), Motion(unseen=True, pictures=pictures)
    count = arguments.per_label * len(world.labels)
    numbers = range(arguments.seed * count, (arguments.seed + 1) * count)
    reports = {policy: judged(with_policy(tagger, policy, seed=arguments.seed), world, numbers) for policy in POLICIES}
    found = {policy: {"top1": shares(report), "gmacs": report.cost.gmacs} for policy, report in reports.items()}
    facts = {"model": tagger.model.name, "pictures": len(pictures), "scenes": len(numbers), "policies": found}
    if arguments.format == "json":
        print(json.dumps(facts, indent=2))
    else:
        Console(highlight=False).print(table(facts))


def pictures_of(folder: str) -> list[np.ndarray]:
    """Square ones from the middle of frames, spread over each video, and no larger than they are in it."""

    warn, pictures = partial(print, file=sys.stderr), list[np.ndarray]()
    with VideoProcess() as process:
        for path in expand_listed([folder], warn=warn):
            try:
                video = process.open(path)
                numbers = [video.info.frames * (2 * part + 1) // (2 * PER_VIDEO) for part in range(PER_VIDEO)]
                size = min(video.info.width, video.info.height) * CROP // SHORT_SIDE
                pictures.extend(process.frames(video, numbers, framing=Framing(max(SIDE, min(size, LARGEST)))).pixels)
            except VideoError as error:
                warn(str(error))
    return pictures


def judged(tagger: ClipTagger, world: World, numbers: Sequence[int]) -> EvaluationReport:
    """Every label has as many scenes as any other."""

    def opened(number: int) -> RenderedScene:
        return RenderedScene(f"real footage #{number}", world.scene(number, label=number % len(world.labels)))

    samples = tuple(Sample(f"real footage #{number}", world.labels[number % len(world.labels)]) for number in numbers)
    sources = [QueuedSample(n - numbers[0], f"real footage #{n}", partial(opened, n)) for n in numbers]
    scorer = Scorer(Dataset(samples, "real footage"), tagger.labels)
    for place, result in tag_sources(sources, tagger, TagRequest()):
        scorer.add(place, result)
    report = scorer.report()
    if report is None or report.failures:
        sys.exit(f"{len(scorer.failures)} scenes failed; the first: {scorer.failures[0].message}")
    return report


def shares(report: EvaluationReport) -> dict[str, float]:
    """How often it is right: of a group of labels, and of each label. All have as many scenes."""
    by_label = {entry.label: entry.top1 for entry in report.classes}
    groups = {name: [v for label, v in by_label.items() if label.startswith(start)] for name, start in GROUPS.items()}
    return {name: fmean(values) for name, values in groups.items()} | by_label


def table(facts: dict[str, Any]) -> Table:
    grid = Table(title="{model}: top-1 of {scenes} scenes cut from {pictures} real pictures".format(**facts), box=None)
    grid.add_column("", no_wrap=True)
    for policy in facts["policies"]:
        grid.add_column(policy, justify="right")
    found = list(facts["policies"].values())
    for name in found[0]["top1"]:
        cells = (f"{100 * each['top1'][name]:.1f} %" for each in found)
        grid.add_row(name, *cells, style="bold" if name in GROUPS else "")
    grid.add_row("GMACs", *(f"{each['gmacs']:.3f}" for each in found), style="dim")
    return grid


if __name__ == "__main__":
    main()
