"""From what was named as data to clips to learn from and clips to be judged by, with the names of the classes.

Knows nothing of batches or of how clips are read.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adafocus_cli import labels as label_lists
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.evaluation.scenes import WORLD
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.clips import Augmentation, Clips, FileClips, FrameCache, Planned, SceneClips
from adafocus_cli.training.recipes import Resources, Settings
from adafocus_cli.video.limits import Limits
from adafocus_cli.worlds import world

ReadDataset = Callable[[str, Path | None], Dataset]


@dataclass(frozen=True)
class Part:
    """Clips by name only: labelled videos, or so many scenes of a world."""

    source: str
    scenes: int = 0
    dataset: Dataset | None = None

    def __len__(self) -> int:
        return self.scenes if self.dataset is None else len(self.dataset)


@dataclass(frozen=True)
class Data:
    labels: tuple[str, ...]
    training: Part
    validation: Part

    @property
    def clips(self) -> dict[str, int]:
        return {"training": len(self.training), "validation": len(self.validation)}

    def check(self, unreadable: Mapping[str, str]) -> None:
        """Refuses to go on without any video of a class."""
        if self.training.dataset is None:
            return
        samples = self.training.dataset.samples
        left = {sample.label for sample in samples if sample.path not in unreadable}
        for sample in samples:
            if sample.label not in left:
                raise AdaFocusError(
                    f"no video of class {sample.label!r} can be read; the first: {unreadable[sample.path]}"
                )


def find(settings: Settings, read: ReadDataset) -> Data:
    """What is named, split where nothing is named for validation."""
    root = None if settings.root is None else Path(settings.root)
    training = _part(settings.data, settings.clips_per_epoch, read, root)
    labels = _labels(training, settings.labels)
    if len(labels) < 2:
        raise UsageError(f"{settings.data} has only the class {labels[0]!r}; at least two are needed to tell apart")
    if settings.val is not None:
        validation = _part(settings.val, settings.val_clips, read, root)
    elif training.dataset is None:
        validation = replace(training, scenes=settings.val_clips)
    else:
        training, validation = _split(training, training.dataset, settings.val_share, settings.seed)
    _check_known(training, validation, labels)
    return Data(labels, training, validation)


def clips_of(
    data: Data, spec: ModelSpec, settings: Settings, resources: Resources, *, cache: Path
) -> tuple[Clips, Clips, list[FrameCache]]:
    """Both parts, ready to be read, and where they keep what they have decoded, to be removed in the end."""
    planned, caches = Planned(spec), list[FrameCache]()
    room = min(resources.cache_gb * 1e9, 0.9 * shutil.disk_usage(cache.parent).free)

    def clips(part: Part, *, training: bool) -> Clips:
        nonlocal room
        if part.dataset is None:
            name = part.source.removeprefix(WORLD)
            return SceneClips(name, not training, part.scenes, planned, settings.seed)
        kept = FrameCache(cache.with_name(f"{cache.name}-{'training' if training else 'validation'}"), len(part),
                          planned.shape)  # fmt: skip
        if kept.bytes <= room:
            room -= kept.bytes
            caches.append(kept)
        targets = [targets[0] for targets in part.dataset.indices(data.labels)]
        flips = settings.flip and settings.the_recipe.flips
        return FileClips(
            part.dataset.samples,
            targets,
            planned,
            cache=kept if kept in caches else None,
            augmentation=Augmentation(settings.seed, flips) if training and settings.the_recipe.flips else None,
            decoder=resources.decoder,
            limits=Limits(seconds=resources.decode_timeout),
        )

    return clips(data.training, training=True), clips(data.validation, training=False), caches


def _part(source: str, scenes: int, read: ReadDataset, root: Path | None) -> Part:
    if source.startswith(WORLD):
        world(source.removeprefix(WORLD))  # says which there are
        return Part(source, scenes=scenes)
    dataset = read(source, root)
    if Path(source).is_dir():
        folders = sorted(f.name for f in Path(source).iterdir() if f.is_dir() and not f.name.startswith("."))
        empty = [folder for folder in folders if folder not in dataset.labels]
        if empty:
            raise UsageError(f"class folder {Path(source) / empty[0]} has no videos; put some in, or remove it")
    return Part(source, dataset=dataset)


def _labels(part: Part, given: str | None) -> tuple[str, ...]:
    if part.dataset is None:
        return world(part.source.removeprefix(WORLD)).labels
    if given is None:
        return part.dataset.classes
    names = Path(given)
    return (label_lists.read(names) if names.is_file() else label_lists.packaged(given)).names


def _split(part: Part, dataset: Dataset, share: float, seed: int) -> tuple[Part, Part]:
    """A share of every class is for validation, one video at least."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(dataset.samples):
        members[sample.label].append(place)
    chance = random.Random(seed)
    chosen: set[int] = set()
    for label, places in sorted(members.items()):
        if len(places) < 2:
            raise UsageError(
                f"class {label!r} of {part.source} has only one video, which cannot be both learnt and left for "
                "validation; add some, or give other videos with --val"
            )
        count = min(len(places) - 1, max(1, round(share * len(places))))
        chosen.update(chance.sample(places, count))

    def kept(wanted: bool) -> Part:
        samples = tuple(s for place, s in enumerate(dataset.samples) if (place in chosen) is wanted)
        return replace(part, dataset=replace(dataset, samples=samples))

    return kept(False), kept(True)


def _check_known(training: Part, validation: Part, labels: Sequence[str]) -> None:
    """Validation only asks for what training shows."""
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
            f"--val {validation.source} has the class {label!r} ({counts[label] or 'all'} clips), which training never "
            f"sees; remove it there, or add videos of it to {training.source}"
        )
