"""What is written of a stream: records as `batch` writes them, pictures of what appears, a table that stays in place.

A record is of a stretch of the stream: as long as it goes on without a break, and no longer than it is told.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adafocus_cli.errors import AdaFocusError, printable
from adafocus_cli.files import replacing
from adafocus_cli.labels import LabelSet
from adafocus_cli.output.journal import Journal
from adafocus_cli.output.table import heading, scores_grid, video_facts
from adafocus_cli.output.texts import clock, percent
from adafocus_cli.output.writers import WriterOptions
from adafocus_cli.schema import Failure, LiveSpan, PatchBox, Tag, VideoResult, utc_text
from adafocus_cli.timeline import Part, joined
from adafocus_cli.video.windows import Window

Piece = tuple[int, int]


class StreamRecords:
    """Writes a record of each stretch, of at most `longest` seconds, with the windows that it had."""

    def __init__(
        self,
        journal: Journal,
        labels: LabelSet,
        *,
        top_k: int,
        min_score: float,
        longest: float,
    ) -> None:
        self._journal = journal
        self._labels, self._top_k, self._min_score = labels, top_k, min_score
        self._longest = longest
        self._parts: list[Part] = []
        self._spans: list[LiveSpan] = []
        self._piece: Piece | None = None

    def __enter__(self) -> StreamRecords:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, window: Window, result: VideoResult, frames: frozenset[int], piece: Piece) -> None:
        if self._parts and (piece != self._piece or window.end - self._parts[0].window.start > self._longest):
            self.flush()
        self._piece = piece
        assert result.live is not None
        self._parts.append(Part.of(window, result, frames))
        self._spans.append(result.live)

    def fail(self, failure: Failure) -> None:
        """A time in which there was nothing."""
        self.flush()
        assert failure.live is not None
        self._journal.write(replace(failure, path=_path_of(failure.path, failure.live)), None)

    def flush(self) -> None:
        """Writes what there is of a stretch."""
        if not self._parts:
            return
        parts, spans = self._parts, self._spans
        self._parts, self._spans = [], []
        self._journal.write(self._stretch(parts, spans), None)

    def _stretch(self, parts: list[Part], spans: list[LiveSpan]) -> VideoResult:
        """Times and numbers of frames count from its first window."""
        first = parts[0].window
        moved = [_moved(part, first.start, first.frames.start) for part in parts]
        result = joined(moved, self._labels, top_k=self._top_k, min_score=self._min_score)
        video = parts[-1].result.video
        frames = max(part.window.frames.stop for part in parts) - first.frames.start
        live = LiveSpan(
            since=spans[0].since,
            until=spans[-1].until,
            start=spans[0].start,
            end=spans[-1].end,
            windows_dropped=sum(span.windows_dropped for span in spans),
            frames_dropped=sum(span.frames_dropped for span in spans),
        )
        duration = frames / video.fps if video.fps else None
        replaced = sum(part.result.video.frames_replaced for part in parts)
        path = _path_of(video.path, live)
        video = replace(video, path=path, frames=frames, duration=duration, frames_replaced=replaced)
        return replace(result, video=video, live=live)


def _path_of(name: str, live: LiveSpan) -> str:
    return f"{name}#{utc_text(live.since)}"


def _moved(part: Part, seconds: float, frames: int) -> Part:
    if not seconds and not frames:
        return part

    def move(look: PatchBox) -> PatchBox:
        return replace(look, frame=look.frame - frames, time=look.time - seconds)

    old = part.window
    numbers = range(old.frames.start - frames, old.frames.stop - frames)
    window = replace(old, start=old.start - seconds, end=old.end - seconds, frames=numbers)
    trajectory = tuple(map(move, part.result.trajectory))
    return Part(window, replace(part.result, trajectory=trajectory), frozenset(n - frames for n in part.frames))


class Snapshots:
    """A picture of each label when it appears: when it reaches a score that it had not in the window before."""

    def __init__(self, folder: Path, min_score: float) -> None:
        self._folder, self._min_score = folder, min_score
        self._there: frozenset[int] = frozenset()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AdaFocusError(f"cannot write to {folder}: {error.strerror}; give another folder") from None

    def add(self, result: VideoResult, frames: frozenset[int], picture: Callable[[int], np.ndarray]) -> list[Path]:
        """The files that were written."""
        above = [tag for tag in result.labels if tag.score >= self._min_score]
        new = [tag for tag in above if tag.index not in self._there]
        self._there = frozenset(tag.index for tag in above)
        return [self._write(tag, result, picture(frame_of(tag, result, frames))) for tag in new]

    def _write(self, tag: Tag, result: VideoResult, picture: np.ndarray) -> Path:
        assert result.live is not None
        moment = utc_text(result.live.since).replace(":", "-")
        label = re.sub(r"[^\w .+-]", "_", printable(tag.label))[:80]
        path = self._folder / f"{moment} {label} {tag.score:.2f}.jpg"
        try:
            with replacing(path) as file:
                Image.fromarray(picture).save(file, "JPEG", quality=90)
        except OSError as error:
            raise AdaFocusError(f"cannot write {path}: {error.strerror}; give another folder") from error
        return path


def frame_of(tag: Tag, result: VideoResult, frames: frozenset[int]) -> int:
    """The frame of the look that speaks for a label; where none is known to, the middle one of those that were seen."""
    if tag.looks:
        return result.trajectory[tag.looks[0]].frame
    return sorted(frames)[len(frames) // 2]


_ROWS = 12


@dataclass
class _Sums:
    windows: int = 0
    windows_dropped: int = 0
    frames_dropped: int = 0


class LiveTable:
    """The last window in full, the labels of those before it, and what was left out; drawn over itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = Console()
        self._width = min(self._console.width, 100)
        self._view = WriterOptions()
        self._last: VideoResult | None = None
        self._rows: deque[tuple[float, str, str]] = deque(maxlen=_ROWS)
        self._sums = _Sums()
        self._drawn = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> LiveTable:
        self._drawn.start()
        self._drawn.update(self._table(), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Off the screen for the time of the block, and drawn again below what that writes."""
        self._drawn.transient = True
        self._drawn.stop()
        self._drawn.transient = False
        try:
            yield
        finally:
            self._drawn.start(refresh=True)

    def write(self, result: VideoResult | Failure) -> None:
        assert result.live is not None
        if isinstance(result, Failure):
            self._rows.appendleft((result.live.until, "nothing came" if result.stage != "infer" else "no answer", ""))
        else:
            self._last = result
            best = result.labels[0] if result.labels else None
            text, score = (best.label, percent(best.score)) if best else ("no label", "")
            self._rows.appendleft((result.live.until, text, score))
            self._sums.windows += 1
        self._sums.windows_dropped += result.live.windows_dropped
        self._sums.frames_dropped += result.live.frames_dropped
        self._drawn.update(self._table(), refresh=True)

    def _table(self) -> RenderableType:
        if self._last is None:
            return heading(self._name, Text("waiting for the first window", style="dim"), self._width)
        parts: Sequence[RenderableType] = (
            heading(self._name, Text(video_facts(replace(self._last.video, duration=None)), style="dim"), self._width),
            scores_grid(self._last, self._view, bar_width=self._width // 3),
            Text(),
            self._history(),
            Text(self._counts(), style="dim"),
        )
        return Group(*parts)

    def _history(self) -> Table:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="ellipsis", no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        for moment, text, score in self._rows:
            grid.add_row(time.strftime("%H:%M:%S", time.localtime(moment)), Text(printable(text)), score)
        return grid

    def _counts(self) -> str:
        assert self._last is not None
        assert self._last.live is not None
        parts = [f"{self._sums.windows} windows", clock(self._last.live.end or 0)]
        if self._sums.windows_dropped:
            parts.append(f"{self._sums.windows_dropped} left out")
        if self._sums.frames_dropped:
            parts.append(f"{self._sums.frames_dropped} frames lost")
        return " · ".join(parts)
