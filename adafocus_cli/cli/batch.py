"""`adafocus batch`: tags a library of videos into a file that remembers what is done.

Parses and puts together: paths, what of them is still to do, the engine, the journal. Knows nothing of how any of them
works.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adafocus_cli.cli import engines, options
from adafocus_cli.cli.engines import Engine
from adafocus_cli.cli.inputs import Counted, Sources, folder_of, is_gone, is_same, is_video_name, once_each
from adafocus_cli.cli.interrupts import asked_to_stop, held_back
from adafocus_cli.cli.pace import Pace, summary
from adafocus_cli.cli.terminal import Terminal, counted
from adafocus_cli.cli.watch import watched
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.requests import ModelRequest, TagRequest, cores
from adafocus_cli.video.remote import is_remote

if TYPE_CHECKING:
    from adafocus_cli.engine.ledger import Ledger, Tally
    from adafocus_cli.output.journal import Journal, Mode
    from adafocus_cli.output.sidecars import Sidecars
    from adafocus_cli.schema import Failure

INTERRUPTED = 130

HELP = """Tag a library of videos into a file, and go on where an earlier run ended.

FILE has one record a video, in the order in which they were ready. The same command again skips what is done, and \
redoes what failed or changed."""

EXAMPLES = """[bold]Examples[/bold]

A folder with all folders below it:
  [cyan]adafocus batch videos/ -m v2-activitynet-p128-mbv2 -o tags.jsonl[/cyan]
The third of sixteen jobs, each with a file of its own:
  [cyan]adafocus batch videos/ -m NAME -o tags-3.jsonl --shard 3/16[/cyan]
On the Ray cluster that this machine is in:
  [cyan]adafocus batch s3://bucket/ -m NAME -o tags.jsonl --engine ray \\
    --address auto[/cyan]
What failed, once more, with the other decoder:
  [cyan]adafocus batch videos/ -m NAME -o tags.jsonl --failed bad.jsonl[/cyan]
  [cyan]adafocus batch --files-from bad.jsonl -m NAME -o tags.jsonl \\
    --decoder decord[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is done · 130 interrupted"""

BATCH = "Batch"

Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Write to FILE, as it is named: .jsonl, .csv (each also .gz or .zst), .parquet, .sqlite or .db.",
    ),
]
Failed = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Also write the records of failures to FILE (jsonl), which --files-from can read.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", rich_help_panel=options.OUTPUT, help="Begin FILE anew.")
]
Append = Annotated[
    bool,
    typer.Option(
        "--append", metavar="", rich_help_panel=options.OUTPUT, help="Add to FILE, even if its settings are others."
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        rich_help_panel=BATCH,
        help="Only the K-th of N parts, such as 3/16; no path changes its part.",
    ),
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        metavar="",
        rich_help_panel=options.OUTPUT,
        help="At the end, remove the records of files below the given folders that are gone.",
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", metavar="", rich_help_panel=BATCH, help="Go on with files that arrive, until stopped."),
]
Settle = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=options.checked_time,
        rich_help_panel=BATCH,
        help="How long a watched file must not have changed.",
    ),
]


@options.with_shared_options
def batch(
    output: Output,
    sources: options.SourceOptions,
    model: options.ModelOptions,
    request: options.BatchTagOptions,
    sidecars: options.SidecarOptions,
    terminal: options.TerminalOptions,
    logits: options.Logits = False,
    shard: ShardOption = None,
    watch: Watch = False,
    settle: Settle = 5.0,
    engine: engines.NameOption = "local",
    address: engines.Address = None,
    workers: engines.Workers = None,
    failed: Failed = None,
    overwrite: Overwrite = False,
    append: Append = False,
    prune: Prune = False,
) -> None:
    videos = BatchVideos(sources, Shard.named(shard or "1/1"), settle if watch else None)
    pruned = Pruned.of(sources) if prune else None
    beside = sidecars.open(output, request)
    target = BatchOutput(output, failed, _mode(overwrite, append), logits, beside, pruned)
    target.check(options.files_read(sources, model, request))
    who = Engine(name=engine, address=address, workers=workers)
    request = replace(request, workers=workers or cores())
    if code := _run(videos, model, who, request, target, terminal):
        raise typer.Exit(code)


def _mode(overwrite: bool, append: bool) -> Mode:
    if overwrite and append:
        raise UsageError("--overwrite and --append exclude each other; give one of them, or none to go on")
    return "overwrite" if overwrite else "append" if append else "resume"


def _run(
    videos: BatchVideos,
    model: ModelRequest,
    engine: Engine,
    request: TagRequest,
    target: BatchOutput,
    terminal: Terminal,
) -> int:
    """Tags them all; the exit status."""
    from adafocus_cli.engine.ledger import settings_of

    removed: int | None = None
    with ExitStack() as stack:
        stop = stack.enter_context(asked_to_stop(terminal.note))
        stack.enter_context(terminal.showing_log("adafocus"))
        bar = stack.enter_context(terminal.progress(into_stdout=False))
        paths = videos.paths(stop, terminal)
        tagger = engine.load(model)
        if target.beside:
            target.beside.fit(tagger.labels)
        settings = settings_of(tagger, request, logits=target.logits, precision=engine.precision(model, tagger))
        journal = target.journal(settings, stack)
        ledger = target.ledger(journal, stop, terminal, stack)
        pace = Pace(ledger.tally, bar, terminal)
        results = engine.tag(ledger.paths(paths), tagger, model, request, stop, watch=pace.watch)
        with closing(results):
            for result in results:
                with held_back():
                    ledger.take(result)
                pace.show(paths.total)
        stopped = stop.is_set()
        if target.pruned and not stopped:
            removed = target.pruned.prune(journal, terminal)
    if not ledger.tally.all and not stopped and not videos.may_be_none:
        raise AdaFocusError("no videos among the inputs; give files, patterns, or folders with videos")
    if removed is not None:
        of = "a file that is" if removed == 1 else "files that are"
        terminal.note(f"removed {counted(removed, 'record')} of {of} gone")
    return _end(ledger.tally, pace.seconds, stopped, terminal)


def _end(tally: Tally, seconds: float, stopped: bool, terminal: Terminal) -> int:
    for line in summary(tally, seconds):
        terminal.note(line)
    if stopped:
        terminal.note("stopped before the end; the same command goes on from here")
        return INTERRUPTED
    return options.SOME_FAILED if tally.failures else 0


@dataclass(frozen=True)
class Shard:
    """One of several shares of all paths; which one a path is in depends on nothing but the path."""

    number: int
    count: int

    @classmethod
    def named(cls, text: str) -> Shard:
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text} is no part; give K/N with K from 1 to N, such as 3/16")
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, path: str) -> bool:
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


@dataclass(frozen=True)
class BatchVideos:
    """Which videos: those of a shard, and, if they are watched, after how many seconds without a change."""

    sources: Sources
    shard: Shard
    settle: float | None

    def __post_init__(self) -> None:
        if self.settle is not None and self.sources.has_list:
            raise UsageError("--watch looks into folders and patterns, not into a list; name a folder")
        if self.settle is not None and any(map(is_remote, self.sources.inputs)):
            raise UsageError("--watch looks into folders of this machine only; run the same command again instead")

    @property
    def may_be_none(self) -> bool:
        """A shard may be empty, and so may the list of what failed."""
        return self.shard.count > 1 or self.sources.has_list

    def paths(self, stop: threading.Event, terminal: Terminal) -> Counted:
        if self.settle is None:
            found = once_each(self.sources.each(terminal))
            return self.sources.counted(path for path in found if path in self.shard)
        unheard = Terminal(quiet=True)  # a folder may stay empty for long
        found = watched(lambda: once_each(self.sources.each(unheard)), stop, settle=self.settle)
        return Counted(path for path in found if path in self.shard)


@dataclass(frozen=True)
class Pruned:
    """Folders below which the records of files that are gone are removed."""

    folders: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sources) -> Pruned:
        folders = tuple(filter(None, map(folder_of, sources.inputs)))
        if sources.has_list or not folders:
            raise UsageError("--prune looks below folders and patterns of this machine, not into a list; name a folder")
        return cls(folders)

    def prune(self, journal: Journal, terminal: Terminal) -> int:
        """How many records were removed."""
        from adafocus_cli.output.records import key_of

        within = []
        for folder in self.folders:
            if os.listdir(folder):  # noqa: PTH208 (as it was typed)
                within.append(os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118
            else:
                terminal.warn(f"{folder} is empty: its disk may not be there, and no record of its files is removed")
        return journal.prune(lambda path: key_of(path).startswith(tuple(within)) and is_gone(path))


@dataclass(frozen=True)
class BatchOutput:
    """Where records go, and those of failures once more."""

    output: Path
    failed: Path | None
    mode: Mode
    logits: bool
    beside: Sidecars | None
    pruned: Pruned | None

    def check(self, read: Sequence[str | Path]) -> None:
        """Refuses what would be lost by writing, and names that say no format."""
        from adafocus_cli.output.journal import check_name, check_replaceable

        check_name(self.output)
        for path in (self.output, self.failed):
            if path is not None and (is_video_name(path.name) or any(is_same(path, file) for file in read)):
                raise UsageError(f"{path} is an input, or named like one, and would be overwritten; give another file")
        if self.failed is not None and self.failed.resolve() == self.output.resolve():
            raise UsageError(f"{self.failed} cannot hold both all records and those of failures; give two files")
        if self.failed is not None:
            check_replaceable(self.failed, overwrite=self.mode == "overwrite")

    def journal(self, settings: dict[str, str], stack: ExitStack) -> Journal:
        from adafocus_cli.output.journal import Journal

        listener = self.beside.write if self.beside else None
        return stack.enter_context(
            Journal.open(self.output, settings=settings, mode=self.mode, logits=self.logits, listener=listener)
        )

    def ledger(self, journal: Journal, stop: threading.Event, terminal: Terminal, stack: ExitStack) -> Ledger:
        from adafocus_cli.engine.ledger import Ledger
        from adafocus_cli.output.writers import JsonLinesWriter, Sink, WriterOptions

        writer = None
        if self.failed is not None:
            writer = JsonLinesWriter(stack.enter_context(Sink.file(self.failed)), WriterOptions())
            writer.sink.write("")  # none have failed yet

        def take_failed(failure: Failure) -> None:
            terminal.failure(failure.message)
            if writer is not None:
                writer.write(failure)

        ledger = Ledger(journal, failed=take_failed, stop=stop)
        stack.callback(ledger.close)
        return ledger
