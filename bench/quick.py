"""How right the quick recipe is on real clips: `python bench/quick.py FOLDER --group 'seq(\\d+)' --cache CACHE`.

FOLDER has one folder of clips a class. Everything but the figures beside it is the recipe as `adafocus train` runs it,
which chooses its mixture anew on the training clips of every split:

folds      five folds, by groups
halves     the groups in the order of their names, or numbers: learnt from the first half, tested on the other; and back
order      forwards and backwards, as twice the classes: five folds, by groups

Beside it the same linear layer with one kind of evidence: what is there, what changes, what moves.

With `--scenes PHOTOS` it says whether looking pays: each clip is pasted into a sharp photograph of 1080p, 25 to 50 % of
its height. Every other group is learnt from, in front of every other photograph of PHOTOS (named as in 0207.jpg), and
the rest is tested, in front of the others: with looks at learned places, at random and in the centre, the layer taught
at the same kind of places, where it has to use them; without looks; and without them on frames so much larger that the
cost is the same.

With `world:motion` in place of FOLDER, `--clips` scenes of each class are learnt from, and `--test-clips` others are
tested, with textures and shapes that those do not have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import av
import numpy as np
import torch
from scenes import in_scene, photographs

from adafocus_cli.cli.inputs import expand_listed, is_video_name
from adafocus_cli.evaluation.data import Dataset, Finder, Sample, read
from adafocus_cli.evaluation.frames import WORLD
from adafocus_cli.flops import cost_of
from adafocus_cli.models.taught import TaughtToLook
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training import quick
from adafocus_cli.training.clips import ClipSet, TrainingClip
from adafocus_cli.training.data import Split
from adafocus_cli.training.quick import Choice, EvidenceCache, EvidenceJob, Seeing, SeenClips
from adafocus_cli.training.recipes import QUICK, Resources, TrainingSettings
from adafocus_cli.video.pictures import cut_looks, preprocess
from adafocus_cli.worlds import world

MOVEMENT = {"shares": 1.0, "centred": 1.0, "ways": 1.0, "anywhere": 0.5}
BASELINES: Mapping[str, Mapping[str, float]] = {
    "what is there": {"things": 1.0},
    "what changes, in order": {"changes": 1.0},
    "what moves": MOVEMENT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="FOLDER", help="a folder of labelled clips, or a synthetic world")
    parser.add_argument("--group", help="what belongs together, as for `adafocus train`; for clips in a folder")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what the networks see of the clips")
    parser.add_argument("--scenes", type=Path, metavar="PHOTOS", help="does looking pay? Folder of photographs")
    parser.add_argument("--clips", type=int, default=20, help="scenes of each class of a world to learn from")
    parser.add_argument("--test-clips", type=int, default=6, help="scenes of each class of a world to test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.source.startswith(WORLD):
        of_world(arguments)
    elif arguments.scenes is not None and arguments.group is not None:
        of_scenes(arguments)
    elif arguments.group is None:
        parser.error("give --group: random folds of clips that were filmed together are too good to be true")
    else:
        of_folder(arguments)


def of_folder(arguments: argparse.Namespace) -> None:
    dataset = dataset_of(arguments.source)
    classes = len(dataset.classes)
    seeing = seeing_for(arguments, quick.spec_for(classes, looks=True))
    split = Split(arguments.source, dataset=dataset, groups=dataset.groups(arguments.group))
    clips = seeing.see(split, dataset.classes, training=True)
    show({"clips": len(clips), "gmacs of 16:9": round(cost_of(quick.spec_for(classes)).gmacs, 3)})
    ways = all_ways(seeing.spec, arguments.seeds)
    for name, (seed, taught) in ways.items():
        show({name: figures(clips, taught, classes, seed)})
    both = with_backwards(seeing, split, dataset.classes, clips)
    for name, (seed, taught) in ways.items():
        show({f"{name}, order": in_folds(both, taught, 2 * classes, seed)})


def dataset_of(source: str) -> Dataset:
    warn = partial(print, flush=True)
    finder = Finder(walk=lambda folder: expand_listed([folder], warn=warn), is_video=is_video_name)
    return read(source, finder=finder)


def of_world(arguments: argparse.Namespace) -> None:
    labels = world(arguments.source.removeprefix(WORLD)).labels
    seeing = seeing_for(arguments, quick.spec_for(len(labels)))
    known, new = (
        seeing.see(Split(arguments.source, scenes=count * len(labels)), labels, training=training)
        for count, training in ((arguments.clips, True), (arguments.test_clips, False))
    )
    show({"classes": len(labels), "clips": len(known), "tested": len(new)})
    for name, (_, taught) in all_ways(seeing.spec, arguments.seeds).items():
        show({name: percent_right(taught(known, new, len(labels)), new.targets)})


def of_scenes(arguments: argparse.Namespace) -> None:
    dataset = dataset_of(arguments.source)
    looks = quick.spec_for(len(dataset.classes), looks=True)
    ratio = cost_of(looks).gmacs / cost_of(quick.spec_for(len(dataset.classes))).gmacs
    assert looks.frame_area is not None, "it sees all of a picture"
    larger = replace(quick.spec_for(len(dataset.classes)), frame_area=round(looks.frame_area * ratio))
    known, new = (scene_clips(arguments, dataset, looks, half) for half in ("even", "odd"))
    show({"clips": len(known), "tested": len(new), "gmacs": round(cost_of(looks).gmacs, 3)})
    kinds, classes = quick.empty_model(looks).whole_kinds, len(dataset.classes)
    for seed in range(arguments.seeds):
        for name, taught in PLACES.items():
            show({f"{name}, seed {seed}": percent_right(taught(known, new, kinds, classes, seed), new.targets)})
    known, new = (scene_clips(arguments, dataset, larger, half) for half in ("even", "odd"))
    show({"larger frames, gmacs": round(cost_of(larger).gmacs, 3)})
    kinds = quick.empty_model(larger).whole_kinds
    show({"larger frames": percent_right(chosen(kinds, 0, known, new, classes), new.targets)})


def scene_clips(arguments: argparse.Namespace, dataset: Dataset, spec: ModelSpec, half: str) -> SeenClips:
    """Every other group of the clips, in front of every other photograph."""
    groups = dataset.groups(arguments.group)
    wanted = set(sorted(set(groups))[0 if half == "even" else 1 :: 2])
    indices = [index for index, group in enumerate(groups) if group in wanted]
    targets = [target[0] for target in dataset.indices(dataset.classes)]
    seeing = seeing_for(arguments, spec)
    clips = ClipsInScenes([dataset.samples[i] for i in indices], [targets[i] for i in indices], spec,
                          photographs(arguments.scenes, half), half)  # fmt: skip
    names = [clips.key(place) for place in range(len(clips))]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    views = 2 if half == "even" else 1
    seeing.do(EvidenceJob(clips, hashes, spec, seeing.cache, (), views, "cpu"))
    return SeenClips(
        evidence=seeing.evidence(hashes, views),
        targets=torch.tensor(clips.targets),
        groups=tuple(groups[i] for i in indices),
        names=tuple(names),
        unreadable={},
        looks=seeing.looks(hashes),
    )


@dataclass(frozen=True)
class ClipsInScenes:
    """Clips pasted into photographs."""

    samples: Sequence[Sample]
    targets: Sequence[int]
    spec: ModelSpec
    photos: Sequence[Path]
    half: str

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, index: int) -> str:
        path = Path(self.samples[index].path)
        return f"{self.half} {path.parent.name} {path.stem}"

    def read(self, index: int, moment: tuple[int, ...]) -> TrainingClip:
        with av.open(self.samples[index].path) as file:
            clip = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        numbers = quick.empty_model(self.spec).plan(len(clip)).frames
        distinct, key = sorted(set(numbers)), self.key(index)
        path = Path(self.samples[index].path)
        photo = random.Random(f"{self.half} {path.stem} {path.parent.name}").choice(self.photos)
        scene = dict(zip(distinct, in_scene([clip[number] for number in distinct], photo, key), strict=True))
        height, width = scene[distinct[0]].shape[:2]
        cuts = None
        if self.spec.family == TaughtToLook.name:
            looks = quick.AllLooks(self.spec).into(width, height, len(clip))
            cuts = cut_looks(looks, scene.__getitem__)
        seen = {number: preprocess(picture, self.spec.framing) for number, picture in scene.items()}
        target = self.targets[index]
        return TrainingClip(np.stack([seen[number] for number in numbers]), target, (target,), cuts=cuts)

    def close(self) -> None:
        pass


def learned(known: SeenClips, new: SeenClips, kinds: Mapping[str, int], classes: int, seed: int) -> torch.Tensor:
    return quick.learn(known, kinds, classes, flip=True, seed=seed)(new)


def without(known: SeenClips, new: SeenClips, kinds: Mapping[str, int], classes: int, seed: int) -> torch.Tensor:
    return quick.learn(replace(known, looks=None), kinds, classes, flip=True, seed=seed)(new)


def elsewhere(
    place: str, known: SeenClips, new: SeenClips, kinds: Mapping[str, int], classes: int, seed: int
) -> torch.Tensor:
    """With looks at random, or in the centre, which count whether they help or not: left to itself the recipe would
    take none."""
    chance = random.Random(f"{place} {seed}")
    assert known.looks is not None, "scenes are large"
    known_there, new_there = (looking_at(place, clips, chance) for clips in (known, new))
    glance = quick.learn(replace(known, looks=None), kinds, classes, flip=True, seed=seed).choice
    mixtures, mirrored = [*quick._with_boxes(glance.mixture)], (glance.mirrored,)
    all_kinds = known.looks.model.kinds
    choice, _ = quick._chosen(known_there, all_kinds, classes, mixtures, quick._PENALTIES, mirrored, seed, 0.0)
    return fixed(all_kinds, choice, known_there, new_there, classes)


def looking_at(place: str, clips: SeenClips, chance: random.Random) -> SeenClips:
    assert clips.looks is not None, "scenes are large"
    boxes = [len(seen) // 2 if place == "centre" else chance.randrange(len(seen)) for seen in clips.looks.seen]
    return replace(clips.looking(boxes), looks=None)


PLACES: Mapping[str, Callable[..., torch.Tensor]] = {
    "learned places": learned,
    "random places": partial(elsewhere, "random"),
    "the centre": partial(elsewhere, "centre"),
    "no looks": without,
}


def seeing_for(arguments: argparse.Namespace, spec: ModelSpec) -> Seeing:
    cache = EvidenceCache(arguments.cache, spec)
    cache.create()
    return Seeing(
        spec=spec,
        settings=TrainingSettings(data=arguments.source, recipe=QUICK),
        resources=Resources(workers=arguments.workers),
        cache=cache,
        observer=Silent(),
    )


def all_ways(spec: ModelSpec, seeds: int) -> dict[str, tuple[int, Any]]:
    """The recipe with each seed, and the baselines: a seed, and what answers for new clips after known ones."""
    kinds = quick.empty_model(spec).whole_kinds
    ways: dict[str, tuple[int, Any]] = {f"quick, seed {n}": (n, partial(chosen, kinds, n)) for n in range(seeds)}
    for name, mixture in BASELINES.items():
        ways[name] = 0, partial(fixed, kinds, Choice(mixture, 0.1, mirrored=True))
    return ways


def show(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)


class Silent:
    """Shows nothing of how a run goes."""

    def __getattr__(self, name: str) -> Any:
        return lambda *values: None


@dataclass(frozen=True)
class Backwards:
    """Clips whose last frame comes first."""

    clips: ClipSet

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, index: int, moment: tuple[int, ...]) -> TrainingClip:
        clip = self.clips.read(index, moment)
        return clip if clip.pixels is None else replace(clip, pixels=np.ascontiguousarray(clip.pixels[::-1]))

    def close(self) -> None:
        self.clips.close()


def with_backwards(seeing: Seeing, split: Split, labels: Sequence[str], clips: SeenClips) -> SeenClips:
    """All clips forwards and backwards, as twice the classes."""
    job: EvidenceJob = seeing.job(split, labels, training=True)[0]
    job = replace(job, clips=Backwards(job.clips), hashes=[f"backwards-{each}"[:40] for each in job.hashes])
    seeing.do(job)
    evidence = seeing.evidence(job.hashes, job.views)
    return SeenClips(
        evidence=np.concatenate((clips.evidence, evidence)),
        targets=torch.cat((clips.targets, clips.targets + len(labels))),
        groups=clips.groups * 2,
        names=clips.names * 2,
        unreadable={},
    )


def figures(clips: SeenClips, taught: Any, classes: int, seed: int) -> dict[str, Any]:
    """Shares of right answers, in percent."""
    first, second = halves(clips)
    there, back = accuracy(clips, first, taught, classes), accuracy(clips, second, taught, classes)
    return {
        "folds": in_folds(clips, taught, classes, seed),
        "halves": [there, back, round((there + back) / 2, 1)],
    }


def in_folds(clips: SeenClips, taught: Any, classes: int, seed: int) -> float:
    folds = quick.folds_of(clips.groups, clips.targets.tolist(), quick.FOLDS, seed)
    return round(sum(accuracy(clips, fold, taught, classes) * len(fold) for fold in folds) / len(clips), 1)


def halves(clips: SeenClips) -> tuple[list[int], list[int]]:
    """Clips of the later groups, and those of the earlier ones: what is tested."""
    names = sorted(set(clips.groups), key=lambda name: (int(name) if name.isdecimal() else -1, name))
    early = set(names[: len(names) // 2])
    indices = range(len(clips))
    return [i for i in indices if clips.groups[i] not in early], [i for i in indices if clips.groups[i] in early]


def accuracy(clips: SeenClips, tested: Sequence[int], taught: Any, classes: int) -> float:
    """Of a model of all other clips, on these."""
    logits = taught(clips.without(tested), clips.subset(tested), classes)
    return percent_right(logits, clips.targets[list(tested)])


def percent_right(logits: torch.Tensor, targets: torch.Tensor) -> float:
    return round(100 * fmean((logits.argmax(dim=1) == targets).double().tolist()), 1)


def chosen(kinds: Mapping[str, int], seed: int, known: SeenClips, new: SeenClips, classes: int) -> torch.Tensor:
    return quick.learn(known, kinds, classes, flip=True, seed=seed)(new)


def fixed(kinds: Mapping[str, int], choice: Choice, known: SeenClips, new: SeenClips, classes: int) -> torch.Tensor:
    weights, bias = quick.layer(known, kinds, classes, choice)
    return torch.from_numpy(new.evidence[:, 0]).double() @ weights + bias


if __name__ == "__main__":
    main()
