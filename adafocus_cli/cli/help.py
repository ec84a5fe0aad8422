"""The help of a command for a terminal of any width, and all of them as a manual page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from adafocus_cli.cli.parameters import Parameter, commands_below, parameters_of, usage_of
from adafocus_cli.cli.terminal import laid_out

_WIDEST = 100  # wider lines are hard to read across
_NARROW = 80  # below it, what an option does stands below its name
_COLUMN = 30  # of names; longer ones have a line of their own
_MARKUP = re.compile(r"\[/?(?:bold|cyan)\]")


def help_text(command: Any, path: str) -> str:
    """`path` is how the command is called: "adafocus classify"."""
    with laid_out(_WIDEST) as (console, written):
        console.print(Text.assemble(("Usage: ", "bold"), usage_of(command, path)), soft_wrap=True)
        console.print()
        for paragraph in (command.help or "").split("\n\n"):
            console.print(Text.from_markup(paragraph))
            console.print()
        _print_parameters(console, parameters_of(command))
        _print_commands(console, command)
        _print_examples(console, command.epilog or "")
    return re.sub(" +\n", "\n", written())


def _print_parameters(console: Console, parameters: list[Parameter]) -> None:
    column = min(_COLUMN, 4 + max(len(_aligned(each)) for each in parameters))
    for panel, members in groupby(sorted(parameters, key=_panel_key(parameters)), lambda each: each.panel):
        console.print(Text(panel, style="bold"))
        for parameter in members:
            _print_row(console, _aligned(parameter), Text(_explanation(parameter)), column)
        console.print()


def _panel_key(parameters: list[Parameter]) -> Any:
    """In the order in which panels first appear; one with nothing but --help is the last."""
    only_help = [each.panel for each in parameters].count("Options") == 1
    panels = [*dict.fromkeys(each.panel for each in parameters if each.panel != "Options")]
    panels.insert(len(panels) if only_help else "Arguments" in panels, "Options")
    return lambda each: panels.index(each.panel)


def _aligned(parameter: Parameter) -> str:
    """Long names below one another, whether there is a short one or not."""
    indent = "    " if parameter.is_option and len(parameter.flags) == 1 else ""
    return indent + parameter.label


def _explanation(parameter: Parameter) -> str:
    notes = [f"default: {parameter.default}"] if parameter.default else []
    notes += ["required"] if parameter.required else []
    return f"{parameter.help} [{', '.join(notes)}]" if notes else parameter.help


def _print_row(console: Console, name: str, text: Text, column: int) -> None:
    narrow = console.width < _NARROW
    column = 6 if narrow else column
    lines = [line.plain.rstrip() for line in text.wrap(console, max(console.width - column, 20))]
    name = f"  {name.strip() if narrow else name}"
    first = "" if narrow or len(name) + 2 > column or not lines else lines.pop(0)
    console.print(Text.assemble((name.ljust(column) if first else name, "cyan"), first), soft_wrap=True)
    for line in lines:
        console.print(Text(" " * column + line), soft_wrap=True)


def _print_commands(console: Console, command: Any) -> None:
    members = {name: member for name, member in getattr(command, "commands", {}).items() if not member.hidden}
    if not members:
        return
    console.print(Text("Commands", style="bold"))
    column = 4 + max(map(len, members))
    for name, member in members.items():
        _print_row(console, name, Text(_summary_of(member)), column)
    console.print()


def _summary_of(command: Any) -> str:
    return (command.help or "").partition("\n\n")[0]


def _print_examples(console: Console, epilog: str) -> None:
    """Commands are not wrapped: a terminal does that so that they can be copied."""
    for line in Text.from_markup(epilog).split("\n", allow_blank=True):
        console.print(line, soft_wrap=line.plain.startswith((" ", "adafocus ")))


def manual_page(root: Any, name: str) -> str:
    """A page for `man`, of all commands."""
    return "\n".join(_manual_lines(root, name)) + "\n"


def _manual_lines(root: Any, name: str) -> Iterator[str]:
    yield f'.TH {name.upper()} 1 "" "{name}" "User Commands"'
    yield ".SH NAME"
    yield f"{name} \\- {_roff(_summary_of(root).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    for path, command in commands_below(root).items():
        if path and not hasattr(command, "commands"):
            yield f".B {_roff(' '.join((name, *path)))}"
            yield _roff(usage_of(command, "").strip())
            yield ".br"
    for path, command in commands_below(root).items():
        yield f'.SH "{_roff(" ".join((name, *path)).upper())}"'
        for paragraph in (command.help or "").split("\n\n"):
            yield ".PP"
            yield _roff(paragraph)
        yield from _manual_options(command)
        yield from _manual_examples(command.epilog or "")


def _manual_options(command: Any) -> Iterator[str]:
    for parameter in parameters_of(command):
        yield ".TP"
        yield f".B {_roff(parameter.label)}"
        yield _roff(_explanation(parameter)) or "\\&"


def _manual_examples(epilog: str) -> Iterator[str]:
    if not epilog:
        return
    yield ".PP"
    yield ".nf"
    yield from (_roff(_MARKUP.sub("", line)) for line in epilog.splitlines())
    yield ".fi"


def _roff(text: str) -> str:
    """The text as it is: a backslash, a minus and what begins a line would mean something.

    >>> print(_roff("--top-k"), _roff(".jsonl"))
    \\-\\-top\\-k \\&.jsonl
    """
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
