"""From a file of records to pages of a thousand videos each, with a summary of all.

The file is read several times, so that memory holds one page and a number for every path.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import html
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path, PurePath
from string import Template
from typing import Any
from urllib.parse import quote

from adafocus_cli.errors import AdaFocusError, UsageError, printable
from adafocus_cli.files import replacing
from adafocus_cli.output.journal import not_a_record, whole_records
from adafocus_cli.output.records import RecordOrigin, as_our_errors, key_of
from adafocus_cli.report.pictures import PagePicture, PagePictures, find
from adafocus_cli.report.videos import Tagged, Video, video_of
from adafocus_cli.schema import FAILED_IN

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("elements.js", "shapes.js", "summary.js", "cards.js", "player.js", "main.js")


def page(title: str, data: dict[str, Any], details: Iterable[str]) -> Iterator[str]:
    """The page piece by piece; `details` are the videos' blocks, as `json_block` makes them, behind everything else."""
    script, style = _script(), _part("page.css")
    before, after = _part("page.html").split("$details")
    yield Template(before).substitute(
        policy=_policy(script, style),
        title=html.escape(title),
        style=style,
        data=json_block("page", data),
        script=script,
    )
    yield from details
    yield after


def is_page(path: Path) -> bool:
    """Whether a file begins as our pages do."""
    with path.open("rb") as file:
        return file.read(len(_part("page.html"))).startswith(_part("page.html").partition("$policy")[0].encode())


def json_block(name: str, data: Any) -> str:
    """An element that holds data; `name` is ours."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _policy(script: str, style: str) -> str:
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src 'self' file:; "
        f"script-src {_source(script)}; style-src {_source(style)}"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _script() -> str:
    return "(() => {\n'use strict';\n" + "\n".join(map(_part, _SCRIPTS)) + "})();\n"


@cache
def _part(name: str) -> str:
    return (_PARTS / name).read_text("utf-8")


# Costs are counted in parts of the full-frame cost of this many percent; the last one is open.
PERCENT = 5
PARTS = 100 // PERCENT + 1
MOST_REASONS = 50


@dataclass
class Summary:
    tagged: int = 0
    failed: int = 0
    seconds: float = 0.0
    gmacs: float = 0.0
    full_gmacs: float = 0.0
    looks: int = 0
    models: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)
    steps: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    costs: list[int] = field(default_factory=lambda: [0] * PARTS)

    def add(self, video: Video) -> None:
        if not isinstance(video, Tagged):
            self.failed += 1
            self.reasons[video.reason] += 1
            return
        self.tagged += 1
        self.seconds += video.duration
        self.gmacs += video.gmacs
        self.full_gmacs += video.full_gmacs
        self.looks += video.look_count
        self.models[video.model] += 1
        self.labels.update(dict.fromkeys((video.best, *video.also), 1))
        self.exits[video.exit_step] += 1
        self.steps = max(self.steps, video.exit_of)
        self.costs[min(max(int(100 * video.share / PERCENT), 0), PARTS - 1)] += 1

    @property
    def videos(self) -> int:
        return self.tagged + self.failed

    def to_dict(self) -> dict[str, Any]:
        """Lists of names and counts, the most frequent first; exits by step."""
        steps = max([self.steps, *(step + 1 for step in self.exits)])
        return {
            "tagged": self.tagged,
            "failed": self.failed,
            "seconds": round(self.seconds, 1),
            "gmacs": round(self.gmacs, 3),
            "full_gmacs": round(self.full_gmacs, 3),
            "looks": self.looks,
            "models": self.models.most_common(),
            "labels": self.labels.most_common(),
            "reasons": self.reasons.most_common(MOST_REASONS),
            "exits": [self.exits[step] for step in range(min(steps, 256))],
            "costs": self.costs,
        }


ON_A_PAGE = 1000
_PAGE_BYTES = 56_000_000  # a page with very long records ends before it has a thousand videos
_AT_ONCE = 100  # videos that are given to the decoding processes together

Progress = Callable[[int, int], None]
_JsonData = dict[str, Any]


@dataclass(frozen=True)
class BuiltPages:
    """The pages that were written; `missing` counts tagged videos whose files were not found."""

    videos: int
    missing: int
    pages: tuple[Path, ...]


def build(
    results: Path, output: Path, *, title: str, root: Path | None, thumbnails: int, progress: Progress
) -> BuiltPages:
    """Writes `output`, and further pages beside it; `root` is where the videos are now."""
    newest = _newest(results)
    summary = Summary()
    for video in _videos(results, newest):
        summary.add(video)
    if not summary.videos:
        raise AdaFocusError(f"{results} has no records; give a file that classify or batch has written")
    pages = _Pages(output, title, summary)
    missing = 0
    with PagePictures(thumbnails) as pictures:
        videos = ((video, find(video.path, root)) for video in _videos(results, newest))
        for done, (video, file, taken) in enumerate(_with_pictures(videos, pictures), 1):
            missing += file is None and isinstance(video, Tagged)
            pages.add(_row(video), _detail(video, file, taken, output.parent))
            progress(done, summary.videos)
    pages.finish()
    return BuiltPages(summary.videos, missing, tuple(pages.written))


def check_replaceable(output: Path) -> None:
    """Refuses to replace what is not a page of ours; of further pages, too."""
    for path in (output, *output.parent.glob(f"{glob.escape(output.stem)}-page-*{output.suffix}")):
        if path.is_file() and path.stat().st_size and not is_page(path):
            raise UsageError(
                f"{path} is there already, and was not written by adafocus report; give another file, or --overwrite "
                "to replace it"
            )


class _Pages:
    """Collects videos; a page is written when it is full and another video comes."""

    def __init__(self, output: Path, title: str, summary: Summary) -> None:
        self.written: list[Path] = []
        self._output, self._title, self._summary = output, title, summary
        self._before = 0
        self._begin()

    def _begin(self) -> None:
        self._rows: list[_JsonData] = []
        self._blocks: list[str] = []
        self._size = 0

    def add(self, row: _JsonData, detail: _JsonData) -> None:
        if len(self._rows) == ON_A_PAGE or self._size > _PAGE_BYTES:
            self._write(following=self._name(len(self.written) + 1))
        block = json_block(f"video-{len(self._rows)}", detail)
        self._rows.append(row)
        self._blocks.append(block)
        self._size += len(block)

    def finish(self) -> None:
        self._write(following=None)

    def _write(self, *, following: Path | None) -> None:
        path = self._name(len(self.written))
        data = {
            "title": self._title,
            "summary": self._summary.to_dict(),
            "before": self._before,
            "previous": quote(self.written[-1].name) if self.written else None,
            "next": quote(following.name) if following else None,
            "rows": self._rows,
        }
        with as_our_errors(path, "give another file after -o"), replacing(path) as file:
            for piece in page(self._title, data, self._blocks):
                file.write(piece.encode())
        self.written.append(path)
        self._before += len(self._rows)
        self._begin()

    def _name(self, number: int) -> Path:
        return self._output.with_stem(f"{self._output.stem}-page-{number + 1}") if number else self._output


def _newest(results: Path) -> frozenset[int]:
    """The places of the records that count: the last one of a path, for each of the settings."""
    last: dict[tuple[str, str], int] = {}
    for place, record in enumerate(whole_records(results)):
        origin = RecordOrigin.of(record)
        last[key_of(origin.path), sys.intern(origin.settings)] = place
    return frozenset(last.values())


def _videos(results: Path, newest: frozenset[int]) -> Iterator[Video]:
    for place, record in enumerate(whole_records(results)):
        if place not in newest:
            continue
        try:
            yield video_of(record)
        except ValueError:
            raise not_a_record(results, place) from None


def _with_pictures(
    videos: Iterator[tuple[Video, Path | None]], pictures: PagePictures
) -> Iterator[tuple[Video, Path | None, tuple[PagePicture, ...]]]:
    while part := list(islice(videos, _AT_ONCE)):
        for (video, file), taken in zip(part, pictures.of(part), strict=True):
            yield video, file, taken


def _row(video: Video) -> _JsonData:
    """The data of a video for search, filters and order."""
    name = PurePath(video.path).name
    row = {"name": printable(name), "folder": printable(video.path[: -len(name)].rstrip("/\\"))}
    if not isinstance(video, Tagged):
        failed = FAILED_IN.get(video.stage, f"failed in “{video.stage}”")
        return {**row, "reason": video.reason, "failed": failed}
    return {
        **row,
        "labels": [[tag.label, round(tag.score, 4)] for tag in video.labels],
        "also": video.also,
        "gmacs": round(video.gmacs, 4),
        "share": round(video.share, 4),
        "exit": [video.exit_step, video.exit_of],
        "seconds": round(video.duration, 3),
        "looks": video.look_count,
    }


def _detail(video: Video, file: Path | None, pictures: tuple[PagePicture, ...], folder: Path) -> _JsonData:
    """The data of a video for its card and the player."""
    if not isinstance(video, Tagged):
        return {}
    return {
        "size": [video.width, video.height],
        "fps": round(video.fps, 3),
        "frames": video.frames,
        "codec": video.codec,
        "model": video.model,
        "full": round(video.full_gmacs, 4),
        "stages": [[name, round(value, 4)] for name, value in video.stages.items()],
        "looks": [[round(look.time, 3), *(round(value, 1) for value in look.box)] for look in video.looks],
        "steps": [[round(score, 4) for score in step] for step in video.steps],
        "segments": [[round(s.start, 2), round(s.end, 2), s.label, round(s.score, 4)] for s in video.segments],
        "pictures": pictures,
        "file": None if file is None else _address(file, folder),
    }


def _address(file: Path, folder: Path) -> str:
    """Relative to the page, so that both can move together."""
    try:
        relative = os.path.relpath(file, folder)
    except ValueError:  # on another drive
        return file.absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))
