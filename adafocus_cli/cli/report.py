"""`adafocus report`: makes an HTML page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import UsageError, counted

HELP = """Make an HTML page of results: labels, where the model looked, and what it cost.

One file that needs no network. It has thumbnails of the videos, and plays those that still exist."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus batch videos/ -o tags.jsonl[/cyan]
  [cyan]adafocus report tags.jsonl -o tags.html[/cyan]
  [cyan]adafocus report tags.jsonl -o tags.html --videos /mnt/videos --title May[/cyan]"""

Results = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="Output of `classify` or `batch`; not CSV.", show_default=False)
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Write the page to FILE, which must end in .html.",
    ),
]
Title = Annotated[
    str | None,
    typer.Option(
        "--title",
        metavar="TEXT",
        rich_help_panel=options.OUTPUT,
        help="Heading of the page.",
        show_default="name of RESULTS",
    ),
]
Thumbnails = Annotated[
    int,
    typer.Option(
        "--thumbnails",
        metavar="N",
        min=0,
        max=16,
        rich_help_panel=options.OUTPUT,
        help="Number of thumbnails per video; 0: none.",
    ),
]


@options.with_shared_options
def report(
    results: Results,
    output: Output,
    terminal: options.TerminalOptions,
    overwrite: options.Overwrite = False,
    title: Title = None,
    videos: options.MovedVideos = None,
    thumbnails: Thumbnails = 4,
) -> None:
    options.check_results(results)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output} is not an HTML file; give a name that ends in .html")
    options.check_folder_of(output)
    options.check_moved(videos)

    from adafocus_cli.report.build import check_replaceable

    if not overwrite:
        check_replaceable(output)
    make_page(results, output, title=title or results.name, videos=videos, thumbnails=thumbnails, terminal=terminal)


def make_page(
    results: Path, output: Path, *, title: str, videos: Path | None, thumbnails: int, terminal: Terminal
) -> None:
    """Writes the page, and says what is in it."""
    from adafocus_cli.report.build import build

    with terminal.progress(into_stdout=False) as bar:
        built = build(
            results,
            output,
            title=title,
            root=videos,
            thumbnails=thumbnails,
            progress=lambda done, total: bar.update(done=done, total=total, failed=0),
        )
    further = f" and {counted(len(built.pages) - 1, 'more page')} beside it" if len(built.pages) > 1 else ""
    terminal.note(f"{counted(built.videos, 'video')} in {output}{further}")
    if built.missing:
        missing = counted(built.missing, "video")
        terminal.note(f"{missing} not found; if they have moved, give their folder with --videos")
