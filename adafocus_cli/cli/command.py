"""Commands as this program wants them of Typer: loaded late, with defaults from outside, help and errors of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from adafocus_cli.cli.parameters import OptionValueError, Settings, parameters_of, refusal_of
from adafocus_cli.cli.terminal import write_out
from adafocus_cli.errors import UsageError, printable

SETTINGS = "adafocus.settings"
"""Where a parsed command line keeps the settings that it uses, in the `meta` of its context."""


class Command(TyperCommand):
    """A command whose options may also be set in files and by variables."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
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
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(ctx)


class CommandLine(typer.Typer):
    """Its commands are ours, whoever adds them."""

    def __init__(self, *, cls: type[CommandGroup] = CommandGroup, **settings: Any) -> None:
        super().__init__(cls=cls, rich_markup_mode="rich", add_completion=False, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **settings)


def _write_help(ctx: Any) -> None:
    from adafocus_cli.cli.help import help_text

    # Whoever asked for it ends the line.
    write_out(help_text(ctx.command, ctx.command_path).rstrip("\n"))
