"""Results for people at a terminal: one block a video, printed when the video is done.

Beside labels and costs, a block shows where the model looked, with letters: a map of the picture, an arrow for each
look, and, if wanted, a table of the steps.

    ······▒▒····  ↖↖←··→↘
    ·····░▓▓▒···  7 × between 0.3 and 9.6 s

Words are red, magenta or as the terminal has them: other colours cannot be read on white. All of it can be read without
colours. Names from outside are never taken for markup or control sequences.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.errors import counted, printable
from adafocus_cli.labels import scores_of
from adafocus_cli.output.texts import clock_to_tenths, duration, percent
from adafocus_cli.output.writers import CsvWriter, JsonLinesWriter, JsonWriter, Sink, Writer, WriterOptions
from adafocus_cli.schema import (
    FAILED_IN,
    Box,
    Failure,
    PatchBox,
    Result,
    Segment,
    VideoInfo,
    VideoResult,
    in_gmacs,
    share_of,
)
from adafocus_cli.video.framing import CROP, Geometry

_WIDEST = 100  # wider lines are hard to read across
_BAR = "━"
_HALF_BAR = "╸"
_REST_OF_BAR = "─"


class TableWriter(Writer):
    def __init__(self, sink: Sink, view: WriterOptions) -> None:
        super().__init__(sink, view)
        # It lays out; the sink writes. From its file it learns how wide and how colourful the other end is.
        self._console = Console(file=sys.stdout if sink.is_terminal else io.StringIO())
        self._console.width = min(self._console.width, _WIDEST)
        self._began = monotonic()
        self._tagged = 0
        self._failed = 0
        self._gmacs = 0.0
        self._full_gmacs = 0.0

    def write(self, result: Result) -> None:
        if isinstance(result, Failure):
            self._failed += 1
            self._print(_failure_block(result, self._console.width))
        else:
            self._tagged += 1
            self._gmacs += result.cost.gmacs
            self._full_gmacs += result.cost.full_frame_gmacs or 0.0
            self._print(_result_block(result, self.view, self._console.width))

    def close(self) -> None:
        if self._tagged + self._failed > 1:
            self._print(self._summary())

    def _print(self, block: RenderableType) -> None:
        with self._console.capture() as capture:
            self._console.print(block)
            self._console.print()
        self.sink.write("".join(f"{line.rstrip(' ')}\n" for line in capture.get().splitlines()))

    def _summary(self) -> Text:
        parts = [f"{self._tagged} tagged"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        parts.append(duration(monotonic() - self._began))
        if self._tagged:
            mean = self._gmacs / self._tagged
            parts.append(f"{in_gmacs(mean)} a video{_share(share_of(self._gmacs, self._full_gmacs))}")
        text = Text(" · ".join(parts), style="bold")
        if self._failed:
            text.highlight_words([parts[1]], "red")
        return text


def _failure_block(failure: Failure, width: int) -> RenderableType:
    # As a rule the message opens with the path, which stands above it already.
    message = printable(failure.message).removeprefix(f"{printable(failure.path)}: ")
    return Group(
        heading(failure.path, Text(f"✗ {FAILED_IN[failure.stage]}", style="bold red"), width),
        _indented(Text(message, style="red")),
    )


def _result_block(result: VideoResult, view: WriterOptions, width: int) -> RenderableType:
    video = result.video
    return Group(
        heading(video.path, Text(video_facts(video), style="dim"), width),
        _indented(scores_grid(result, view, bar_width=width // 3)),
        _indented(_details(result, bar_width=width // 6)),
        *([_indented(steps_table(result))] if view.steps and result.trajectory else []),
    )


def heading(path: str, about: Text, width: int) -> RenderableType:
    """The name on the left and what it is on the right; below each other where that is too narrow."""
    name = Text(printable(path), style="bold", overflow="fold")
    gap = width - name.cell_len - about.cell_len
    if gap < 2:
        return Group(name, _indented(about))
    return Text.assemble(name, " " * gap, about)


def scores_grid(result: VideoResult, view: WriterOptions, *, bar_width: int) -> RenderableType:
    if not result.labels:
        return _no_label(result, view)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold")
    grid.add_column(width=bar_width, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for rank, tag in enumerate(result.labels):
        style = "bold" if rank == 0 else ""
        grid.add_row(
            Text(printable(tag.label), style=style),
            _bar(tag.score, bar_width, "green" if rank == 0 else "cyan"),
            Text(percent(tag.score), style=style),
        )
    return grid


def _bar(share: float, width: int, style: str) -> Text:
    halves = round(2 * width * min(max(share, 0.0), 1.0))
    return Text(_BAR * (halves // 2) + _HALF_BAR * (halves % 2), style=style)


def _meter(share: float, width: int) -> Text:
    """A bar that shows also what is not in it."""
    filled = _bar(share, width, "magenta")
    filled.append(_REST_OF_BAR * (width - len(filled)), style="dim")
    return filled


def _no_label(result: VideoResult, view: WriterOptions) -> Text:
    sure = "nothing that it knows" if view.min_score is None else f"no label of {view.min_score:g} or more"
    text, guess = Text(sure, style="bold"), result.best_guess
    if guess is not None:
        text.append(f", best guess {printable(guess.label)} {percent(guess.score)}", style="dim")
    return text


def _details(result: VideoResult, *, bar_width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    cost = result.cost
    spent = Text(f"{in_gmacs(cost.gmacs)}{_share(cost.share)}")
    if cost.share is not None:
        spent = Text.assemble(_meter(cost.share, bar_width), "  ", spent)
    grid.add_row("cost", spent)
    if result.trajectory and len(result.windows) < 2:  # of a long film there are thousands
        grid.add_row("looked", looks_text(result.trajectory, result.video, skipped=len(result.skipped or ())))
    if result.exit.step + 1 < result.exit.of:
        grid.add_row("sure", Text(f"after {result.exit.step + 1} of {result.exit.of} steps"))
    if result.segments:
        grid.add_row("when", segments_text(result.segments))
    grid.add_row("frames", _frames(result))
    seconds = " + ".join(f"{name} {value:.2f}" for name, value in result.runtime.seconds.items())
    grid.add_row("seconds", Text(f"{seconds}, on {printable(result.runtime.device)}"))
    return grid


def _frames(result: VideoResult) -> Text:
    video = result.video
    text = Text(f"{result.frames_decoded} of {video.frames} decoded with {printable(video.decoder)}")
    if video.decode == "fast":
        seconds = f" ({video.frames_off / video.fps:.1f} s)" if video.fps else ""
        text.append(f", keyframes up to {video.frames_off} away{seconds}")
    if video.frames_replaced:
        text.append(f", {video.frames_replaced} damaged and replaced", style="red")
    if video.packets_damaged:
        text.append(f", {video.packets_damaged} packets damaged", style="red")
    return text


def video_facts(video: VideoInfo) -> str:
    facts = [f"{video.width}×{video.height}"]
    if video.fps is not None:
        facts.append(f"{video.fps:.4g} fps")
    if video.duration is not None:
        facts.append(duration(video.duration))
    facts.append(printable(video.codec))
    return " · ".join(facts)


def _share(share: float | None) -> str:
    return "" if share is None else f", {percent(share, digits=0)} of whole frames"


def _indented(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 0, 2))


# By third of the way that a patch can move: rows from the top, columns from the left.
_ARROWS = ("↖↑↗", "←·→", "↙↓↘")
# By share of the looks, from none to all.
_SHADES = "·░▒▓█"
_MAP_ROWS = 4
_MAP_COLUMNS = range(4, 21)
_MOST_ARROWS = 48
_LETTER = 0.5  # width to height, about


def looks_text(trajectory: Sequence[PatchBox], video: VideoInfo, *, skipped: int = 0) -> RenderableType:
    """The map, and beside it the arrows in the order of the film."""
    in_order = sorted(trajectory, key=lambda patch: (patch.time, patch.step))
    seen = _seen(video)
    first, last = in_order[0].time, in_order[-1].time
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(
        Text("\n".join(place_map(in_order, video)), style="magenta"),
        Text.assemble(
            ("".join(arrow(patch.box, seen) for patch in in_order[:_MOST_ARROWS]), "magenta"),
            ("…" if len(in_order) > _MOST_ARROWS else "", "magenta"),
            (f"\n{len(in_order)} × between {first:.1f} and {last:.1f} s", "dim"),
            (f", {counted(skipped, 'frame')} skipped" if skipped else "", "dim"),
        ),
    )
    return grid


def place_map(trajectory: Sequence[PatchBox], video: VideoInfo) -> list[str]:
    """The picture in a few rows; the darker a place, the more looks had it in them."""
    wanted = round(_MAP_ROWS / _LETTER * video.width / video.height)
    columns = min(max(wanted, _MAP_COLUMNS.start), _MAP_COLUMNS.stop - 1)
    x = (np.arange(columns) + 0.5) * video.width / columns
    y = (np.arange(_MAP_ROWS) + 0.5) * video.height / _MAP_ROWS
    boxes = np.array([patch.box for patch in trajectory])[:, :, None, None]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y[:, None]) & (y[:, None] < boxes[:, 3])
    shades = np.ceil(inside.mean(axis=0) * (len(_SHADES) - 1)).astype(int)
    return ["".join(_SHADES[shade] for shade in row) for row in shades]


def arrow(box: Box, seen: Box) -> str:
    """Which way a patch lies from the middle of what the model sees.

    >>> arrow((10, 0, 110, 100), (10, 0, 310, 100))
    '←'
    """
    row = _third(box[1] - seen[1], (seen[3] - seen[1]) - (box[3] - box[1]))
    column = _third(box[0] - seen[0], (seen[2] - seen[0]) - (box[2] - box[0]))
    return _ARROWS[row][column]


def steps_table(result: VideoResult) -> RenderableType:
    """A row for each look, in looking order, with what the best label's score was after it."""
    scores = _scores_by_step(result)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("look", "frame", "at"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where, in pixels", no_wrap=True)
    if scores:
        table.add_column(printable(result.labels[0].label), justify="right", no_wrap=True, max_width=20)
    seen = _seen(result.video)
    for patch in result.trajectory:
        left, top, right, bottom = (math.floor(value + 0.5) for value in patch.box)
        where = f"{arrow(patch.box, seen)} {left},{top} – {right},{bottom}"
        score = [percent(scores[patch.step]) if patch.step < len(scores) else ""] if scores else []
        table.add_row(str(patch.step + 1), str(patch.frame), f"{patch.time:.2f} s", where, *score)
    return table


def _scores_by_step(result: VideoResult) -> list[float]:
    """Of the best label; empty for models whose answers do not go with looks one by one."""
    answers, steps = result.step_logits, len(result.trajectory) + len(result.skipped or ())
    one_by_one = all(before.step < after.step for before, after in pairwise(result.trajectory))
    if not one_by_one or not result.labels or len(answers) < 2 or len(answers) > steps:
        return []
    return [float(score) for score in scores_of(answers, result.model.family)[:, result.labels[0].index]]


def _seen(video: VideoInfo) -> Box:
    return Geometry(video.width, video.height).to_source((0.0, 0.0, CROP, CROP))


def _third(offset: float, room: float) -> int:
    """0, 1 or 2: how far along its room; the middle where there is none to move in."""
    if room <= 1e-6:
        return 1
    return min(max(int(3 * offset / room), 0), 2)


_MOST = 20


def segments_text(segments: Sequence[Segment]) -> Text:
    lines = [
        f"{clock_to_tenths(s.start)}–{clock_to_tenths(s.end)}  {printable(s.label)}  {percent(s.score, digits=0)}"
        for s in segments[:_MOST]
    ]
    if more := len(segments) - len(lines):
        lines.append(f"… and {more} more; --format json has them all")
    return Text("\n".join(lines))


WRITERS: dict[str, type[Writer]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
}
