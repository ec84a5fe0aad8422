"""`adafocus schema`: prints what a record is, as JSON Schema."""

from __future__ import annotations

from importlib import resources

from adafocus_cli.cli import options
from adafocus_cli.cli.terminal import write_out

HELP = """Print the JSON Schema of a record, for programs that read or check them.

It is of draft 2020-12, and of the version that records name in `schema`: adafocus/1."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus schema > adafocus-1.schema.json[/cyan]"""


@options.with_shared_options
def schema(terminal: options.VerboseOption) -> None:
    text = (resources.files("adafocus_cli") / "data" / "record.schema.json").read_text("utf-8")
    write_out(text)
