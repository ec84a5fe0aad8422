"""From DATA and --val to a training and a validation split, with the names of the classes."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adafocus_cli import labels as label_lists
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.evaluation.data import Dataset, plain
from adafocus_cli.evaluation.frames import WORLD
from adafocus_cli.models import dense
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.clips import ClipSet, FileClips, PlannedFrames, RandomViews, SceneClips
from adafocus_cli.training.frame_cache import FrameCache
from adafocus_cli.training.recipes import QUICK, Resources, TrainingSettings
from adafocus_cli.video.framing import CROP
from adafocus_cli.video.limits import Limits
from adafocus_cli.worlds import world

ReadDataset = Callable[[str, Path | None], Dataset]

# The shorter side of the pictures that the authors trained on, of 224 pixels that the model sees: that of ActivityNet,
# FCVID and Mini-Kinetics for these families, Something-Something's for those on TSM, Kinetics' for X3D. For networks
# over whole clips it is 320 for 256, up to which Kinetics' pictures are resized.
_KEPT_SIDES = {
    **dict.fromkeys(("adafocus-v1", "adafocus-v2", "uni-adafocus"), 360),
    **dict.fromkeys(("adafocus-v1-tsm", "adafocus-v2-tsm", "uni-adafocus-tsm"), 256),
    "uni-adafocus-x3d": 331,
    **dict.fromkeys((network.name for network in dense.FAMILIES), 280),
}
# Data sets of which many classes are told apart by left and right alone.
_HANDED = ("sthv1", "sthv2", "jester")


@dataclass(frozen=True)
class Split:
    """Clips that are not read yet: labelled videos, or a number of scenes of a synthetic world."""

    source: str
    scenes: int = 0
    dataset: Dataset | None = None
    groups: tuple[str, ...] = ()
    """Of each video what it was filmed with: a recording, a person; empty if nothing is known."""

    def __len__(self) -> int:
        return self.scenes if self.dataset is None else len(self.dataset)

    def subset(self, wanted: Callable[[int], bool]) -> Split:
        """The videos whose indices are wanted."""
        assert self.dataset is not None, "scenes are not chosen"
        left = [index for index in range(len(self.dataset)) if wanted(index)]
        samples = tuple(self.dataset.samples[index] for index in left)
        groups = tuple(self.groups[index] for index in left) if self.groups else ()
        return replace(self, dataset=replace(self.dataset, samples=samples), groups=groups)


@dataclass(frozen=True)
class TrainingData:
    labels: tuple[str, ...]
    training: Split
    validation: Split

    @property
    def clips(self) -> dict[str, int]:
        return {"training": len(self.training), "validation": len(self.validation)}

    @property
    def in_both(self) -> tuple[str, ...]:
        """Groups of which there are videos in training and in validation."""
        return tuple(sorted(set(self.training.groups) & set(self.validation.groups)))

    def check(self, unreadable: Mapping[str, str]) -> None:
        """Raises if no video of a class can be read."""
        if self.training.dataset is None:
            return
        samples = self.training.dataset.samples
        left = {label for sample in samples if sample.path not in unreadable for label in sample.labels}
        for sample in samples:
            if lost := [label for label in sample.labels if label not in left]:
                raise AdaFocusError(f"no video of class {lost[0]!r} can be read; the first: {unreadable[sample.path]}")

    @property
    def several_labels(self) -> bool:
        """Whether a video shows more than one class; then the mean average precision says how good answers are."""
        splits = (self.training.dataset, self.validation.dataset)
        return any(sample.also for dataset in splits if dataset is not None for sample in dataset.samples)

    @property
    def handed(self) -> bool:
        """Whether the classes are those of a data set that must not be mirrored."""
        own = set(map(plain, self.labels))
        return any(own <= set(map(plain, label_lists.packaged(name).names)) for name in _HANDED)


def find_data(settings: TrainingSettings, read: ReadDataset) -> TrainingData:
    """Reads the lists of videos; without --val, holds out a share of DATA."""
    root = None if settings.root is None else Path(settings.root)
    training = _split_from(settings.data, settings.clips_per_epoch, read, root, settings.group)
    labels = _labels(training, settings.labels)
    if len(labels) < 2:
        raise UsageError(f"{settings.data} has only one class, {labels[0]!r}; at least two are needed")
    if settings.val is not None:
        validation = _split_from(settings.val, settings.val_clips, read, root, settings.group)
    elif training.dataset is None:
        validation = replace(training, scenes=settings.val_clips)
    elif settings.recipe == QUICK:  # it cross-validates
        validation = training.subset(lambda index: False)
    else:
        training, validation = _held_out(training, training.dataset, settings.val_share, settings.seed)
    _check_known(training, validation, labels)
    return TrainingData(labels, training, validation)


def clip_sets(
    data: TrainingData, spec: ModelSpec, settings: TrainingSettings, resources: Resources, cache: FrameCache | None
) -> tuple[ClipSet, ClipSet]:
    """Both splits, ready to be read."""
    planned = PlannedFrames(spec)
    mirrored = settings.flip and settings.the_recipe.flips and not data.handed
    side = _KEPT_SIDES.get(spec.family)
    views = None if side is None else RandomViews(settings.seed, round(side * spec.frame_size / CROP), mirrored)

    def clips(split: Split, *, training: bool) -> ClipSet:
        if split.dataset is None:
            name = split.source.removeprefix(WORLD)
            return SceneClips(name, not training, split.scenes, planned, settings.seed)
        return FileClips(
            split.dataset.samples,
            [tuple(sorted(shown)) for shown in split.dataset.indices(data.labels)],
            planned,
            cache=cache,
            views=views,
            decoder=resources.decoder,
            limits=Limits(seconds=resources.decode_timeout),
        )

    return clips(data.training, training=True), clips(data.validation, training=False)


def _split_from(source: str, scenes: int, read: ReadDataset, root: Path | None, group: str | None) -> Split:
    if source.startswith(WORLD):
        if group is not None:
            raise UsageError(f"--group is for videos, and {source} is a synthetic world; leave it out")
        world(source.removeprefix(WORLD))  # raises for an unknown name
        return Split(source, scenes=scenes)
    dataset = read(source, root)
    if Path(source).is_dir():
        folders = sorted(f.name for f in Path(source).iterdir() if f.is_dir() and not f.name.startswith("."))
        empty = [folder for folder in folders if folder not in dataset.labels]
        if empty:
            raise UsageError(f"class folder {Path(source) / empty[0]} has no videos; put some in, or remove it")
    return Split(source, dataset=dataset, groups=() if group is None else dataset.groups(group))


def _labels(split: Split, given: str | None) -> tuple[str, ...]:
    if split.dataset is None:
        return world(split.source.removeprefix(WORLD)).labels
    if given is None:
        return split.dataset.classes
    names = Path(given)
    return (label_lists.read(names) if names.is_file() else label_lists.packaged(given)).names


def _held_out(split: Split, dataset: Dataset, share: float, seed: int) -> tuple[Split, Split]:
    """Holds out a share of every class for validation, one video at least."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(dataset.samples):
        members[sample.label].append(index)
    rng = random.Random(seed)
    left = Counter(label for sample in dataset.samples for label in sample.labels)
    chosen: set[int] = set()
    for label, indices in sorted(members.items()):
        if len(indices) < 2:
            raise UsageError(
                f"class {label!r} of {split.source} has only one video, which cannot be in both training and "
                "validation; add some, or give other videos with --val"
            )
        count = min(len(indices) - 1, max(1, round(share * len(indices))))
        drawn = rng.sample(indices, count)
        for index in dict.fromkeys([*drawn, *indices]):  # others stand in for those that training cannot do without
            shown = dataset.samples[index].labels
            if count and all(left[each] > 1 for each in shown):  # training keeps a video of every class
                left.subtract(shown)
                chosen.add(index)
                count -= 1

    if not chosen:
        raise UsageError(
            f"no video of {split.source} can be held out for validation, since each is the only one of one of its "
            "classes; add some, or give other videos with --val"
        )
    return split.subset(lambda index: index not in chosen), split.subset(lambda index: index in chosen)


def _check_known(training: Split, validation: Split, labels: Sequence[str]) -> None:
    """Raises if validation has a class that training does not have."""
    if validation.dataset is None:
        unknown = set(_labels(validation, None)) - set(labels)
    elif training.dataset is None:
        unknown = set(validation.dataset.labels) - set(labels)
    else:
        unknown = set(validation.dataset.labels) - set(training.dataset.labels)
    if unknown:
        counts = Counter(sample.label for sample in validation.dataset.samples) if validation.dataset else Counter()
        label = sorted(unknown)[0]
        raise UsageError(
            f"--val {validation.source} has the class {label!r} ({counts[label] or 'all'} clips), which "
            f"{training.source} does not have; remove it there, or add videos of it to the training data"
        )
