"""Commands as this program wants them of Typer: loaded late, with defaults from outside, help and errors of our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from adafocus_cli.cli.inputs import is_video_name
from adafocus_cli.cli.parameters import OptionValueError, Settings, nearest, parameters_of, refusal_of, usage_of
from adafocus_cli.cli.terminal import write_out
from adafocus_cli.errors import UsageError, printable

SETTINGS = "adafocus.settings"
"""Where a parsed command line keeps the settings that it uses, in the `meta` of its context."""
# What the parser raises for a wrong command line; of it and its kinds, Typer exports only this one.
_ParserError: type[Exception] = typer.BadParameter.__mro__[1]


class Command(TyperCommand):
    """A command whose options may also be set in files and by variables."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        with _in_our_words(self, ctx, typed):
            ctx.meta[SETTINGS] = settings = self._settings(ctx, typed)
            ctx.default_map = {name: setting.value for name, setting in settings.items()}
            try:
                return list(super().parse_args(ctx, args))
            except typer.BadParameter as error:
                raise UsageError(self._refusal(ctx, typed, error)) from error

    def typed_values(self, ctx: Any, typed: Sequence[str]) -> Mapping[str, Any]:
        """The values that a command line gives, by the names of parameters, as they were typed."""
        values: Mapping[str, Any] = self.make_parser(ctx).parse_args(list(typed))[0]
        return values

    def _settings(self, ctx: Any, typed: Sequence[str]) -> Settings:
        if {"--help", "-h"} & set(typed):  # help is there even if a file of settings is broken
            return {}
        from adafocus_cli.cli.config import settings_of

        root = ctx.find_root()
        path = tuple(ctx.command_path.split()[len(root.command_path.split()) :])
        return settings_of(root.command, path, self.typed_values(ctx, typed))

    def _refusal(self, ctx: Any, typed: Sequence[str], error: typer.BadParameter) -> str:
        """What is wrong with a value, or that one is missing, and what is allowed."""
        name = error.param.name if error.param else ""
        parameter = next(each for each in parameters_of(self) if each.name == name)
        if not isinstance(error, OptionValueError) and type(error) is not typer.BadParameter:  # one that is missing
            name = f"{parameter.flags[-1]} {parameter.metavar}" if parameter.is_option else parameter.metavar
            return f"{name} is missing; see {ctx.command_path} --help"
        given, settings = self.typed_values(ctx, typed), ctx.meta[SETTINGS]
        typed_name = parameter.flags[-1] if parameter.is_option else parameter.metavar
        where = f"{typed_name} {given[name]}" if name in given else settings[name].text
        return f"{printable(where)} {refusal_of(parameter, error)}"

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(ctx)


class CommandGroup(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _in_our_words(self, ctx, list(args)):
            return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            path = ctx.command_path
            hint = (
                f"to tag a video: {path} classify {args[0]}"
                if is_video_name(args[0])
                else nearest(args[0], self.commands)
            )
            raise _usage_error(f"{args[0]} is not a command of {path}", hint, path)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(ctx)


class CommandLine(typer.Typer):
    """Its commands are ours, whoever adds them."""

    def __init__(self, *, cls: type[CommandGroup] = CommandGroup, **settings: Any) -> None:
        super().__init__(cls=cls, rich_markup_mode="rich", add_completion=False, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **settings)


@contextmanager
def _in_our_words(command: Any, ctx: Any, typed: Sequence[str]) -> Iterator[None]:
    """What the parser refuses, as one line: what is wrong, what is allowed or near, and where to see more."""
    try:
        yield
    except _ParserError as error:
        path, name = ctx.command_path, getattr(error, "option_name", None)
        option = next((each for each in parameters_of(command) if name in each.flags + each.negatives), None)
        if name is None:
            wrong, hint = _too_much(error), f"the usage is: {usage_of(command, path)}"
        elif option is None:
            wrong, hint = f"{name} is not an option of {path}", _meant_instead(name, command, typed)
        elif option.kind == "flag":
            wrong, hint = f"{name} takes no value", "leave out what follows it"
        else:
            wrong, hint = f"{name} has no value", f"give {option.allowed}"
        raise _usage_error(wrong, hint, path) from error


def _usage_error(wrong: str, hint: str, path: str) -> UsageError:
    return UsageError(printable(f"{wrong}; {hint + ', ' if hint else ''}see {path} --help"))


def _too_much(error: Exception) -> str:
    """`Got unexpected extra argument(s) (b.mp4 c.mp4)`"""
    said = re.search(r"extra arguments?(?:\(s\))? \((.*)\)", str(error))
    return f"too many arguments, from {said[1]} on" if said else str(error).rstrip(".")


def _meant_instead(name: str, command: Any, typed: Sequence[str]) -> str:
    if file := next((word for word in typed if word.startswith("-") and Path(word).exists()), None):
        return f"a file whose name begins with a dash is written ./{file}"
    return nearest(name, (flag for each in parameters_of(command) for flag in each.flags + each.negatives))


def _write_help(ctx: Any) -> None:
    from adafocus_cli.cli.help import help_text

    # Whoever asked for it ends the line.
    write_out(help_text(ctx.command, ctx.command_path).rstrip("\n"))
