"""`adafocus classify`: tags videos and writes their labels, costs and patch trajectories."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import Counted, is_same, is_video_name
from adafocus_cli.cli.terminal import Terminal, delayed_signals, video_progress
from adafocus_cli.errors import AdaFocusError, UsageError, counted, printable
from adafocus_cli.requests import DEFAULT_MODEL, ModelRequest, TagRequest

if TYPE_CHECKING:
    from adafocus_cli.output.sidecars import Sidecars
    from adafocus_cli.output.writers import Writer, WriterOptions
    from adafocus_cli.schema import Failure, Result, VideoResult
    from adafocus_cli.tagger import ClipTagger

_BATCH_ONLY = re.compile(r"\.(gz|zst|sqlite3?|db|parquet)$", re.IGNORECASE)
_FORMAT_OF: dict[str, options.Format] = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}

_ABOUT_DEFAULT_MODEL = (
    f"{DEFAULT_MODEL} names 1,000 kinds of things, no actions or people; for actions: adafocus models list"
)

HELP = """Tag videos: what happens in them, what the answer cost, and where the model looked.

One result per video, as soon as it is ready. A video that cannot be tagged has a result too, and the others go on."""

EXAMPLES = """[bold]Examples[/bold]

One video, and the same with a model for actions:
  [cyan]adafocus classify clip.mp4[/cyan]
  [cyan]adafocus classify clip.mp4 -m v2-activitynet-p128-mbv2[/cyan]
All videos below a folder, one CSV row per video:
  [cyan]adafocus classify videos/ -o tags.csv[/cyan]
Paths from a pipe, results into a pipe:
  [cyan]find . -size +1M -print0 | adafocus classify -0 - | jq[/cyan]
What happens when in a long video, as subtitles beside it:
  [cyan]adafocus classify film.mp4 --window 10 --stride 5 --subtitles vtt \\
    --sidecars .[/cyan]
At most 10 billion multiply-adds per video:
  [cyan]adafocus classify videos/ --max-gmacs 10 -m v2-activitynet-p128-mbv2[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is done · 130 interrupted"""

FormatOption = Annotated[
    options.Format | None,
    typer.Option(
        "--format",
        "-f",
        rich_help_panel=options.OUTPUT,
        show_default="as FILE ends; else table on a terminal, jsonl in a pipe",
        help="Format of the results.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=options.OUTPUT, help="Write to FILE instead of stdout."
    ),
]
Trajectories = Annotated[
    Path | None,
    typer.Option(
        "--trajectories",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Also write a CSV file with one row per patch.",
    ),
]


@options.with_shared_options
def classify(
    sources: options.ClassifySourceOptions,
    model: options.ModelOptions,
    request: options.TagOptions,
    sidecars: options.SidecarOptions,
    terminal: options.TerminalOptions,
    logits: options.Logits = False,
    format_: FormatOption = None,
    output: Output = None,
    trajectories: Trajectories = None,
    segments: options.SegmentsFile = None,
    overwrite: options.Overwrite = False,
) -> None:
    from adafocus_cli.output.writers import WriterOptions

    writing = WriterOptions(logits=logits, min_score=request.min_score, steps=terminal.verbose)
    read = options.files_read(sources, model, request)
    rows = {"--trajectories": trajectories, "--segments": segments}
    if segments is not None:
        options.check_windows(request, f"--segments {segments}")
    target = ClassifyOutput(output, format_, rows, writing, read=read, overwrite=overwrite)
    beside = sidecars.open(target.output, request)
    if _tag(sources.counted(sources.each(terminal)), model, request, target, beside, terminal):
        raise typer.Exit(options.SOME_FAILED)


def _tag(
    paths: Counted,
    model: ModelRequest,
    request: TagRequest,
    target: ClassifyOutput,
    beside: Sidecars | None,
    terminal: Terminal,
) -> int:
    """Tags and writes all videos; returns how many failed."""
    from adafocus_cli.engine.local import tag_files

    with ExitStack() as stack:
        writers = target.open(stack)
        stack.enter_context(terminal.showing_log("adafocus"))
        bar = stack.enter_context(terminal.progress(into_stdout=target.output is None))

        def load() -> ClipTagger:
            from adafocus_cli.tagger import ClipTagger

            tagger = ClipTagger.of(model)
            if beside is not None:
                beside.fit(tagger.labels)
            return tagger

        results = tag_files(paths, load, request, watch=video_progress(bar))
        if isinstance(results, Generator):  # closing it ends the decoding processes
            stack.callback(results.close)
        notes = _Notes(terminal, in_table=target.format == "table", default_model=model.source is None)
        for result in results:
            with delayed_signals(), bar.hidden():
                for writer in writers:
                    writer.write(result)
                if beside is not None:
                    beside.write(result.to_dict())
            notes.add(result)
            bar.update(done=notes.done, total=paths.total, failed=notes.failed)
    notes.end()
    return notes.failed


class _Notes:
    """What is said beside the results: about the model, and about failures where the results are for programs."""

    def __init__(self, terminal: Terminal, *, in_table: bool, default_model: bool) -> None:
        self._terminal, self._in_table = terminal, in_table
        self._explains = in_table and default_model
        self.done = self.failed = 0

    def add(self, result: Result) -> None:
        self.done += 1
        if result.status == "error":
            self.failed += 1
            if not self._in_table:
                self._terminal.failure(_failure_line(result))
            return
        if self.done - self.failed > 1:
            return
        self._terminal.detail(_model_line(result))
        if self._explains:
            self._terminal.note(_ABOUT_DEFAULT_MODEL)

    def end(self) -> None:
        if not self.done:
            text = "no videos among the inputs; give files, folders with videos, or a list that is not empty"
            raise AdaFocusError(text)
        if self.failed and not self._in_table:
            self._terminal.note(f"{self.failed} of {counted(self.done, 'video')} could not be tagged")


def _model_line(result: VideoResult) -> str:
    model, runtime = result.model, result.runtime
    where = f"{runtime.device}, {runtime.precision}, {runtime.runtime}"
    return f"{model.name} is {model.family} with patches of {model.patch_size} px, sha256 {model.sha256}, on {where}"


def _failure_line(failure: Failure) -> str:
    """The message, with the path in front unless it begins with it."""
    path = printable(failure.path)
    return failure.message if failure.message.startswith(path) else f"{path}: {failure.message}"


class ClassifyOutput:
    """The output files and formats, checked before any work is done."""

    def __init__(
        self,
        output: str | None,
        format_: options.Format | None,
        rows: Mapping[str, Path | None],
        writing: WriterOptions,
        *,
        read: Sequence[str | Path],
        overwrite: bool,
    ) -> None:
        """`rows` are CSV files by their options; the files in `read` are inputs and must not be overwritten."""
        self.output = None if output in (None, "-") else Path(str(output))
        self.format = format_ or self._usual_format()
        self._rows = {option: path for option, path in rows.items() if path is not None}
        self._options = writing
        if writing.logits and self.format not in ("json", "jsonl"):
            raise UsageError(f"--logits does not fit into {self.format}; add --format jsonl or --format json")
        for option, path in self._rows.items():
            if str(path) == "-":
                raise UsageError(f"{option} - is not possible: standard output is for results; give a file")
        files = [*filter(None, [self.output]), *self._rows.values()]
        for path in files:
            if is_video_name(path.name) or any(is_same(path, file) for file in read):
                raise UsageError(
                    f"{path} is an input or has the name of a video, and would be overwritten; give another file"
                )
        if self.output is not None and _BATCH_ONLY.search(self.output.name):
            raise UsageError(
                f"{self.output} has a format that classify does not write; give a .jsonl, .json or .csv file, or use "
                "adafocus batch, which writes .sqlite, .parquet and, compressed, .jsonl.gz and .csv.gz"
            )
        for path in files:
            from adafocus_cli.output.journal import check_replaceable

            if files.count(path) > 1:
                raise UsageError(f"{path} cannot hold results, trajectories and segments together; give two files")
            check_replaceable(path, overwrite=overwrite)

    def _usual_format(self) -> options.Format:
        if self.output is not None:
            return _FORMAT_OF.get(self.output.suffix.lower(), "jsonl")
        return "table" if sys.stdout.isatty() else "jsonl"

    def open(self, stack: ExitStack) -> Sequence[Writer]:
        from adafocus_cli.output.table import WRITERS
        from adafocus_cli.output.writers import SegmentWriter, Sink, TrajectoryWriter

        sink = Sink.stdout() if self.output is None else Sink.file(self.output)
        writers = [stack.enter_context(WRITERS[self.format](stack.enter_context(sink), self._options))]
        of_rows = {"--trajectories": TrajectoryWriter, "--segments": SegmentWriter}
        for option, path in self._rows.items():
            sink = stack.enter_context(Sink.file(path))
            writers.append(stack.enter_context(of_rows[option](sink, self._options)))
        return writers
