"""From a model's labels to one's own tags and the categories above them, as a file says.

Knows nothing of what is done with tags.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from adafocus_cli.errors import UsageError
from adafocus_cli.output.escape import printable

_HOW = "label: tag, label: [tags], or label: {tags: [tags], parents: [categories]}"


@dataclass(frozen=True)
class Entry:
    """A label's own names, and the categories that they are in, the widest first."""

    tags: tuple[str, ...]
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class TagMap:
    """A label that it does not name stays as it is; one with an empty list of tags is left out."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    source: str = ""

    def of(self, label: str) -> tuple[str, ...]:
        return self._entry(label).tags

    def all_of(self, label: str) -> tuple[str, ...]:
        """Its tags and the categories above them."""
        entry = self._entry(label)
        return (*entry.tags, *entry.parents) if entry.tags else ()

    def paths_of(self, label: str) -> tuple[str, ...]:
        """Each tag with its categories, the widest first, separated by `|`; none where there are no categories."""
        entry = self._entry(label)
        return tuple("|".join((*entry.parents, tag)) for tag in entry.tags if entry.parents)

    def check(self, labels: Sequence[str]) -> None:
        """Refuses a name that is no label of the model."""
        for name in self.entries:
            if name not in labels:
                near = get_close_matches(name, labels, 1, 0.0)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise UsageError(f"{self.source} maps {printable(name)!r}, which is no label of the model{hint}")

    def _entry(self, label: str) -> Entry:
        return self.entries.get(label, Entry((label,)))


def read(path: Path) -> TagMap:
    """YAML, or CSV with the columns label, tags, and parents, in which `|` separates several."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path after --map") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    entries = _from_csv(text, path) if path.suffix.lower() == ".csv" else _from_yaml(text, path)
    return TagMap(entries, str(path))


def _from_csv(text: str, path: Path) -> dict[str, Entry]:
    rows = csv.DictReader(io.StringIO(text))
    if not {"label", "tags"} <= set(rows.fieldnames or ()):
        raise UsageError(f"{path} needs a first line with the columns label,tags or label,tags,parents")
    return {row["label"]: Entry(_split(row["tags"]), _split(row.get("parents"))) for row in rows}


def _split(cell: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (cell or "").split("|") if name.strip())


def _from_yaml(text: str, path: Path) -> dict[str, Entry]:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML; lines are {_HOW}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} maps nothing; lines are {_HOW}")
    return {str(label): _entry(value, str(label), path) for label, value in values.items()}


def _entry(value: Any, label: str, path: Path) -> Entry:
    parts = value if isinstance(value, dict) else {"tags": value}
    if not parts.keys() <= {"tags", "parents"} or "tags" not in parts:
        raise UsageError(f"{path}: {printable(label)!r} has something else than tags and parents; lines are {_HOW}")
    return Entry(*(_names(parts.get(name), label, path) for name in ("tags", "parents")))


def _names(value: Any, label: str, path: Path) -> tuple[str, ...]:
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str | int | float) for name in names):
        raise UsageError(f"{path}: {printable(label)!r} is mapped to something that is no name; lines are {_HOW}")
    return tuple(map(str, names))
