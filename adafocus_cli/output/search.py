"""What is looked for in files of records, and what is found: which videos have a label, when and where.

A hit is a segment of the label; of a label without one, its best window, the looks that speak for it, or all of the
video. Of records of the same video the last one counts. What need not be read is left out: a database has its labels
as rows, and a line of JSON without the text in it is not decoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from adafocus_cli.errors import AdaFocusError, UsageError, printable
from adafocus_cli.output.journal import record_file
from adafocus_cli.output.line_files import ArrayFile, LineFile
from adafocus_cli.output.records import RecordOrigin, best_window, is_flat, key_of, listed_path, parents_in
from adafocus_cli.output.sqlite import DatabaseFile
from adafocus_cli.schema import PatchBox, Record, Tag, path_fields, path_of
from adafocus_cli.video.remote import is_remote

FOUND = "adafocus-found/1"
_MOST_FOR_HINTS = 2000  # records of a file whose labels are compared with one that was not found


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a hit must be: `text` is a part of its label or its parent, `parent` one of its parent, in any case.

    `folder` is one that the video is in, at any depth; durations are those of the video, in seconds.
    """

    text: str = ""
    parent: str = ""
    min_score: float = 0.0
    folder: str | None = None
    min_duration: float = 0.0
    max_duration: float = float("inf")

    def names(self, label: str, parent: str | None) -> bool:
        text, wider = self.text.lower(), (parent or "").lower()
        return (text in label.lower() or text in wider) and self.parent.lower() in wider

    def has_score(self, score: float | None) -> bool:
        return not self.min_score or (score is not None and score >= self.min_score)

    def has_video(self, path: str, duration: float | None) -> bool:
        if self.folder is not None and not _is_below(path, self.folder):
            return False
        if duration is None:
            return not self.min_duration and self.max_duration == float("inf")
        return self.min_duration <= duration <= self.max_duration


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A label in a video; from when to when, in seconds, None where the record does not say.

    `looks` are those that speak for the label or, in families that cannot say so, all that were made meanwhile.
    """

    path: str
    duration: float | None
    label: str
    parent: str | None
    score: float | None
    start: float | None
    end: float | None
    looks: tuple[PatchBox, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As a line of JSON: the path is where a record has it, so that such lines can be read as a list of videos."""
        return {
            "schema": FOUND,
            "video": {**path_fields(self.path), "duration": self.duration},
            **{"label": self.label, "parent": self.parent, "score": self.score},
            **{"start": self.start, "end": self.end, "looks": [look.to_dict() for look in self.looks]},
        }


@dataclass(frozen=True)
class FoundVideo:
    """A video and its hits, in the order of the film."""

    path: str
    hits: tuple[Hit, ...]

    @property
    def best(self) -> float:
        return max(hit.score or 0.0 for hit in self.hits)


class Search:
    """The answer to a query: `videos`, those with the best score first."""

    def __init__(self, results: Sequence[Path], query: Query) -> None:
        self._results, self._query = results, query
        self._skips = _Skips(query)
        found: dict[_Identity, FoundVideo] = {}
        for identity, hits in self._hits():
            found.pop(identity, None)
            if hits:
                self._skips.count(identity)
                found[identity] = FoundVideo(hits[0].path, tuple(hits))
        self._identities = frozenset(found)
        self.videos = sorted(found.values(), key=lambda video: -video.best)

    def records(self) -> Iterator[Record]:
        """The whole records of these videos, read again; of several of one, the last counts."""
        for path in self._results:
            for record in self._records(path):
                if _identity(record) in self._identities:
                    yield record

    def nothing(self) -> AdaFocusError:
        """What to say where nothing was found."""
        text = self._query.text or self._query.parent
        names = {name for path in self._results for name in _labels_in(path)}
        near = get_close_matches(text, names, 1, 0.7) if text and not any(map(self._is_named, names)) else []
        next_step = f"the nearest name is {printable(near[0])!r}" if near else "give a part of a name, or fewer filters"
        what = f"no hit for {printable(text)!r}" if text else "no hit"
        return AdaFocusError(f"{what} in {', '.join(map(str, self._results))}; {next_step}")

    def _is_named(self, name: str) -> bool:
        return (self._query.text or self._query.parent).lower() in name.lower()

    def _hits(self) -> Iterator[tuple[_Identity, list[Hit]]]:
        for path in self._results:
            for record in self._records(path):
                try:
                    yield _identity(record), hits_of(record, self._query)
                except (KeyError, TypeError, ValueError, AttributeError):
                    text = "has something that is not a record of adafocus; take it out, or give another file"
                    raise UsageError(f"{path} {text}") from None

    def _records(self, path: Path) -> Iterator[Record]:
        file = record_file(path)
        if isinstance(file, DatabaseFile):
            return file.records(naming=self._query.names)
        if isinstance(file, (LineFile, ArrayFile)):
            return file.records(skip=self._skips)
        return file.records()


_Identity = tuple[str, str]
"""What tells records from one another: the key of the path, and the settings."""


def _identity(record: Record) -> _Identity:
    origin = RecordOrigin.of(record)
    return key_of(origin.path), origin.settings


class _Skips:
    """Which lines need not be decoded: those without the text, unless they may take the place of a record with it."""

    def __init__(self, query: Query) -> None:
        text = max(query.text, query.parent, key=len).lower()
        # What JSON spells in another way is not looked for in lines.
        plain = text.isascii() and text.isprintable() and not set(text) & set('"\\')
        self._text = text.encode() if plain else b""
        self._keys: set[str] = set()

    def count(self, identity: _Identity) -> None:
        """From now on, lines of this video are decoded."""
        self._keys.add(identity[0])

    def __call__(self, line: bytes) -> bool:
        if not self._text or self._text in line.lower():
            return False
        if not line.isascii() and any(letter in line for letter in _BECOME_ASCII):
            return False
        path = _PATH.match(line)
        return path is not None and key_of(path[1].decode()) not in self._keys


# The letters that become ASCII in lower case, which `bytes.lower` leaves as they are: the Kelvin sign and a dotted İ.
_BECOME_ASCII = ("\u212a".encode(), "\u0130".encode())
# How the lines of records begin whose path has nothing that is spelled out.
_PATH = re.compile(rb'\{"schema": "adafocus/1", "status": "\w+", "video": \{"path": "([^"\\]*)"')


def hits_of(record: Record, query: Query) -> list[Hit]:
    """The hits of one record, in the order of the film."""
    if is_flat(record):
        return _hits_of_row(record, query)
    if record["status"] != "ok":
        return []
    path, duration = path_of(record), record["video"].get("duration")
    if not query.has_video(path, duration):
        return []
    about = {"path": path, "duration": duration}
    tags = [tag for tag in map(Tag.from_dict, record["labels"]) if query.names(tag.label, tag.parent)]
    found = [*_segments(record, query, about, {tag.label: tag for tag in tags})]
    of_segments = {hit.label for hit in found}
    # A label below the score may have a segment above it.
    for raw, tag in zip(record["labels"], map(Tag.from_dict, record["labels"]), strict=True):
        if tag in tags and tag.label not in of_segments and query.has_score(tag.score):
            found.append(_of_label(record, raw, tag, about))
    return sorted(found, key=lambda hit: (hit.start or 0.0, hit.label))


def _segments(record: Record, query: Query, about: Mapping[str, Any], tags: Mapping[str, Tag]) -> Iterator[Hit]:
    segments = record.get("segments") or ()
    parents = parents_in(record) if segments else {}
    for each in segments:
        label, score = each["label"], each["score"]
        parent = parents.get(label)
        if query.names(label, parent) and query.has_score(score):
            span = each["start"], each["end"]
            looks = _looks(record, tags.get(label), span)
            yield Hit(**about, label=label, parent=parent, score=score, start=span[0], end=span[1], looks=looks)


def _of_label(record: Record, raw: Mapping[str, Any], tag: Tag, about: Mapping[str, Any]) -> Hit:
    span = best_window(record, raw)
    looks = _looks(record, tag, span)
    if span is None and tag.looks:
        span = min(look.time for look in looks), max(look.time for look in looks)
    start, end = span or (0.0, about["duration"])
    return Hit(**about, label=tag.label, parent=tag.parent, score=raw["score"], start=start, end=end, looks=looks)


def _looks(record: Record, tag: Tag | None, span: tuple[float, float] | None) -> tuple[PatchBox, ...]:
    steps = None if tag is None or tag.looks is None else set(tag.looks)
    looks = map(PatchBox.from_dict, record["trajectory"])
    return tuple(
        look
        for look in looks
        if (steps is None or look.step in steps) and (span is None or span[0] <= look.time <= span[1])
    )


def _hits_of_row(row: Record, query: Query) -> list[Hit]:
    """A row of CSV has labels and scores only."""
    path, duration = listed_path(row), float(row["duration"]) if row.get("duration") else None
    if row["status"] != "ok" or not query.has_video(path, duration):
        return []
    hits = []
    for entry in _LISTED.split(str(row["labels"] or "")):
        name, _, number = entry.replace("\\|", "|").rpartition(":")
        score = float(number) if number else None
        if name and query.names(name, None) and query.has_score(score):
            about: dict[str, Any] = {"path": path, "duration": duration, "parent": None, "start": None, "end": None}
            hits.append(Hit(**about, label=name, score=score))
    return hits


_LISTED = re.compile(r"(?<!\\)\|")


def _is_below(path: str, folder: str) -> bool:
    if is_remote(path) or is_remote(folder):
        return path.startswith(f"{folder.rstrip('/')}/")
    return key_of(path).startswith(os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118


def _labels_in(results: Path) -> Iterator[str]:
    for record in islice(record_file(results).records(), _MOST_FOR_HINTS):
        for hit in hits_of(record, Query()):
            yield from filter(None, (hit.label, hit.parent))
