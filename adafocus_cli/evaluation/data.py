"""Labelled videos: a folder with one folder a class, a table of paths and labels, or the split lists of the papers.

Knows nothing of models and loads no pixels; what is read here can be judged by one model and train another.
"""

from __future__ import annotations

import csv
import difflib
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from adafocus_cli.errors import UsageError

# `name frames label` or `path label`; the name may have spaces.
_SPACED = re.compile(r"(.+?)(?<![,;])(?:\s+(\d+))?\s+(\d+)")
_DELIMITERS = "\t,;"
_PATH_COLUMNS = ("path", "video_path", "video", "file", "filename", "name")
_LABEL_COLUMNS = ("label", "class", "category", "label_name", "class_name", "label_id")
FOLDER = "folder"
"""As a rule of groups: the folder that a video is in."""
_FORMS = "`path,label` rows or `name frames label` lines"


@dataclass(frozen=True)
class Sample:
    """A video, or a folder with its frames as images, and what it shows: the name of a class, or its number.

    `also` are further classes that it shows; of a folder of images, the first `frames` count.
    """

    path: str
    label: str
    also: tuple[str, ...] = ()
    frames: int | None = None
    cells: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    """What the further columns of its list say, by their headings."""

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.label, *self.also)


@dataclass(frozen=True)
class Dataset:
    samples: tuple[Sample, ...]
    source: str

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label as it is written, once, in the order of names."""
        return tuple(sorted({label for sample in self.samples for label in sample.labels}))

    @property
    def numbered(self) -> bool:
        """Whether classes are given by their numbers."""
        return all(label.isdecimal() for label in self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, for a model that has none yet; numbers count up to the largest."""
        if self.numbered:
            return tuple(f"class {number}" for number in range(1 + max(map(int, self.labels))))
        return self.labels

    def indices(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """The classes of each sample as places in a model's `names`; of each the first is its label."""
        index_of = self._by_number(len(names)) if self._means_numbers(names) else self._by_name(names)
        return [tuple(dict.fromkeys(index_of[label] for label in sample.labels)) for sample in self.samples]

    def groups(self, rule: str) -> tuple[str, ...]:
        """Which samples belong together: by a column of the list, by `folder`, the one a video is in, or by what a
        regular expression finds in its path."""
        columns = {heading for sample in self.samples for heading, _ in sample.cells}
        if rule.casefold() in columns:
            return tuple(dict(sample.cells).get(rule.casefold(), "") for sample in self.samples)
        if rule == FOLDER:
            return tuple(Path(sample.path).parent.name for sample in self.samples)
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise UsageError(
                f"--group {rule} is not a regular expression ({error}); give one, such as 'seq(\\d+)'"
            ) from error
        found = [pattern.search(sample.path) for sample in self.samples]
        for sample, match in zip(self.samples, found, strict=True):
            if match is None:
                raise UsageError(
                    f"--group {rule} finds nothing in {sample.path}; give the heading of a column of {self.source}, "
                    f"{FOLDER!r}, or a regular expression that finds the group in every path, such as 'seq(\\d+)'"
                )
        return tuple(match[match.re.groups and 1] for match in found if match is not None)

    def limited(self, count: int, seed: int) -> Dataset:
        """A sample of `count`, in which every class has its share, to one video; in the old order."""
        chance = random.Random(seed)
        members: defaultdict[str, list[int]] = defaultdict(list)
        for place, sample in enumerate(self.samples):
            members[sample.label].append(place)
        # Each class is spread evenly from 0 to 1, from an offset of its own; the sample is what lies lowest.
        height: dict[int, float] = {}
        for _, places in sorted(members.items()):
            offset = chance.random()
            chance.shuffle(places)
            height |= {place: (rank + offset) / len(places) for rank, place in enumerate(places)}
        chosen = sorted(sorted(height, key=lambda place: (height[place], place))[:count])
        return replace(self, samples=tuple(self.samples[place] for place in chosen))

    def write(self, file: IO[str]) -> None:
        """As a list that `read` takes, wherever it lies."""
        rows = csv.writer(file, lineterminator="\n")
        most = 0
        if all(sample.frames is None for sample in self.samples):
            most = max(len(sample.labels) for sample in self.samples)
            rows.writerow(("path", *["label"] * most))
        for sample in self.samples:
            frames = () if sample.frames is None else (sample.frames,)
            missing = [""] * (most - len(sample.labels))
            rows.writerow((os.path.abspath(sample.path), *frames, *sample.labels, *missing))  # noqa: PTH100 - links stay

    def _means_numbers(self, names: Sequence[str]) -> bool:
        """Digits are numbers, unless the model's classes are called so."""
        return self.numbered and not set(self.labels) <= set(names)

    def _by_number(self, classes: int) -> dict[str, int]:
        for sample in self.samples:
            for label in sample.labels:
                if int(label) >= classes:
                    raise UsageError(
                        f"{self.source} gives {sample.path} the class number {label}, but the model has the classes 0 "
                        f"to {classes - 1}; check that the list and the model belong to the same data set"
                    )
        return {label: int(label) for label in self.labels}

    def _by_name(self, names: Sequence[str]) -> dict[str, int]:
        """Names that differ only in case, spaces and punctuation are the same, where that is not ambiguous."""
        exact = {name: index for index, name in enumerate(names)}
        loose: defaultdict[str, set[int]] = defaultdict(set)
        for index, name in enumerate(names):
            loose[plain(name)].add(index)
        found, unknown = {}, []
        for label in self.labels:
            alike = loose.get(plain(label), set())
            if label in exact:
                found[label] = exact[label]
            elif len(alike) == 1:
                (found[label],) = alike
            else:
                unknown.append(label)
        if unknown:
            raise UsageError(self._unknown(unknown, names))
        return found

    def _unknown(self, labels: Sequence[str], names: Sequence[str]) -> str:
        by_plain = {plain(name): name for name in names}
        near = [by_plain[name] for name in difflib.get_close_matches(plain(labels[0]), by_plain, n=3, cutoff=0.5)]
        nearest = f"the nearest: {', '.join(map(repr, near))}" if near else f"its classes are like {names[0]!r}"
        others = f" (nor {len(labels) - 1} more)" if len(labels) > 1 else ""
        return (
            f"{self.source} has the class {labels[0]!r}, which the model does not know{others}; {nearest}: rename it, "
            "or say what the model's classes are called with --labels FILE"
        )


@dataclass(frozen=True, kw_only=True)
class Finder:
    """How videos are found: `walk` gives those below a folder, `is_video` tells one by its name."""

    walk: Callable[[str], Iterator[str]]
    is_video: Callable[[str], bool]


def read(data: str, *, finder: Finder, root: Path | None = None) -> Dataset:
    """The videos of a folder or a list; those of a list lie in `root`, or else beside it."""
    path = Path(data)
    if path.is_dir():
        if root is not None:
            raise UsageError(f"--root says where the videos of a list are, but {data} is a folder; leave it out")
        return _class_folders(path, finder)
    if not path.exists():
        raise UsageError(f"there is no {data}; give a folder with one folder of videos a class, or a file of {_FORMS}")
    if finder.is_video(path.name):
        raise UsageError(f"{data} is a video without a label; give a folder with one folder a class, or a list")
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is not a folder; give the one in which the videos of {data} are")
    return _found(Dataset(tuple(_rows(path)), data), root or path.parent, finder)


def _class_folders(top: Path, finder: Finder) -> Dataset:
    folders = sorted(entry for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    samples = tuple(Sample(video, folder.name) for folder in folders for video in finder.walk(str(folder)))
    if not samples:
        raise UsageError(f"there are no videos in class folders of {top}; it must be like {top}/CLASS NAME/clip.mp4")
    return Dataset(samples, str(top))


def _rows(path: Path) -> Iterator[Sample]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read list {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"list {path} is not UTF-8 text; save it as UTF-8, with {_FORMS}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UsageError(f"list {path} is empty; it must have {_FORMS}")
    if path.suffix.lower() not in (".csv", ".tsv") and _SPACED.fullmatch(lines[0][1].strip()):
        return _spaced(path, lines)
    return _delimited(path, lines)


def _spaced(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Sample]:
    for number, line in lines:
        match = _SPACED.fullmatch(line.strip())
        if match is None:
            raise _no_row(path, number, line)
        name, frames, label = match.groups()
        yield Sample(name, label, frames=int(frames) if frames else None)


def _delimited(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Sample]:
    """`path,label`, with a heading or without, or `name,frames,label,…` with as many labels as there are; so many may
    be below a heading, too, which names their column as often."""
    first = lines[0][1]
    delimiter = next((d for d in _DELIMITERS if d in first), ",")
    try:
        rows = list(csv.reader((line for _, line in lines), delimiter=delimiter))
    except csv.Error as error:
        raise UsageError(f"list {path} is not a table: {error}; it must have {_FORMS}") from error
    cells_of = [[cell.strip() for cell in row] for row in rows]
    heading = [cell.casefold() for cell in cells_of[0]]
    path_at = next((heading.index(name) for name in _PATH_COLUMNS if name in heading), None)
    label_at = next((heading.index(name) for name in _LABEL_COLUMNS if name in heading), None)
    headed = path_at is not None and label_at is not None and len(heading) > 1
    if headed and len(lines) == 1:
        raise UsageError(f"list {path} has a heading, but no videos below it; it must have {_FORMS}")
    if unknown := _unknown_column(heading, path_at, label_at):
        raise UsageError(f"list {path} begins with {first.strip()!r}; call its column of {unknown}")
    more: tuple[tuple[str, str], ...] = ()
    also: tuple[str, ...] = ()
    for (number, line), cells in list(zip(lines, cells_of, strict=False))[headed:]:
        if path_at is not None and label_at is not None:
            more = tuple((name, cell) for name, cell in zip(heading, cells, strict=False))
            labels_at = [at for at, name in enumerate(heading) if name == heading[label_at]]
            shown = [cells[at] for at in labels_at if at < len(cells) and cells[at]]
            also = tuple(dict.fromkeys(label for label in shown[1:] if label != shown[0]))
            cells = [cells[path_at] if path_at < len(cells) else "", *shown[:1]]
        elif len(cells) > 2 and all(cell.isdecimal() for cell in cells[1:]):
            label, *others = sorted(set(cells[2:]), key=int)
            yield Sample(cells[0], label, tuple(others), int(cells[1]))
            continue
        if len(cells) != 2 or not all(cells):
            raise _no_row(path, number, line)
        yield Sample(cells[0], cells[1], also, cells=more)


def _unknown_column(heading: Sequence[str], path_at: int | None, label_at: int | None) -> str:
    """What the other column of a heading is to be called, if but one of its two has a name that we know."""
    if len(heading) != 2:
        return ""
    if path_at is not None and label_at is None and not heading[1 - path_at].isdecimal():
        return "labels label or class"
    if path_at is None and label_at == 1 and not Path(heading[0]).suffix:
        return "videos path or video"
    return ""


def _no_row(path: Path, number: int, line: str) -> UsageError:
    return UsageError(f"list {path}, line {number}: {line.strip()[:60]!r} is wrong; the list must have {_FORMS}")


def _found(dataset: Dataset, root: Path, finder: Finder) -> Dataset:
    """With paths instead of names; one that is not there stays, for whoever opens it to say so."""
    by_stem: dict[Path, dict[str, str]] = {}

    def path_of(name: str) -> str:
        path = root / name
        if path.exists():
            return str(path)
        if path.parent not in by_stem:
            by_stem[path.parent] = _videos_by_stem(path.parent, finder.is_video)
        return by_stem[path.parent].get(path.name, str(path))

    samples = tuple(replace(sample, path=path_of(sample.path)) for sample in dataset.samples)
    if not any(os.path.lexists(sample.path) for sample in samples):
        raise UsageError(
            f"none of the {len(samples)} videos of {dataset.source} is there, such as {samples[0].path}; "
            "give the folder that they are in with --root FOLDER"
        )
    return replace(dataset, samples=samples)


def _videos_by_stem(folder: Path, is_video: Callable[[str], bool]) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {entry.stem: str(entry) for entry in sorted(folder.iterdir(), reverse=True) if is_video(entry.name)}


def plain(name: str) -> str:
    """A name without case, spaces and punctuation.

    >>> plain("Shooting_Goal (soccer)")
    'shootinggoalsoccer'
    """
    return "".join(filter(str.isalnum, name.casefold()))
