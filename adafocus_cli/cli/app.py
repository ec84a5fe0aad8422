"""The command line as a whole: its commands, and the one place where errors become text and exit codes.

Knows nothing of what the commands do.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from adafocus_cli import __version__
from adafocus_cli.cli import (
    batch,
    bench,
    calibrate,
    classify,
    doctor,
    evaluate,
    flops,
    live,
    merge,
    models,
    render,
    report,
    train,
)
from adafocus_cli.cli.inputs import is_video_name
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import AdaFocusError, OutputClosedError, UsageError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # what a shell shows for a program that SIGPIPE ended

EXAMPLES = """[bold]Examples[/bold]

[cyan]adafocus classify clip.mp4[/cyan]
[cyan]adafocus batch videos/ -o tags.jsonl[/cyan]
[cyan]adafocus report tags.jsonl -o tags.html[/cyan]

Each command has a help of its own: [cyan]adafocus classify --help[/cyan]"""

_HELP_NAMES = {"help_option_names": ["--help", "-h"]}

app = typer.Typer(
    rich_markup_mode="rich",
    add_completion=False,
    epilog=EXAMPLES,
    context_settings=_HELP_NAMES,
)
app.command(help=classify.HELP, epilog=classify.EXAMPLES)(classify.classify)
app.command(help=batch.HELP, epilog=batch.EXAMPLES)(batch.batch)
app.command(help=live.HELP, epilog=live.EXAMPLES)(live.live)
app.command(help=evaluate.HELP, epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(help=calibrate.HELP, epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.command(help=train.HELP, epilog=train.EXAMPLES)(train.train)
app.command(help=bench.HELP, epilog=bench.EXAMPLES)(bench.bench)
app.command(help=flops.HELP, epilog=flops.EXAMPLES)(flops.flops)
app.command(help=render.HELP, epilog=render.EXAMPLES)(render.render)
app.command(help=merge.HELP, epilog=merge.EXAMPLES)(merge.merge)
app.command(help=report.HELP, epilog=report.EXAMPLES)(report.report)
app.command(help=doctor.HELP, epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(models.app, name="models", help=models.HELP, epilog=models.EXAMPLES)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adafocus {__version__}")
        raise typer.Exit


def _show_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, metavar="", help="Show the version and exit."),
]
Help = Annotated[
    bool,
    typer.Option("--help", "-h", callback=_show_help, is_eager=True, metavar="", help="Show this help and exit."),
]


# Typer's own --help option would load its validation library for the help of every command.
@app.callback(invoke_without_command=True, add_help_option=False)
def adafocus(
    context: typer.Context,
    version: Version = False,
    help_: Help = False,
) -> None:
    """Tag videos with a model that looks where it matters."""
    if context.invoked_subcommand is None:
        _show_help(context, True)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; the exit status."""
    terminal = Terminal()
    try:
        code = _invoke(list(arguments), terminal)
        sys.stdout.flush()
        return code
    except (OutputClosedError, BrokenPipeError):
        code = OUTPUT_CLOSED
    except KeyboardInterrupt:
        exec("")  # or Python ends `python -m` by the signal, if that hit text being run, as when a dataclass is made
        terminal.quiet = False
        terminal.note("interrupted")
        code = INTERRUPTED
    except AdaFocusError as error:
        code = WRONG_USAGE if isinstance(error, UsageError) else FAILED
        _report(terminal, error, str(error))
    except Exception as error:
        code = _report_other(terminal, error, arguments)
    _settle_stdout()
    return code


def _invoke(arguments: list[str], terminal: Terminal) -> int:
    """Like calling `app`, which would print errors and end the process by itself."""
    command = get_command(app)
    try:
        with command.make_context("adafocus", arguments, obj=terminal) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _report(terminal: Terminal, error: BaseException, message: str) -> None:
    if terminal.verbose:
        traceback.print_exception(error)
    terminal.error(message)


def _report_other(terminal: Terminal, error: Exception, arguments: Sequence[str]) -> int:
    """A wrong command line, in the words of the parser, or a mistake of ours."""
    if hasattr(error, "format_message"):
        _report(terminal, error, _usage_message(error, arguments))
        return int(getattr(error, "exit_code", WRONG_USAGE))
    hint = "" if terminal.verbose else "; run it again with --verbose for the details"
    _report(terminal, error, f"{type(error).__name__}: {error}{hint}")
    return FAILED


def _usage_message(error: Exception, arguments: Sequence[str]) -> str:
    message = str(error.format_message()).rstrip(".").replace("Value error, ", "")  # type: ignore[attr-defined]
    for argument in arguments:
        if argument.startswith("-") and Path(argument).exists():
            return f"{message}; a file whose name begins with a dash is written ./{argument}"
    if arguments and is_video_name(arguments[0]):
        return f"{message}; to tag a video: adafocus classify {arguments[0]}"
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path if context else 'adafocus'} --help"


def _settle_stdout() -> None:
    """Nothing is left in the buffer that Python would complain about at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
