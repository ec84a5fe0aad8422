"""`adafocus find`: which videos have a label, when and where; also as paths, a playlist, clips, or a page."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import is_same
from adafocus_cli.cli.report import make_page
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import UsageError, VideoError, counted

if TYPE_CHECKING:
    from adafocus_cli.output.hits import HitFormat
    from adafocus_cli.output.search import FoundVideo, Hit, Search

HELP = """Find videos by label: which ones, when, and where in the picture.

TEXT is a part of a label or of its parent, in upper or lower case; '' is every label. The best videos come first."""

EXAMPLES = """[bold]Examples[/bold]

When and where there is a volleyball:
  [cyan]adafocus find volleyball tags.sqlite[/cyan]
Play all of them, or only these moments:
  [cyan]adafocus find volleyball tags.sqlite -0 | xargs -0 vlc[/cyan]
  [cyan]adafocus find volleyball tags.sqlite -o found.m3u8[/cyan]
Cut these moments out, and make a page of these videos:
  [cyan]adafocus find volleyball tags.jsonl --cut clips/[/cyan]
  [cyan]adafocus find volleyball tags.jsonl -o found.html[/cyan]
Dogs of all breeds, sure ones, in one folder:
  [cyan]adafocus find '' tags.jsonl --parent dog --min-score 0.8 \\
    --folder videos/may[/cyan]

[bold]Exit status[/bold]

0 found · 1 nothing found · 2 wrong usage · 3 some clips could not be cut"""

Text = Annotated[
    str, typer.Argument(metavar="TEXT", help="Part of a label or of its parent; '' for all.", show_default=False)
]
Results = Annotated[
    list[Path],
    typer.Argument(metavar="RESULTS", help="Outputs of `batch` or `classify`, in any format.", show_default=False),
]
Parent = Annotated[
    str,
    typer.Option(
        "--parent",
        metavar="TEXT",
        rich_help_panel=options.FILTERS,
        show_default=False,
        help="Only labels with this in the name of their parent, such as dog.",
    ),
]
Score = Annotated[
    float,
    options.score_option(
        "--min-score",
        rich_help_panel=options.FILTERS,
        help="Only hits with this score or more.",
    ),
]
Folder = Annotated[
    str | None,
    typer.Option(
        "--folder", metavar="FOLDER", rich_help_panel=options.FILTERS, help="Only videos below FOLDER, at any depth."
    ),
]
Shortest = Annotated[
    float,
    typer.Option(
        "--min-duration",
        metavar="SECONDS",
        min=0,
        rich_help_panel=options.FILTERS,
        help="Only videos that last SECONDS or more.",
    ),
]
Longest = Annotated[
    float | None,
    typer.Option(
        "--max-duration",
        metavar="SECONDS",
        min=0,
        rich_help_panel=options.FILTERS,
        help="Only videos that last SECONDS or less.",
    ),
]
FormatOption = Annotated[
    Literal["table", "jsonl", "json", "csv", "paths", "m3u"] | None,
    typer.Option(
        "--format",
        "-f",
        rich_help_panel=options.OUTPUT,
        show_default="as FILE ends; else table on a terminal, jsonl in a pipe",
        help="Format of the hits.",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", "-0", metavar="", rich_help_panel=options.OUTPUT, help="Write paths only, each ending with NUL."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Write to FILE, as its name says: .jsonl, .json, .csv, .txt, .m3u8, or .html, a page of these videos.",
    ),
]
Cut = Annotated[
    Path | None,
    typer.Option(
        "--cut",
        metavar="FOLDER",
        rich_help_panel=options.CLIPS,
        help="Also cut every hit out of its video, into FOLDER; without encoding it again.",
    ),
]
Pad = Annotated[
    float,
    typer.Option(
        "--pad",
        metavar="SECONDS",
        min=0,
        rich_help_panel=options.CLIPS,
        help="Time before and after each hit in clips and playlists.",
    ),
]


@options.with_shared_options
def find(
    text: Text,
    results: Results,
    terminal: options.TerminalOptions,
    parent: Parent = "",
    min_score: Score = 0.0,
    folder: Folder = None,
    min_duration: Shortest = 0.0,
    max_duration: Longest = None,
    format_: FormatOption = None,
    null: Null = False,
    output: Output = None,
    overwrite: options.Overwrite = False,
    cut: Cut = None,
    pad: Pad = 1.0,
    videos: options.MovedVideos = None,
) -> None:
    from adafocus_cli.output.search import Query, Search

    form = _format(format_, output, null=null)
    _check_files(results, output, videos, overwrite=overwrite)
    longest = float("inf") if max_duration is None else max_duration
    query = Query(
        text=text,
        parent=parent,
        min_score=min_score,
        folder=folder,
        min_duration=min_duration,
        max_duration=longest,
    )
    search = Search(results, query)
    if not search.videos:
        raise search.nothing()
    found = search.videos if videos is None else [_moved(video, videos) for video in search.videos]
    if form == "html" and output is not None:
        _make_page(search, output, text or parent, videos, terminal)
    elif form != "html":
        _write(found, form, output, pad=pad, null=null)
    hits = sum(len(video.hits) for video in found)
    terminal.note(f"{counted(hits, 'hit')} in {counted(len(found), 'video')}")
    if cut is not None and _cut(found, cut, pad, terminal):
        raise typer.Exit(options.SOME_FAILED)


def _format(given: HitFormat | None, output: Path | None, *, null: bool) -> HitFormat | Literal["html"]:
    from adafocus_cli.output.hits import FORMAT_OF

    if null and given not in (None, "paths"):
        raise UsageError(f"--null is for paths; leave out --format {given}, or give --format paths")
    if null or given:
        return given or "paths"
    if output is None:
        return "table" if sys.stdout.isatty() else "jsonl"
    ending = output.suffix.lower()
    if ending in (".html", ".htm"):
        return "html"
    if ending not in FORMAT_OF:
        raise UsageError(f"{output} has no known format; give a name that ends in {', '.join(FORMAT_OF)} or .html")
    return FORMAT_OF[ending]


def _check_files(results: Sequence[Path], output: Path | None, videos: Path | None, *, overwrite: bool) -> None:
    from adafocus_cli.output.journal import check_name

    for path in results:
        check_name(path)
        options.check_results(path)
    options.check_moved(videos)
    if output is not None:
        if any(is_same(output, path) for path in results):
            raise UsageError(f"{output} is what is searched; give another file")
        options.check_new(output, overwrite=overwrite)


def _moved(video: FoundVideo, root: Path) -> FoundVideo:
    """With the path of its file below another folder, if it is there."""
    from adafocus_cli.report.pictures import find as find_file

    file = find_file(video.path, root)
    path = video.path if file is None else str(file)
    return replace(video, path=path, hits=tuple(replace(hit, path=path) for hit in video.hits))


def _write(videos: Sequence[FoundVideo], form: HitFormat, output: Path | None, *, pad: float, null: bool) -> None:
    from adafocus_cli.output.hits import write_hits
    from adafocus_cli.output.writers import Sink

    with Sink.stdout() if output is None else Sink.file(output) as sink:
        write_hits(videos, form, sink, pad=pad, null=null)


def _make_page(search: Search, output: Path, title: str, videos: Path | None, terminal: Terminal) -> None:
    """By way of a file of their records, which is what a page is made of."""
    from adafocus_cli.output.journal import record_file

    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder, "found.jsonl")
        record_file(records).build(search.records())
        make_page(records, output, title=title or "Found", videos=videos, thumbnails=4, terminal=terminal)


def _cut(videos: Sequence[FoundVideo], folder: Path, pad: float, terminal: Terminal) -> int:
    """Writes a clip of each hit, and says which could not be; how many."""
    from adafocus_cli.output.hits import padded
    from adafocus_cli.video.limits import Limits
    from adafocus_cli.video.process import VideoProcess

    hits = [hit for video in videos for hit in video.hits]
    failed = 0
    with VideoProcess(limits=Limits(seconds=_CUT_SECONDS)) as process, terminal.progress(into_stdout=False) as bar:
        for done, (hit, target) in enumerate(_targets(hits, folder), 1):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                process.write_clip(hit.path, target, *padded(hit, pad))
            except VideoError as error:
                failed += 1
                terminal.failure(str(error))
            bar.update(done=done, total=len(hits), failed=failed)
    terminal.note(f"{counted(len(hits) - failed, 'clip')} in {folder}, each from the keyframe before its hit")
    return failed


_CUT_SECONDS = 600.0


def _targets(hits: Sequence[Hit], folder: Path) -> Iterator[tuple[Hit, Path]]:
    """The files of the clips, without their endings, below the folder as the videos are below what they share."""
    parents = [os.path.dirname(os.path.abspath(hit.path)) for hit in hits]  # noqa: PTH100, PTH120
    common = ""
    with suppress(ValueError):  # of several drives
        common = os.path.commonpath(parents)
    for hit, parent in zip(hits, parents, strict=True):
        below = os.path.relpath(parent, common) if common else ""
        times = "" if hit.start is None or hit.end is None else f"-{hit.start:08.2f}-{hit.end:08.2f}"
        yield hit, folder / below / f"{Path(hit.path).name}{times}"
