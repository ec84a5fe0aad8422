"""The parameters of commands as they were declared, in words.

Typer and the parser below it differ between versions in what they show of an option. So the help, the manual page, the
completion, the files of settings and the errors of wrong values are all made of what is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

Kind = Literal["flag", "choice", "whole number", "number", "path", "text"]
_KINDS: Mapping[Any, Kind] = {bool: "flag", int: "whole number", float: "number", Path: "path"}


class OptionValueError(typer.BadParameter):
    """Refused by a check of ours; the message follows the value: "is not a device; give auto, cpu, …"."""


@dataclass(frozen=True)
class Parameter:
    """An option or an argument of a command, as it was declared."""

    name: str
    """Of the parameter in Python."""
    flags: tuple[str, ...]
    """As typed, the short ones first; none for an argument."""
    negatives: tuple[str, ...]
    kind: Kind
    choices: tuple[str, ...]
    at_least: float | None
    at_most: float | None
    several: bool
    required: bool
    metavar: str
    help: str
    default: str
    panel: str
    of_parser: Any
    """Typer's own object, which checks and converts values."""

    @property
    def is_option(self) -> bool:
        return bool(self.flags)

    @property
    def key(self) -> str:
        """The option in a file of settings: `top-k` of `--top-k`."""
        return self.flags[-1].lstrip("-")

    @property
    def is_setting(self) -> bool:
        """Whether a file or a variable may set it."""
        return self.is_option and self.key not in ("help", "version", "show-config")

    @property
    def label(self) -> str:
        """`-k, --top-k N`; `[INPUTS]...`"""
        if not self.is_option:
            return _usage_of(self)
        value = f" {self.metavar}" if self.metavar else ""
        return ", ".join((*self.flags, *self.negatives)) + value

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        if self.kind == "flag":
            return "true or false"
        if self.kind == "choice":
            return ", ".join(self.choices[:-1]) + f" or {self.choices[-1]}"
        bounds = ""
        if self.at_least is not None and self.at_most is not None:
            bounds = f" from {self.at_least:g} to {self.at_most:g}"
        elif self.at_least is not None:
            bounds = f" of at least {self.at_least:g}"
        return f"a {self.kind}{bounds}"


def parameters_of(command: Any) -> list[Parameter]:
    """The parameters of a command, in the order of its help; those that are hidden are left out."""
    hints = get_type_hints(command.callback, include_extras=True) if command.callback else {}
    found = [_described(each, hints.get(each.name)) for each in command.params if not getattr(each, "hidden", False)]
    if not any("--help" in parameter.flags for parameter in found):
        found.append(_usual_help())
    return found


def commands_below(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The command itself, under the path (), and all below it that are not hidden."""
    found = {path: command}
    for name, member in getattr(command, "commands", {}).items():
        if not member.hidden:
            found |= commands_below(member, (*path, name))
    return found


def _described(parameter: Any, annotation: Any) -> Parameter:
    annotated = get_origin(annotation) is Annotated
    type_, declared = (get_args(annotation)[0], get_args(annotation)[-1]) if annotated else (annotation, None)
    if get_origin(type_) in (Union, UnionType):
        (type_,) = (each for each in get_args(type_) if each is not type(None))
    several = get_origin(type_) is list
    type_ = get_args(type_)[0] if several else type_
    choices = tuple(map(str, get_args(type_))) if get_origin(type_) is Literal else ()
    kind: Kind = "choice" if choices else _KINDS.get(type_, "text")
    is_option = parameter.param_type_name == "option"
    metavar = parameter.metavar or ("|".join(choices) if choices else parameter.name.upper())
    return Parameter(
        name=parameter.name,
        flags=tuple(sorted(parameter.opts, key=len)) if is_option else (),
        negatives=tuple(parameter.secondary_opts),
        kind=kind,
        choices=choices,
        at_least=getattr(declared, "min", None),
        at_most=getattr(declared, "max", None),
        several=several,
        required=parameter.required,
        metavar="" if kind == "flag" else metavar,
        help=parameter.help or "",
        default=_default_text(parameter),
        panel=getattr(parameter, "rich_help_panel", None) or ("Options" if is_option else "Arguments"),
        of_parser=parameter,
    )


def _default_text(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    default = parameter.default
    # Click before 8.3 has None, later ones an object of their own.
    if not parameter.show_default or not isinstance(default, str | int | float | Path) or isinstance(default, bool):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def _usual_help() -> Parameter:
    """Of Typer's own option, which is not among a command's."""
    return Parameter(
        name="help",
        flags=("-h", "--help"),
        negatives=(),
        kind="flag",
        choices=(),
        at_least=None,
        at_most=None,
        several=False,
        required=False,
        metavar="",
        help="Show this help and exit.",
        default="",
        panel="Options",
        of_parser=None,
    )


def _usage_of(argument: Parameter) -> str:
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return f"{name}..." if argument.several else name


def usage_of(command: Any, path: str) -> str:
    """`adafocus classify [OPTIONS] [INPUTS]...`"""
    if hasattr(command, "commands"):
        return f"{path} [OPTIONS] COMMAND [ARGS]..."
    arguments = [_usage_of(each) for each in parameters_of(command) if not each.is_option]
    return " ".join((path, "[OPTIONS]", *arguments))


@dataclass(frozen=True)
class Setting:
    """A value of an option that comes from a file or a variable."""

    value: str | bool | list[str]
    option: str
    """As typed: `--top-k`."""
    source: str
    """The file, or the variable."""
    text: str
    """As it stands there: `adafocus.toml: top-k = 5`."""


Settings = Mapping[str, Setting]
"""By the names of parameters in Python."""


def refusal_of(parameter: Parameter, error: typer.BadParameter) -> str:
    """What follows a value that was refused."""
    return error.message if isinstance(error, OptionValueError) else f"is not allowed; give {parameter.allowed}"


def nearest(name: str, known: Iterable[str]) -> str:
    """
    >>> nearest("top_k", ["top-k", "model"]), nearest("colour", ["top-k", "model"])
    ('the nearest is top-k', '')
    """
    near = get_close_matches(name.replace("_", "-"), sorted(set(known)), 1)
    return f"the nearest is {near[0]}" if near else ""
