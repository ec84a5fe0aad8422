"""`adafocus merge`: merges the outputs of several runs into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.errors import counted

HELP = """Merge the outputs of several `batch` runs, such as shards, into one file.

The output has one record per video: that of the newest version of the video; among those, one that was tagged; among \
those, the last. Outputs that were made with different settings are refused."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus merge shard-*.jsonl -o tags.jsonl[/cyan]
  [cyan]adafocus merge tags.jsonl retried.jsonl -o tags.sqlite[/cyan]"""

Files = Annotated[
    list[Path], typer.Argument(metavar="FILES", help="Outputs of `batch`, in any of its formats.", show_default=False)
]


@options.with_shared_options
def merge(
    files: Files,
    output: options.RecordsOutput,
    terminal: options.TerminalOptions,
    overwrite: options.Overwrite = False,
) -> None:
    from adafocus_cli.output.journal import check_name
    from adafocus_cli.output.journal import merge as merge_files

    for path in (*files, output):
        check_name(path)
    for path in files:
        options.check_results(path, by="batch")
    options.check_new(output, overwrite=overwrite)
    merged = merge_files(files, output)
    replaced = f"; {counted(merged.left_out, 'record')} were superseded" if merged.left_out else ""
    terminal.note(f"{counted(merged.kept, 'video')} in {output}, {merged.failed} of them failed{replaced}")
