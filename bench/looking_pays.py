"""Whether looking closely, at places that were learned, pays: `python bench/looking_pays.py --runs FOLDER`.

On the world *glyphs* a small sign says the answer, and only who looks at it closely can read it. V1, V2 and Uni are
taught with several seeds, and asked about the same scenes that no training showed, looking where they learned to, at
the centre, and at random. A control of V1 and V2 spends as much on whole frames: the same recipe, but a frame is as
small as a patch. Uni, which also chooses frames, goes on to learn in *glyphs-turning*, where the sign can be read in a
quarter of a clip, and looks in random frames there, too. All begin with networks that were taught on close-ups
(reader.py): one to read signs, one to see where they are although they are too small to be read.

Finished runs are not repeated, and interrupted ones are resumed. The table and the reward curves are of what is
finished.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from adafocus_cli.drawing import FAINT, INK, Axis, Pen
from adafocus_cli.evaluation.pictures import CURVE_PLOT, CURVE_SIZE

FOCUS = 96
NETWORKS = f"--init scratch --focus resnet18:0.25@{FOCUS} --policy-width 256 --classifier-width 256"
LEARNING = "--optimizer adamw --lr 0.0005 --policy-lr 0.0005 --dropout 0 --threads 1 --workers 1 --val-clips 200"
FEW_FRAMES = f"{NETWORKS} --glance resnet18:0.25@80 --frames 2 {LEARNING} --clips-per-epoch 2048"
UNI = f"--recipe uni {LEARNING} --batch-size 8 --clips-per-epoch 1024 --rates answers=5 --size-penalty 0"
WHOLE_FRAMES = f"--frame-size {FOCUS}"
ASKED = "--limit 500 --seed 0"


@dataclass(frozen=True)
class Trial:
    """What is taught in a world, at first or after another trial, and how it looks when it is asked.

    `glance_reader` is the size of close-ups whose signs are about as small as they are to the glance.
    """

    options: str
    looking: tuple[str, ...]
    world: str = "glyphs"
    after: str | None = None
    glance_reader: int = 40


TRIALS = {
    "v1": Trial(
        f"{FEW_FRAMES} --recipe v1 --batch-size 8 --epochs 4,6,6,2 --rates focus=1,answers=1",
        ("learned", "centre", "random", "whole"),
    ),
    "v2": Trial(
        f"{FEW_FRAMES} --recipe v2-features --batch-size 16 --epochs 8", ("learned", "centre", "random", "whole")
    ),
    # The policy learns from what the glance reads in its boxes, so the glance sees a little more; nothing is held
    # against small boxes, for which alone signs are large enough; and there are more frames, to choose from. The policy
    # takes many steps to learn, so batches are small.
    "uni": Trial(
        f"{NETWORKS} --glance resnet18:0.25@112 --frames 4 --focus-frames 2 {UNI} --epochs 14",
        ("learned", "centre", "random"),
        glance_reader=48,
    ),
    # The layers that teach the policy start anew, and at a higher rate it would unlearn places before they are of use.
    "uni-turning": Trial(
        f"{UNI} --lr 0.0003 --policy-lr 0.0001 --epochs 16",
        ("learned", "centre", "random", "random-frames"),
        world="glyphs-turning",
        after="uni",
    ),
}
SEEDS = (1, 2, 3)
LOOKING = {
    "learned": "where it learned to",
    "centre": "at the centre",
    "random": "at random",
    "random-frames": "where it learned to, in random frames",
    "whole": "at whole frames, as small as a patch",
}
COLOURS = ((23, 85, 160), (214, 88, 8), (40, 130, 70))
LINE = (225, 225, 225)


@dataclass(frozen=True)
class Job:
    """A command, and the file that is there when it is finished."""

    command: tuple[str, ...]
    makes: Path

    def due(self) -> tuple[str, ...] | None:
        """What is left to run: all, the rest of a training, or nothing."""
        if self.makes.exists():
            return None
        if self.command[1] == "train" and (self.makes.parent / "last.pt").exists():
            return ("adafocus", "train", "--resume", str(self.makes.parent))
        return self.command


@dataclass(frozen=True)
class Plan:
    """Which commands there are, and where each leaves what it makes."""

    runs: Path

    def jobs(self, trials: Sequence[tuple[str, int]]) -> Iterator[Job]:
        for name, seed in trials:
            yield from self.training(name, seed)
            for looking in TRIALS[name].looking:
                if looking == "whole":
                    yield from self.training(name, seed, "-whole", WHOLE_FRAMES)
                yield self._evaluation(name, seed, looking)

    def training(self, name: str, seed: int, ending: str = "", more: str = "") -> Iterator[Job]:
        """Of a trial, with all that it begins with."""
        trial = TRIALS[name]
        options = [*shlex.split(f"{trial.options} {more}"), "--seed", str(seed)]
        if trial.after is None:
            for network, size in (("glance", trial.glance_reader), ("focus", FOCUS)):
                file = self.runs / f"reader-{size}.safetensors"
                yield Job(("python", "bench/reader.py", str(file), "--size", str(size)), file)
                options += [f"--{network}-weights", str(file)]
        else:
            yield from self.training(trial.after, seed)
            options += ["--init", str(self.model(trial.after, seed))]
        model = self.model(name, seed, ending)
        yield Job(("adafocus", "train", f"world:{trial.world}", *options, "-o", str(model.parent)), model)

    def model(self, name: str, seed: int, ending: str = "") -> Path:
        return self.runs / f"{name}-{seed}{ending}" / "model.safetensors"

    def reports(self, name: str, looking: str) -> list[dict[str, Any]]:
        """What is there, by seed."""
        files = [self._evaluation(name, seed, looking).makes for seed in SEEDS]
        return [json.loads(file.read_text("utf-8")) for file in files if file.exists()]

    def rewards(self, name: str, seed: int) -> list[float]:
        """After each epoch of the policy's stage."""
        journal = self.model(name, seed).with_name("log.jsonl")
        lines = journal.read_text("utf-8").splitlines()[1:] if journal.exists() else []
        return [line["measures"]["reward"] for line in map(json.loads, lines) if line["stage"] == "policy"]

    def _evaluation(self, name: str, seed: int, looking: str) -> Job:
        ending, policy = ("-whole", "learned") if looking == "whole" else ("", looking)
        model = self.model(name, seed, ending)
        file = model.with_name(f"{policy}.json")
        options = ("--policy", policy, *shlex.split(ASKED), "-w", str(model), "-f", "json", "-o", str(file))
        return Job(("adafocus", "evaluate", f"world:{TRIALS[name].world}", *options), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="where the models and their figures are kept")
    parser.add_argument("--curves", type=Path, metavar="FILE.png", help="also draw the reward of V1's policy")
    parser.add_argument("--only", metavar="TRIAL:SEED", action="append", help="this part, such as v1:1")
    parser.add_argument("--list", action="store_true", help="print the commands that are left, and run none")
    arguments = parser.parse_args()
    everything = [(name, seed) for name in TRIALS for seed in SEEDS]
    parts = {f"{name}:{seed}": (name, seed) for name, seed in everything}
    if unknown := set(arguments.only or ()) - parts.keys():
        sys.exit(f"there is no part {unknown.pop()}; there are {', '.join(parts)}")
    plan = Plan(arguments.runs)
    for job in plan.jobs([parts[name] for name in arguments.only] if arguments.only else everything):
        command = job.due()
        if command is None:
            continue
        print(shlex.join(command), file=sys.stdout if arguments.list else sys.stderr, flush=True)
        if not arguments.list:
            run(command)
    if not arguments.list:
        print(table(plan))
        if arguments.curves is not None and any(plan.rewards("v1", seed) for seed in SEEDS):
            rewards(plan).save(arguments.curves)


def run(command: Sequence[str]) -> None:
    """Its report is in a file; what it tells on the way is shown."""
    what = ["-m", "adafocus_cli", *command[1:]] if command[0] == "adafocus" else command[1:]
    done = subprocess.run([sys.executable, *what], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with status {done.returncode}; see above")


def table(plan: Plan) -> str:
    lines = ["| trial | looks | top-1, % | GMACs a video | seeds |", "| --- | --- | --- | --- | --- |"]
    for name, trial in TRIALS.items():
        for looking in trial.looking:
            if reports := plan.reports(name, looking):
                top1 = mean([100 * report["accuracy"]["top1"] for report in reports])
                gmacs = statistics.fmean(report["cost"]["gmacs"] for report in reports)
                lines.append(f"| {name} | {LOOKING[looking]} | {top1} | {gmacs:.4f} | {len(reports)} |")
    return "\n".join(lines)


def mean(values: Sequence[float]) -> str:
    middle = f"{statistics.fmean(values):.1f}"
    return f"{middle} ± {statistics.stdev(values):.1f}" if len(values) > 1 else middle


def rewards(plan: Plan) -> Image.Image:
    """What V1's policy gains over random places, epoch by epoch, a line for each seed."""
    curves = {seed: curve for seed in SEEDS if (curve := plan.rewards("v1", seed))}
    left, top, right, bottom = CURVE_PLOT
    across = Axis.around((1, max(map(len, curves.values()))), left, right, least=1)
    up = Axis.around([0.0, *(value for curve in curves.values() for value in curve)], bottom, top, least=0.01)
    pen = Pen(CURVE_SIZE)
    for value in (tick for tick in across.ticks() if float(tick).is_integer()):
        pen.text((across.at(value), bottom + 8), f"{value:g}", FAINT, 14, "mt")
    for value in up.ticks():
        pen.line([(left, up.at(value)), (right, up.at(value))], LINE, 1)
        pen.text((left - 8, up.at(value)), f"{value:.6g}", FAINT, 14, "rm")
    pen.text(((left + right) / 2, CURVE_SIZE[1] - 18), "epochs of the policy's stage", INK, 16, "mb")
    pen.text((16, top - 14), "reward: what a place adds to the right answer's score, over a random one", INK, 16, "lb")
    x = 110.0
    for (seed, curve), colour in zip(curves.items(), COLOURS, strict=False):
        places = [(across.at(epoch), up.at(value)) for epoch, value in enumerate(curve, 1)]
        pen.line(places, colour, 3)
        for place in places:
            pen.dot(place, colour, 4)
        pen.dot((x, 34), colour, 6)
        x = pen.text((x + 14, 34), f"seed {seed}", INK, 16, "lm") + 28
    return pen.picture()


if __name__ == "__main__":
    main()
