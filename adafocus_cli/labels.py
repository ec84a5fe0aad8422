"""The names of the classes, read from a file or from the package, and the scores that they get.

Knows nothing of models; a model asks for as many names as it has outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.schema import Tag
from adafocus_cli.spec import scores_are_independent

if TYPE_CHECKING:  # what lists labels only need not wait for numpy
    import numpy as np


@dataclass(frozen=True)
class LabelSet:
    """One name a class, and where a list has them, wider names: `dog` for a breed."""

    names: tuple[str, ...]
    source: str
    parents: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def parent(self, index: int) -> str | None:
        return self.parents[index] if self.parents else None

    def checked(self, classes: int) -> LabelSet:
        """Itself, if it has one name for each of the model's classes."""
        if len(self) != classes:
            raise ModelError(
                f"label list {self.source} has {len(self)} names, but the model answers {classes} classes; "
                "give the list it was trained with (--labels FILE), or none to see class numbers"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a packaged list is from, and how sure it is that its order is that of the models' classes."""

    title: str
    order: str
    sureness: Literal["high", "medium"]
    reason: str


def resolve(labels: str | Path | Sequence[str] | LabelSet | None, *, dataset: str | None, classes: int) -> LabelSet:
    """The names for a model: those asked for, else its data set's packaged list, else `class 17`."""
    if labels is None:
        if dataset is not None and dataset in packaged_names():
            return packaged(dataset).checked(classes)
        return LabelSet(tuple(f"class {i}" for i in range(classes)), "numbers")
    if isinstance(labels, LabelSet):
        return labels.checked(classes)
    if not isinstance(labels, str | Path):
        return LabelSet(tuple(labels), "the names given").checked(classes)
    if str(labels) in packaged_names() and not Path(labels).exists():
        return packaged(str(labels)).checked(classes)
    return read(labels).checked(classes)


def packaged_names() -> tuple[str, ...]:
    """The data sets whose class names come with the package."""
    folder = resources.files("adafocus_cli") / "data" / "labels"
    return tuple(sorted(f.name.removesuffix(".txt") for f in folder.iterdir() if f.name.endswith(".txt")))


def packaged(dataset: str) -> LabelSet:
    if dataset not in packaged_names():
        raise UsageError(f"no packaged label list {dataset!r}; there are {', '.join(packaged_names())}")
    text = (resources.files("adafocus_cli") / "data" / "labels" / f"{dataset}.txt").read_text("utf-8")
    entries = [line.partition("\t") for line in text.splitlines()]
    parents = tuple(parent or None for _, _, parent in entries)
    return LabelSet(tuple(name for name, _, _ in entries), dataset, parents if any(parents) else ())


def origin(dataset: str) -> Origin:
    """What is known about a packaged list."""
    text = (resources.files("adafocus_cli") / "data" / "labels.yaml").read_text("utf-8")
    return Origin(**yaml.safe_load(text)[dataset])


def read(path: str | Path) -> LabelSet:
    """A text file with one name a line, or `index,name` lines in any order."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        known = ", ".join(packaged_names())
        raise UsageError(
            f"cannot read label list {path}: {error.strerror}; give a text file or one of {known}"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"label list {path} is not UTF-8 text; save it as UTF-8, one name a line") from error
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ModelError(f"label list {path} is empty; one name a line is expected")
    numbered = [_split_index(line) for line in lines if line]
    if all(entry is not None for entry in numbered):
        return LabelSet(_in_order([e for e in numbered if e is not None], path), str(path))
    blank = next((n for n, line in enumerate(lines, 1) if not line), None)
    if blank is not None:
        raise ModelError(f"label list {path}, line {blank}: a class has no name; every line must have one")
    return LabelSet(tuple(lines), str(path))


def _split_index(line: str) -> tuple[int, str] | None:
    """'3,Archery' → (3, 'Archery'); None for a plain name."""
    index, comma, name = line.partition(",")
    return (int(index), name.strip()) if comma and index.strip().isdecimal() and name.strip() else None


def _in_order(entries: list[tuple[int, str]], path: str | Path) -> tuple[str, ...]:
    by_index = dict(entries)
    if len(by_index) != len(entries):
        twice = next(i for i, _ in entries if sum(j == i for j, _ in entries) > 1)
        raise ModelError(f"label list {path} names class {twice} twice; every index once, from 0")
    missing = next((i for i in range(len(by_index)) if i not in by_index), None)
    if missing is not None:
        raise ModelError(f"label list {path} has no name for class {missing}; every index once, from 0")
    return tuple(by_index[i] for i in range(len(by_index)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last dimension, in double precision, so that sure answers do not become equal."""
    import numpy as np

    spread = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(spread / spread.sum(axis=-1, keepdims=True))


def scores_of(logits: np.ndarray, family: str) -> np.ndarray:
    """The scores of a family's answers: a chance for each label, or one that all share."""
    import numpy as np

    if not scores_are_independent(family):
        return softmax(logits)
    return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50))))


def best_tags(
    scores: np.ndarray, labels: LabelSet, *, top_k: int, min_score: float, held: Collection[int] = ()
) -> tuple[Tag, ...]:
    """The best labels; of equal scores the lower index first. Those in `held` may have a score below `min_score`."""
    import numpy as np

    told = scores >= min_score
    told[list(held)] = True
    order = np.argsort(-scores, kind="stable")
    best = order[told[order]][:top_k]
    return tuple(Tag(labels[i], int(i), float(scores[i]), labels.parent(i)) for i in best)


def tags_or_guess(
    scores: np.ndarray, labels: LabelSet, *, top_k: int, min_score: float, held: Collection[int] = ()
) -> tuple[tuple[Tag, ...], Tag | None]:
    """The best labels, those in `held` whatever their score; the second is the best guess where there are none."""
    tags = best_tags(scores, labels, top_k=top_k, min_score=min_score, held=held)
    return tags, None if tags else best_tags(scores, labels, top_k=1, min_score=0.0)[0]
