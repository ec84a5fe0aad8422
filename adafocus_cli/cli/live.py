"""`adafocus live`: tags a camera or a stream as it passes, window by window."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import is_video_name
from adafocus_cli.cli.terminal import Terminal, delayed_signals
from adafocus_cli.errors import UsageError, VideoError, counted
from adafocus_cli.requests import ModelRequest, TagRequest

if TYPE_CHECKING:
    from adafocus_cli.engine.live import LiveResult
    from adafocus_cli.output.live import LiveTable, Snapshots, StreamRecords
    from adafocus_cli.output.records import Mode
    from adafocus_cli.output.writers import Writer
    from adafocus_cli.tagger import ClipTagger
    from adafocus_cli.video.live import LiveSource

HELP = """Tag a camera or a stream as it passes, window by window.

Windows are as long as the model wants them, or 4 seconds; --window and --stride say otherwise. Keeps up with the \
source: windows for which there is no time are left out and counted. A source that breaks off is \
tried again."""

EXAMPLES = """[bold]Examples[/bold]

A network camera, until Ctrl-C:
  [cyan]adafocus live rtsp://10.0.0.7/stream1 --window 4 --stride 2[/cyan]
The first camera of this machine, for an hour, with records for a report:
  [cyan]adafocus live 0 --for 1h -o camera.jsonl[/cyan]
A picture whenever something is seen:
  [cyan]adafocus live rtsp://10.0.0.7/stream1 --snapshot seen/ --snapshot-score 0.6[/cyan]
From a pipe, results into a pipe:
  [cyan]ffmpeg -i SOURCE -c copy -f mpegts - | adafocus live - | jq[/cyan]

[bold]Exit status[/bold]

0 ended by itself or by --for or --until · 1 the source never came
2 wrong usage · 3 the source was lost · 130 interrupted"""

# Of a window, where neither the command line nor the model says it.
_WINDOW_SECONDS = 4.0
# How often it is said that windows are left out.
_SAY_SECONDS = 60.0


def duration_of(text: str, option: str) -> float:
    """
    >>> duration_of("90", "--for"), duration_of("1h30m", "--for"), duration_of("1.5m", "--for")
    (90.0, 5400.0, 90.0)
    """
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms]?)", text)
    seconds = float(sum(float(number) * units[unit] for number, unit in parts))
    if not parts or "".join(number + unit for number, unit in parts) != text or not seconds > 0:
        raise UsageError(f"{option} {text} is not a duration; give seconds above 0, or one such as 90s, 10m or 1h30m")
    return seconds


def moment_of(text: str) -> float:
    """A time of day, today or tomorrow, or a date and time; in seconds from 1970."""
    now = datetime.now().astimezone()
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            parts = [int(part) for part in (text + ":00").split(":")[:3]]
            moment = now.replace(hour=parts[0], minute=parts[1], second=parts[2], microsecond=0)
            return (moment if moment > now else moment + timedelta(days=1)).timestamp()
        moment = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError:
        raise UsageError(f"--until {text} is not a time; give one such as 18:30 or 2026-05-01T18:30") from None
    if moment <= now:
        raise UsageError(f"--until {text} has passed; give a time to come")
    return moment.timestamp()


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A camera such as 0 or /dev/video0, rtsp://, http://, https://, udp://, or - for a stream on stdin.",
    ),
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", rich_help_panel=options.LIVE, help="Stop after 90, 10m or 1h30m."),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        rich_help_panel=options.LIVE,
        help="Stop at a time, such as 18:30 or 2026-05-01T18:30.",
    ),
]
Patience = Annotated[
    str,
    typer.Option(
        "--patience",
        metavar="DURATION",
        rich_help_panel=options.LIVE,
        help="Keep trying for so long when the source does not come, or breaks off.",
    ),
]
LiveFormat = Literal["table", "jsonl"]
FormatOption = Annotated[
    LiveFormat | None,
    typer.Option(
        "--format",
        "-f",
        rich_help_panel=options.OUTPUT,
        show_default="table on a terminal; else jsonl, or nothing with -o",
        help="Format of the results.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Also write records as adafocus batch does, one for each stretch of the stream.",
    ),
]
Stretch = Annotated[
    str,
    typer.Option(
        "--stretch",
        metavar="DURATION",
        rich_help_panel=options.OUTPUT,
        help="Longest part of the stream in a record of FILE.",
    ),
]
Snapshot = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FOLDER",
        rich_help_panel=options.OUTPUT,
        help="Write a picture into FOLDER whenever a label appears.",
    ),
]
SnapshotScore = Annotated[
    float,
    options.score_option(
        "--snapshot-score",
        rich_help_panel=options.OUTPUT,
        help="Lowest score of a label for a picture (0 to 1).",
    ),
]


@options.with_shared_options
def live(
    source: Source,
    model: options.ModelOptions,
    request: options.LiveTagOptions,
    terminal: options.TerminalOptions,
    for_: For = None,
    until: Until = None,
    patience: Patience = "60",
    format_: FormatOption = None,
    output: Output = None,
    stretch: Stretch = "10m",
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    snapshot: Snapshot = None,
    snapshot_score: SnapshotScore = 0.5,
) -> None:
    from adafocus_cli.video.live import LiveSource

    seconds = math.inf if for_ is None else duration_of(for_, "--for")
    if until is not None:
        seconds = min(seconds, moment_of(until) - time.time())
    mode = options.records_mode(overwrite, append)
    target = LiveOutput(format_, output, duration_of(stretch, "--stretch"), snapshot, snapshot_score, mode)
    waiting = Waiting(LiveSource.of(source), duration_of(patience, "--patience"), time.monotonic() + seconds)
    if not _watch(waiting, model, request, target, terminal):
        raise typer.Exit(options.SOME_FAILED)


class Waiting(NamedTuple):
    """For what, for how long if it does not come, and until when in any case, in monotonic time."""

    source: LiveSource
    patience: float
    end: float


@dataclass(frozen=True)
class LiveOutput:
    """What is written, checked before any work is done."""

    format: LiveFormat | None
    output: Path | None
    stretch: float
    snapshot: Path | None
    snapshot_score: float
    mode: Mode

    def __post_init__(self) -> None:
        if self.format == "table" and not _can_redraw():
            raise UsageError("--format table is drawn over itself, which needs a terminal; give --format jsonl")
        if self.output is not None:
            from adafocus_cli.output.journal import check_name

            check_name(self.output)
            if is_video_name(self.output.name):
                raise UsageError(f"{self.output} has the name of a video; give a .jsonl, .sqlite or .parquet file")

    def table(self, name: str, terminal: Terminal, stack: ExitStack) -> LiveTable | None:
        if self.format != "table" and (self.format is not None or not _can_redraw()):
            return None
        from adafocus_cli.output.live import LiveTable

        table = stack.enter_context(LiveTable(name))
        stack.enter_context(terminal.drawn_around(table))
        return table

    def lines(self, stack: ExitStack) -> Writer | None:
        if self.format == "table" or (self.format is None and (_can_redraw() or self.output is not None)):
            return None
        from adafocus_cli.output.writers import JsonLinesWriter, Sink, WriterOptions

        return stack.enter_context(JsonLinesWriter(stack.enter_context(Sink.stdout()), WriterOptions()))

    def records(self, tagger: ClipTagger, request: TagRequest, stack: ExitStack) -> StreamRecords | None:
        if self.output is None:
            return None
        from adafocus_cli.engine.ledger import settings_of
        from adafocus_cli.output.journal import Journal
        from adafocus_cli.output.live import StreamRecords

        settings = settings_of(tagger, request, logits=False, precision=tagger.runtime.precision)
        journal = stack.enter_context(Journal.open(self.output, settings=settings, mode=self.mode))
        min_score = tagger.min_score(request.min_score)
        made = StreamRecords(journal, tagger.labels, top_k=request.top_k, min_score=min_score, longest=self.stretch)
        return stack.enter_context(made)

    def snapshots(self) -> Snapshots | None:
        if self.snapshot is None:
            return None
        from adafocus_cli.output.live import Snapshots

        return Snapshots(self.snapshot, self.snapshot_score)


def _can_redraw() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _watch(waiting: Waiting, model: ModelRequest, request: TagRequest, target: LiveOutput, terminal: Terminal) -> bool:
    """Tags the stream until it is over; whether it ended, and was not lost."""
    from adafocus_cli.engine.live import LiveRequest, StreamLostError, tag_stream
    from adafocus_cli.tagger import ClipTagger
    from adafocus_cli.video.windows import Windowing

    source, patience, end = waiting
    snapshots = target.snapshots()
    tagger = ClipTagger.of(model)
    windows = request.windows or Windowing.of(tagger.spec.window_seconds or _WINDOW_SECONDS, None)
    assert windows is not None
    request = replace(request, windows=windows)
    watched = LiveRequest(source=source, windows=windows, patience=patience, end=end, pictures=snapshots is not None)
    # First of all: what is asked of the model may not fit it, and then no file is touched.
    passing = tag_stream(watched, tagger, request, say=terminal.note)
    with ExitStack() as stack:
        records = target.records(tagger, request, stack)
        lines = target.lines(stack)
        table = target.table(source.name, terminal, stack)
        watch = _Watch(records, lines, table, snapshots, terminal)
        try:
            for result in stack.enter_context(closing(passing)):
                with delayed_signals():
                    watch.write(result)
        except StreamLostError as error:
            if not watch.windows:
                raise
            terminal.failure(str(error))
            return False
        finally:
            watch.end()
    return True


class _Watch:
    """Hands each result to whoever writes it, and says when windows are left out."""

    def __init__(
        self,
        records: StreamRecords | None,
        lines: Writer | None,
        table: LiveTable | None,
        snapshots: Snapshots | None,
        terminal: Terminal,
    ) -> None:
        self._records, self._lines, self._table, self._snapshots = records, lines, table, snapshots
        self._terminal = terminal
        self.windows = self._left_out = 0
        self._said = -math.inf

    def write(self, result: LiveResult) -> None:
        from adafocus_cli.schema import Failure

        plain = result if isinstance(result, Failure) else result.result
        if self._lines is not None:
            self._lines.write(plain)
        if self._table is not None:
            self._table.write(plain)
        if isinstance(result, Failure):
            if self._records is not None:
                self._records.fail(result)
            return
        if self._records is not None:
            self._records.add(result.window, result.result, result.frames, result.piece)
        if self._snapshots is not None:
            try:
                written = self._snapshots.add(result.result, result.frames, result.picture)
            except VideoError as error:  # the child is lost; the next window needs another connection
                self._terminal.warn(f"no snapshot: {error}")
            else:
                for path in written:
                    self._terminal.detail(f"wrote {path}")
        self._count(result.live.windows_dropped)

    def end(self) -> None:
        if self._left_out:
            self._terminal.note(f"{counted(self.windows, 'window')} tagged, {self._left_out} left out")

    def _count(self, dropped: int) -> None:
        self.windows += 1
        self._left_out += dropped
        if dropped and time.monotonic() - self._said > _SAY_SECONDS:
            self._said = time.monotonic()
            text = f"{counted(dropped, 'window')} left out: this machine is too slow for this stream and model"
            self._terminal.warn(f"{text}; a longer --stride or a smaller model may help")
