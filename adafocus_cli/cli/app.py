"""The command line as a whole: its commands, and the one place where errors become text and exit codes.

Knows nothing of what the commands do.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_command

from adafocus_cli import __version__
from adafocus_cli.cli.command import SETTINGS, CommandGroup, CommandLine
from adafocus_cli.cli.parameters import Settings
from adafocus_cli.cli.terminal import Terminal, write_out
from adafocus_cli.errors import AdaFocusError, OutputClosedError, UsageError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # what a shell shows for a program that SIGPIPE ended

# In the order of the help. Each is a module with that function, HELP and EXAMPLES, or with an `app` of commands.
COMMANDS = (
    *("classify", "batch", "live", "evaluate", "calibrate", "train", "bench", "flops"),
    *("render", "merge", "find", "report", "schema", "doctor", "models", "completion"),
)

EXAMPLES = """[bold]Examples[/bold]

[cyan]adafocus classify clip.mp4[/cyan]
[cyan]adafocus batch videos/ -o tags.jsonl[/cyan]
[cyan]adafocus report tags.jsonl -o tags.html[/cyan]

Each command has a help of its own: [cyan]adafocus classify --help[/cyan]
Defaults of options can be set in adafocus.toml and by variables such as ADAFOCUS_MODEL."""

_HELP_NAMES = {"help_option_names": ["--help", "-h"]}
_ARGUMENTS = "adafocus.arguments"  # of the whole command line, in the `meta` of its context


class _Commands(MutableMapping[str, Any]):
    """The commands by name; the module of a command is loaded when the command is asked for."""

    def __init__(self, made: MutableMapping[str, Any]) -> None:
        self._made = made

    def __getitem__(self, name: str) -> Any:
        if name not in self._made and name in COMMANDS:
            self._made[name] = _made_command(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*COMMANDS, *self._made)))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _made_command(name: str) -> Any:
    module = import_module(f"adafocus_cli.cli.{name}")
    if hasattr(module, "app"):
        command = get_command(module.app)
    else:
        only = CommandLine()
        only.command(help=module.HELP, epilog=module.EXAMPLES)(getattr(module, name))
        command = get_command(only)
    command.name = name
    return command


class _Program(CommandGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.commands)


app = CommandLine(cls=_Program, epilog=EXAMPLES, context_settings=_HELP_NAMES)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_out(f"adafocus {__version__}\n")
        raise typer.Exit


def _show_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(context.get_help())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", "-V", callback=_show_version, is_eager=True, metavar="", help="Show the version and exit."
    ),
]
Help = Annotated[
    bool,
    typer.Option("--help", "-h", callback=_show_help, is_eager=True, metavar="", help="Show this help and exit."),
]
ShowConfig = Annotated[
    bool,
    typer.Option(
        "--show-config",
        metavar="",
        help="Show what adafocus.toml and the environment set; before a command, what it would use.",
    ),
]


# Typer's own --help option would load its validation library for the help of every command.
@app.callback(invoke_without_command=True, add_help_option=False)
def adafocus(
    context: typer.Context,
    version: Version = False,
    show_config: ShowConfig = False,
    help_: Help = False,
) -> None:
    """Tag videos with a model that looks where it matters."""
    if show_config:
        _show_config(context)
    elif context.invoked_subcommand is None:
        _show_help(context, True)


def _show_config(context: typer.Context) -> None:
    """What is wrong is left out of what is shown, and told behind it."""
    from adafocus_cli.cli import config

    wrong: list[UsageError] = []
    lines = config.config_lines(context.command, wrong.append)
    if context.invoked_subcommand is not None:
        arguments = context.meta[_ARGUMENTS]
        lines = config.option_lines(context, arguments[arguments.index("--show-config") + 1 :], wrong.append)
    write_out("".join(f"{line}\n" for line in lines))
    for error in wrong:
        context.obj.error(str(error))
    raise typer.Exit(WRONG_USAGE if wrong else 0)


def manual_page() -> str:
    """`docs/adafocus.1`; `make man` writes it."""
    from adafocus_cli.cli import help

    return help.manual_page(get_command(app), "adafocus")


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
        code = _report_other(terminal, error)
    _settle_stdout()
    return code


def _invoke(arguments: list[str], terminal: Terminal) -> int:
    """Like calling `app`, which would print errors and end the process by itself."""
    command = get_command(app)
    if os.environ.get("_ADAFOCUS_COMPLETE"):
        from adafocus_cli.cli.completion import complete

        complete(command, arguments)
        return 0
    try:
        with command.make_context("adafocus", list(arguments), obj=terminal) as context:
            context.meta[_ARGUMENTS] = arguments
            _invoke_in(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _invoke_in(context: Any) -> None:
    try:
        context.command.invoke(context)
    except AdaFocusError as error:
        error.args = (f"{error}{_origins(str(error), context.meta.get(SETTINGS, {}))}",)
        raise


def _origins(message: str, settings: Settings) -> str:
    """Where options that a message is about were set, if not on the command line."""
    about = [
        setting.text
        for setting in settings.values()
        if re.search(rf"(?<![\w-])({re.escape(setting.option)}|{re.escape(str(setting.value))})(?![\w-])", message)
    ]
    return f" ({', '.join(about)})" if about and not any(text in message for text in about) else ""


def _report(terminal: Terminal, error: BaseException, message: str) -> None:
    if terminal.verbose:
        traceback.print_exception(error)
    terminal.error(message)


def _report_other(terminal: Terminal, error: Exception) -> int:
    """Something that the parser refuses and commands leave to it, or a mistake of ours."""
    if hasattr(error, "format_message"):
        _report(terminal, error, f"{str(error.format_message()).rstrip('.')}; see adafocus --help")
        return int(getattr(error, "exit_code", WRONG_USAGE))
    hint = "" if terminal.verbose else "; run it again with --verbose for the details"
    _report(terminal, error, f"{type(error).__name__}: {error}{hint}")
    return FAILED


def _settle_stdout() -> None:
    """Nothing is left in the buffer that Python would complain about at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
