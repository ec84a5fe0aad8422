"""`adafocus batch`: tags a library of videos into a file, skipping what is already in it.

Also here: the engine of a batch (this process or a Ray cluster), its progress, and watched folders.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import stat
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import Counted, Sources, folder_of, is_gone, is_same, is_video_name, once_each
from adafocus_cli.cli.terminal import (
    ProgressBar,
    Terminal,
    delayed_signals,
    stop_on_signal,
    video_position,
    video_progress,
)
from adafocus_cli.errors import AdaFocusError, UsageError, counted
from adafocus_cli.output.texts import duration, percent
from adafocus_cli.requests import ModelRequest, TagRequest, cores
from adafocus_cli.video.remote import is_remote

if TYPE_CHECKING:
    from adafocus_cli.engine.ledger import Ledger, Tally
    from adafocus_cli.engine.windows import Watch
    from adafocus_cli.output.journal import Journal, Mode
    from adafocus_cli.output.sidecars import Sidecars
    from adafocus_cli.schema import Failure, Result, VideoInfo, VideoResult
    from adafocus_cli.tagger import ClipTagger

INTERRUPTED = 130

HELP = """Tag a library of videos into a file, and continue where an earlier run ended.

FILE has one record per video, in the order in which they were finished. The same command again skips what is done, \
and retries what failed or changed."""

EXAMPLES = """[bold]Examples[/bold]

A folder with all folders below it:
  [cyan]adafocus batch videos/ -m v2-activitynet-p128-mbv2 -o tags.jsonl[/cyan]
The third of sixteen shards, each with its own file:
  [cyan]adafocus batch videos/ -m NAME -o tags-3.jsonl --shard 3/16[/cyan]
On the Ray cluster of this machine:
  [cyan]adafocus batch s3://bucket/ -m NAME -o tags.jsonl --engine ray \\
    --address auto[/cyan]
Retry failures with the other decoder:
  [cyan]adafocus batch videos/ -m NAME -o tags.jsonl --failed bad.jsonl[/cyan]
  [cyan]adafocus batch --files-from bad.jsonl -m NAME -o tags.jsonl \\
    --decoder decord[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is done · 130 interrupted"""

Failed = Annotated[
    Path | None,
    typer.Option(
        "--failed",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Also write the records of failures to FILE, as jsonl that --files-from can read.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        rich_help_panel=options.BATCH,
        help="Tag only shard K of N, such as 3/16; the shard of a video depends on its path alone.",
    ),
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        metavar="",
        rich_help_panel=options.OUTPUT,
        help="At the end, remove the records of files that no longer exist below the given folders.",
    ),
]
WatchOption = Annotated[
    bool,
    typer.Option(
        "--watch", metavar="", rich_help_panel=options.BATCH, help="Keep running and tag new files, until stopped."
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        callback=options.checked_time,
        rich_help_panel=options.BATCH,
        help="With --watch: tag a file once it has not changed for this long.",
    ),
]
EngineName = Literal["local", "ray"]
EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", rich_help_panel=options.ENGINE, help="Tag in this process, or on a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        rich_help_panel=options.ENGINE,
        help="Address of the Ray cluster; auto: the one of this machine.",
        show_default="start one here",
    ),
]
# Of a cluster it is the number of worker processes, and of one machine more than other commands take.
BatchWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        show_default="as many as cores",
        rich_help_panel=options.ENGINE,
        help="Number of videos that are decoded at a time; with Ray, of workers, usually one per GPU or core.",
    ),
]


@options.with_shared_options
def batch(
    output: options.RecordsOutput,
    sources: options.SourceOptions,
    model: options.ModelOptions,
    request: options.BatchTagOptions,
    sidecars: options.SidecarOptions,
    terminal: options.TerminalOptions,
    logits: options.Logits = False,
    shard: ShardOption = None,
    watch: WatchOption = False,
    settle: Settle = 5.0,
    engine: EngineOption = "local",
    address: Address = None,
    workers: BatchWorkers = None,
    failed: Failed = None,
    segments: options.SegmentsFile = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    prune: Prune = False,
) -> None:
    videos = BatchVideos(sources, Shard.named(shard or "1/1"), settle if watch else None)
    pruned = PruneScope.of(sources) if prune else None
    beside = sidecars.open(output, request)
    mode = options.records_mode(overwrite, append)
    if segments is not None:
        options.check_windows(request, f"--segments {segments}")
    target = BatchOutput(output, failed, segments, mode, logits, beside, pruned)
    target.check(options.files_read(sources, model, request))
    chosen = Engine(name=engine, address=address, workers=workers)
    request = replace(request, workers=workers or cores())
    if code := _run(videos, model, chosen, request, target, terminal):
        raise typer.Exit(code)


def _run(
    videos: BatchVideos,
    model: ModelRequest,
    engine: Engine,
    request: TagRequest,
    target: BatchOutput,
    terminal: Terminal,
) -> int:
    """Tags all videos and returns the exit status."""
    from adafocus_cli.engine.ledger import settings_of

    removed: int | None = None
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal(terminal.note))
        stack.enter_context(terminal.showing_log("adafocus"))
        bar = stack.enter_context(terminal.progress(into_stdout=False))
        paths = videos.paths(stop, terminal, lambda waiting: pace.wait(waiting))
        tagger = engine.load(model)
        if target.beside:
            target.beside.fit(tagger.labels)
        tagger.loop(tagger.exit_rule(request))  # refuses what does not fit before the file is touched
        settings = settings_of(tagger, request, logits=target.logits, precision=engine.precision(model, tagger))
        journal = target.journal(settings, stack)
        ledger = target.ledger(journal, stop, terminal, stack)
        pace = Pace(ledger.tally, bar, terminal, each=videos.settle is not None)
        results = engine.tag(ledger.paths(paths), tagger, model, request, stop, watch=pace.watch)
        with closing(results):
            for result in results:
                with delayed_signals():
                    ledger.take(result)
                pace.show(paths.total, result)
        stopped = stop.is_set()
        if target.pruned and not stopped:
            removed = target.pruned.prune(journal, terminal)
    target.write_segments()
    if not ledger.tally.all and not stopped and not videos.may_be_none:
        raise AdaFocusError("no videos among the inputs; give files, patterns, or folders with videos")
    if removed is not None:
        terminal.note(f"removed {counted(removed, 'record')} of missing files")
    return _end(ledger.tally, pace.seconds, stopped, terminal)


def _end(tally: Tally, seconds: float, stopped: bool, terminal: Terminal) -> int:
    for line in _summary(tally, seconds):
        terminal.note(line)
    if stopped:
        terminal.note("stopped early; run the same command again to continue")
        return INTERRUPTED
    return options.SOME_FAILED if tally.failures else 0


@dataclass(frozen=True)
class Shard:
    """One of several parts of all paths; which part a path is in depends on the path alone."""

    number: int
    count: int

    @classmethod
    def named(cls, text: str) -> Shard:
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text} must be K/N with 1 ≤ K ≤ N, such as 3/16")
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, path: str) -> bool:
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


@dataclass(frozen=True)
class BatchVideos:
    """The videos of a shard; if they are watched, each after `settle` seconds without a change."""

    sources: Sources
    shard: Shard
    settle: float | None

    def __post_init__(self) -> None:
        if self.settle is not None and self.sources.has_list:
            raise UsageError("--watch needs folders or patterns, not a list; give a folder")
        if self.settle is not None and any(map(is_remote, self.sources.inputs)):
            raise UsageError("--watch works on local folders only; for other storage, run the same command again")
        if self.settle is not None:
            _check_watchable(self.sources.inputs)

    @property
    def may_be_none(self) -> bool:
        """A shard may be empty, and so may a list of failures."""
        return self.shard.count > 1 or self.sources.has_list

    def paths(self, stop: threading.Event, terminal: Terminal, waiting: Callable[[int], None]) -> Counted:
        """`waiting` is called after each look at what is watched, with the number of files that are not complete."""
        if self.settle is None:
            found = once_each(self.sources.each(terminal))
            return self.sources.counted(path for path in found if path in self.shard)
        silent = Terminal(quiet=True)  # a folder may stay empty for long
        gone: set[str] = set()

        def look() -> Iterator[str]:
            nonlocal gone
            before, gone = gone, {entry for entry in self.sources.inputs if _is_absent(entry)}
            for entry in sorted(gone - before):
                terminal.warn(f"{entry} is gone, maybe because its disk is not mounted; waiting for it")
            return once_each(self.sources.each(silent))

        found = watched(look, stop, settle=self.settle, waiting=waiting)
        terminal.note(f"watching {', '.join(self.sources.inputs)}; Ctrl-C ends it")
        return Counted(path for path in found if path in self.shard)


def _is_absent(entry: str) -> bool:
    return folder_of(entry) is None and not os.path.lexists(entry)


def _check_watchable(inputs: Iterable[str]) -> None:
    for entry in inputs:
        if _is_absent(entry):
            raise UsageError(f"there is no folder {entry} to watch; check the path, or create the folder first")


@dataclass(frozen=True)
class PruneScope:
    """The folders below which the records of missing files are removed."""

    folders: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sources) -> PruneScope:
        folders = tuple(filter(None, map(folder_of, sources.inputs)))
        if sources.has_list or not folders:
            raise UsageError("--prune needs local folders or patterns, not a list; give a folder")
        return cls(folders)

    def prune(self, journal: Journal, terminal: Terminal) -> int:
        """Removes the records and returns their number."""
        from adafocus_cli.output.records import key_of

        within = []
        for folder in self.folders:
            if os.listdir(folder):  # noqa: PTH208 (as it was typed)
                within.append(os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118
            else:
                terminal.warn(
                    f"{folder} is empty, maybe because its disk is not mounted; no records of its files are removed"
                )
        return journal.prune(lambda path: key_of(path).startswith(tuple(within)) and is_gone(path))


@dataclass(frozen=True)
class BatchOutput:
    """The file of all records, that of failures, and that of segments, which is made when the run ends."""

    output: Path
    failed: Path | None
    segments: Path | None
    mode: Mode
    logits: bool
    beside: Sidecars | None
    pruned: PruneScope | None

    def check(self, read: Sequence[str | Path]) -> None:
        """Refuses files that would be lost by writing, and names without a known format."""
        from adafocus_cli.output.journal import check_name, check_replaceable, is_csv

        check_name(self.output)
        files = [path for path in (self.output, self.failed, self.segments) if path is not None]
        for path in files:
            if is_video_name(path.name) or any(is_same(path, file) for file in read):
                raise UsageError(
                    f"{path} is an input or has the name of a video, and would be overwritten; give another file"
                )
        if len({path.resolve() for path in files}) < len(files):
            raise UsageError(f"{files[-1]} cannot hold records and failures or segments together; give a file for each")
        if self.segments is not None and is_csv(self.output):
            raise UsageError(
                f"--segments {self.segments} is made from whole records, of which {self.output} would have only a "
                "part; give an output file that ends in .jsonl or .sqlite"
            )
        for path in files[1:]:
            check_replaceable(path, overwrite=self.mode == "overwrite")

    def journal(self, settings: dict[str, str], stack: ExitStack) -> Journal:
        from adafocus_cli.output.journal import Journal

        listener = self.beside.write if self.beside else None
        return stack.enter_context(
            Journal.open(self.output, settings=settings, mode=self.mode, logits=self.logits, listener=listener)
        )

    def write_segments(self) -> None:
        """Of all records of the file, also those of earlier runs."""
        from adafocus_cli.output.journal import write_segments

        if self.segments is not None:
            write_segments(self.output, self.segments)

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


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What tags the videos: this process, or workers on a Ray cluster."""

    name: EngineName
    address: str | None
    workers: int | None

    def __post_init__(self) -> None:
        if self.address is not None and self.name != "ray":
            raise UsageError(f"--address {self.address} needs a Ray cluster; add --engine ray")
        if self.name == "ray":
            from adafocus_cli.engine.cluster import library

            library()  # complains before any work is done

    def load(self, model: ModelRequest) -> ClipTagger:
        """The tagger; for a cluster, one that only describes the model."""
        from adafocus_cli.tagger import ClipTagger

        if self.name == "local":
            return ClipTagger.of(model)
        return ClipTagger.of(replace(model, device="cpu", precision="auto", runtime="torch"))

    def precision(self, model: ModelRequest, tagger: ClipTagger) -> str:
        """The number format of the networks; `auto` is the same everywhere."""
        if self.name == "local" or model.precision == "auto":
            return tagger.runtime.precision
        return model.precision

    def tag(
        self,
        paths: Iterable[str],
        tagger: ClipTagger,
        model: ModelRequest,
        request: TagRequest,
        stop: threading.Event,
        *,
        watch: Watch | None = None,
    ) -> Generator[Result]:
        """Results in the order in which they are ready; `watch` is called for windows tagged here, not on a cluster."""
        if self.name == "local":
            from adafocus_cli.engine.local import tag_as_they_come

            return tag_as_they_come(paths, tagger, request, stop=stop, watch=watch)
        from adafocus_cli.engine.cluster import tag_on_cluster
        from adafocus_cli.engine.worker import Setup
        from adafocus_cli.library.store import find_model
        from adafocus_cli.runtime.pytorch import ACCELERATOR_LANES

        file = find_model(model.name_or_file)
        setup = Setup(
            model=replace(model, source=file.name, labels=tagger.labels),
            sha256=tagger.model.sha256,
            request=replace(request, exits=tagger.exit_rule(request), max_gmacs=None),
        )
        lanes = None if model.device in ("cpu", "mps") else model.batch_size or ACCELERATOR_LANES
        in_windows = request.windows is not None or tagger.spec.window_seconds is not None
        return tag_on_cluster(
            paths,
            setup,
            file,
            address=self.address,
            workers=self.workers,
            lanes=lanes,
            in_windows=in_windows,
            stop=stop,
        )


# How often progress is printed where there is no bar, as in the log of a scheduler.
_LINE_SECONDS = 60.0


class Pace:
    """Shows how fast a batch goes and how long it will take; where there is no bar, `each` gives every video a line."""

    def __init__(self, tally: Tally, bar: ProgressBar, terminal: Terminal, *, each: bool) -> None:
        self._tally, self._bar, self._terminal, self._each = tally, bar, terminal, each
        self._began = self._said = monotonic()

    @property
    def seconds(self) -> float:
        return monotonic() - self._began

    def show(self, total: int | None, result: Result) -> None:
        tally = self._tally
        pace = self._text(total)
        self._bar.update(done=tally.all, total=total, failed=tally.failures, pace=pace)
        if self._each:
            if not self._bar.visible and result.status == "ok":
                self._terminal.note(_video_line(result))
        elif self._is_time_for_a_line():
            of = "" if total is None else f" of {total}"
            self._terminal.note(f"{tally.all}{of} done{pace}, {tally.failures} failed")

    def wait(self, waiting: int) -> None:
        """Nothing to tag right now; `waiting` files are there that are not complete."""
        if self._is_time_for_a_line():
            tally = self._tally
            self._terminal.note(f"watching; {tally.all} done, {tally.failures} failed, {waiting} not complete yet")

    def _is_time_for_a_line(self) -> bool:
        if self._bar.visible or monotonic() - self._said < _LINE_SECONDS:
            return False
        self._said = monotonic()
        return True

    def watch(self, video: VideoInfo, share: float) -> None:
        """Shows how far into a video its windows are."""
        video_progress(self._bar)(video, share)
        if self._is_time_for_a_line():
            self._terminal.note(video_position(video, share))

    def _text(self, total: int | None) -> str:
        rate = self._tally.new / max(self.seconds, 1e-3)
        left = "" if total is None or not rate else f", {duration((total - self._tally.all) / rate)} left"
        return f", {rate:.3g}/s{left}"


def _video_line(result: VideoResult) -> str:
    labels = ", ".join(f"{tag.label} {percent(tag.score)}" for tag in result.labels[:3])
    return f"{result.video.path}: {labels or 'no label'}"


def _summary(tally: Tally, seconds: float) -> list[str]:
    """The last lines of a batch: the numbers of videos, their cost and time."""
    counts = {"tagged": tally.tagged, "copied from duplicates": tally.copied, "done before": tally.done_before}
    parts = [f"{count} {name}" for name, count in counts.items() if count or name == "tagged"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.failed.most_common())
    parts.append(f"{tally.failures} failed ({kinds})" if kinds else "0 failed")
    lines = [" · ".join(parts)]
    if tally.tagged:
        of_whole = "" if tally.share is None else f", {percent(tally.share, digits=0)} of whole frames"
        lines.append(
            f"{tally.new / max(seconds, 1e-3):.3g} videos/s in {duration(seconds)} · "
            f"{tally.gmacs / tally.tagged:.4g} GMACs a video{of_whole}"
        )
        spent = tally.seconds
        lines.append(
            f"the model took {duration(spent['infer'])}, decoding {duration(spent['decode'])}, summed over videos "
            "that ran at the same time"
        )
    return lines


_Stamp = tuple[int, int, int]


@dataclass
class _WatchedFile:
    """What a file was like when it was last looked at, and since when, in monotonic time."""

    stamp: _Stamp
    since: float
    given: bool = False


def watched(
    look: Callable[[], Iterable[str]],
    stop: threading.Event,
    *,
    settle: float,
    waiting: Callable[[int], None] = lambda count: None,
) -> Iterator[str]:
    """The paths that `look` finds, until stopped: each once it has not changed for `settle` seconds and nobody has it
    open for writing, and again when it changes later. Whether a file is open is known on Linux, for one's own files.

    `waiting` is called after each look, with the number of files that are not complete.
    """
    files: dict[str, _WatchedFile] = {}
    while not stop.is_set():
        now, before, files = monotonic(), files, {}
        for path in look():
            stamp = _stamp(path)
            if stamp is None:
                continue
            known = before.get(path)
            files[path] = known = known if known and known.stamp == stamp else _WatchedFile(stamp, now)
            if not known.given and now - known.since >= settle and not _is_being_written(path):
                known.given = True
                yield path
        waiting(sum(not file.given for file in files.values()))
        stop.wait(min(1.0, settle / 2))


def _stamp(path: str) -> _Stamp | None:
    """What changes when a file does; None if it is not a regular file, or is gone."""
    try:
        status = os.stat(path)  # noqa: PTH116 (paths stay as they were typed)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _is_being_written(path: str) -> bool:
    """Linux leases a file for reading only while nobody has it open for writing."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Opening it for writing meanwhile breaks the lease, which sends a signal: one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file of another user, or a file system without leases
    finally:
        os.close(descriptor)
    return False
