"""`adafocus merge`: the outputs of several runs as one.

Parses, calls and says what came of it; knows nothing of formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.terminal import Terminal, counted
from adafocus_cli.errors import UsageError

HELP = """Put the outputs of several `batch` runs, such as shards, into one file.

Every video is in it once: the record of the newer file counts, of the same file the one that is tagged, else the one \
that is given last. Outputs of other settings are refused."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus merge shard-*.jsonl -o tags.jsonl[/cyan]
  [cyan]adafocus merge tags.jsonl again.jsonl -o tags.sqlite[/cyan]"""

Files = Annotated[
    list[Path], typer.Argument(metavar="FILES", help="Outputs of `batch`, in any of its formats.", show_default=False)
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=options.OUTPUT, help="What to write; its ending says as what."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", rich_help_panel=options.OUTPUT, help="Replace FILE if it is there.")
]


def merge(
    context: typer.Context,
    files: Files,
    output: Output,
    overwrite: Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    terminal: Terminal = context.obj
    terminal.quiet, terminal.verbose = quiet, verbose

    from adafocus_cli.output.journal import check_name
    from adafocus_cli.output.journal import merge as merge_files

    for path in (*files, output):
        check_name(path)
    for path in files:
        if not path.is_file():
            raise UsageError(f"there is no file {path}; give outputs of adafocus batch")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} is there already; give another file, or --overwrite to replace it")
    merged = merge_files(files, output)
    replaced = f"; {counted(merged.left_out, 'record')} gave way to others" if merged.left_out else ""
    terminal.note(f"{counted(merged.kept, 'video')} in {output}, {merged.failed} of them failed{replaced}")
