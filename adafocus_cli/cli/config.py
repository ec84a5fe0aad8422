"""Options that are set in files and by variables: `adafocus.toml` and `ADAFOCUS_…`.

The command line comes before variables, these before the file of the working folder, and that before the user's. A key
stands for the option of that name: in the section of a command for that command, above all sections for every command
that has the option and takes the value. A file is checked as a whole, whatever command is run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from adafocus_cli.cli.parameters import Parameter, Setting, Settings, commands_below, nearest, parameters_of, refusal_of
from adafocus_cli.errors import UsageError, printable

FILE_NAME = "adafocus.toml"
PREFIX = "ADAFOCUS_"
# One that is given stands for all of its group: what is set elsewhere of the others does not count.
_ONE_OF = ({"model", "weights"}, {"overwrite", "append"})
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

Refuse = Callable[[UsageError], None]
"""What is done about a setting that is wrong; if it returns, the setting is left out."""

CommandPath = tuple[str, ...]
"""Below the program: ("models", "list"); () stands for all commands."""


@dataclass(frozen=True)
class _Entry:
    """What a file or a variable says of an option."""

    source: str
    name: str
    value: Any

    @property
    def text(self) -> str:
        if self.source == self.name:
            return f"{self.name}={self.value}"
        return f"{self.source}: {self.name} = {_as_toml(self.value)}"


_Level = Mapping[CommandPath, Mapping[str, _Entry]]
"""What one place says, by command and key."""


class _Options:
    """The options of all commands that may be set; of commands that are not asked for, nothing is loaded."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[CommandPath, Mapping[str, Parameter]] = {}

    @cached_property
    def paths(self) -> tuple[CommandPath, ...]:
        return tuple(path for path in commands_below(self._root) if path)

    def of(self, path: CommandPath) -> Mapping[str, Parameter]:
        """By key."""
        if path not in self._known:
            self._known[path] = {each.key: each for each in parameters_of(self._command(path)) if each.is_setting}
        return self._known[path]

    def _command(self, path: CommandPath) -> Any:
        command = self._root
        for name in path:
            command = command.commands[name]
        return command

    def setting(self, path: CommandPath, entry: _Entry, key: str, *, own: bool) -> Setting | None:
        """The setting of a command; None if the entry is for all commands, and others take the value."""
        try:
            return self._checked(path, entry, key)
        except UsageError:
            others = () if own else (other for other in self.paths if other != path and key in self.of(other))
            if not any(self._takes(other, entry, key) for other in others):
                raise
            return None

    def check(self, path: CommandPath, entry: _Entry, key: str) -> None:
        """Refuses a key that no command has, and a value that none takes."""
        possible = (path,) if path else self.paths
        users = [each for each in possible if key in self.of(each)]
        if not users:
            near = nearest(key, [key for each in possible for key in self.of(each)])
            hint = near or "keys are the names of options, such as top-k"
            raise UsageError(f"{entry.source} has the unknown key {printable(entry.name)}; {hint}")
        self.setting(users[0], entry, key, own=path != ())

    def _takes(self, path: CommandPath, entry: _Entry, key: str) -> bool:
        try:
            self._checked(path, entry, key)
        except UsageError:
            return False
        return True

    def _checked(self, path: CommandPath, entry: _Entry, key: str) -> Setting:
        option = self.of(path)[key]
        value = _as_typed(option, entry)
        if value is None:
            raise UsageError(f"{printable(entry.text)} is not allowed; give {option.allowed}")
        try:
            option.of_parser.process_value(typer.Context(self._command(path)), value)
        except typer.BadParameter as error:
            raise UsageError(f"{printable(entry.text)} {refusal_of(option, error)}") from error
        return Setting(value, option.flags[-1], entry.source, entry.text)


def _raise(error: UsageError) -> None:
    raise error


def settings_of(root: Any, path: CommandPath, typed: Iterable[str], *, refuse: Refuse = _raise) -> Settings:
    """The settings that a call of a command uses, by parameter; `typed` are the parameters on its command line."""
    options = _Options(root)
    found: dict[str, Setting] = {}
    taken = set(typed)
    for level in _levels(options, path, refuse):
        closed = taken.union(*(group for group in _ONE_OF if group & taken))
        for key, option in options.of(path).items():
            setting = None if option.name in closed else _setting_in(level, options, path, key, refuse)
            if setting is not None:
                found[option.name] = setting
        taken |= found.keys()
    return found


def files() -> tuple[Path, ...]:
    """Where files of settings may be, the first first."""
    import platformdirs

    return Path(FILE_NAME), Path(platformdirs.user_config_dir("adafocus", appauthor=False)) / FILE_NAME


def _setting_in(level: _Level, options: _Options, path: CommandPath, key: str, refuse: Refuse) -> Setting | None:
    for where in (path, ()):
        if entry := level.get(where, {}).get(key):
            try:
                return options.setting(path, entry, key, own=where == path)
            except UsageError as error:
                refuse(error)
    return None


def _levels(options: _Options, path: CommandPath, refuse: Refuse) -> Iterator[_Level]:
    if any(name.startswith(PREFIX) for name in os.environ):
        yield {where: dict(_variables(where, options.of(path))) for where in (path, ())}
    for file in files():
        if file.is_file():
            yield _read(file, options, refuse)


def _variables(path: CommandPath, keys: Iterable[str]) -> Iterator[tuple[str, _Entry]]:
    for key in keys:
        name = variable_of(path, key)
        if value := os.environ.get(name):
            yield key, _Entry(name, name, value)


def variable_of(path: CommandPath, key: str) -> str:
    """
    >>> variable_of((), "top-k"), variable_of(("models", "list"), "format")
    ('ADAFOCUS_TOP_K', 'ADAFOCUS_MODELS_LIST_FORMAT')
    """
    return PREFIX + "_".join((*path, key)).replace("-", "_").upper()


def _read(file: Path, options: _Options, refuse: Refuse) -> _Level:
    """What a file says, after all of it was checked."""
    level: dict[CommandPath, dict[str, _Entry]] = {}
    try:
        table = _parsed(file)
    except UsageError as error:
        refuse(error)
        return level
    for path, key, value in _flattened(table, (), str(file), options, refuse):
        entry = _Entry(str(file), ".".join((*path, key)), value)
        try:
            options.check(path, entry, key)
        except UsageError as error:
            refuse(error)
        else:
            level.setdefault(path, {})[key] = entry
    return level


def _parsed(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text("utf-8-sig"))
        return table
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; make it readable, or remove it") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"{file} is not TOML: {error}; a line is such as: top-k = 5") from error


def _flattened(
    table: Mapping[str, Any], path: CommandPath, file: str, options: _Options, refuse: Refuse
) -> Iterator[tuple[CommandPath, str, Any]]:
    for key, value in table.items():
        if not isinstance(value, dict):
            yield path, key, value
            continue
        section = (*path, key)
        if not any(each[: len(section)] == section for each in options.paths):
            name = ".".join(section)
            hint = nearest(name, map(".".join, options.paths)) or "sections are the names of commands, such as [batch]"
            refuse(UsageError(f"{file} has the unknown section [{printable(name)}]; {hint}"))
            continue
        yield from _flattened(value, section, file, options, refuse)


def _as_typed(option: Parameter, entry: _Entry) -> str | bool | list[str] | None:
    """The value as the parser gets it from a command line; None if it has the wrong type."""
    value, from_variable = entry.value, entry.source == entry.name
    if option.kind == "flag":
        return _WORDS.get(value.lower()) if from_variable else value if isinstance(value, bool) else None
    if option.several:
        values = value.split(",") if from_variable else value if isinstance(value, list) else [value]
        return [_expanded(each) for each in values] if all(map(_is_scalar, values)) else None
    return _expanded(value) if _is_scalar(value) else None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _expanded(value: Any) -> str:
    text = str(value)
    return os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111 — as a shell does


def _as_toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def config_lines(root: Any, refuse: Refuse) -> Iterator[str]:
    """All that is set outside the command line, and where."""
    options = _Options(root)
    for file in files():
        yield f"{file}" if file.is_file() else f"{file} (not there)"
        for entries in (_read(file, options, refuse) if file.is_file() else {}).values():
            yield from (f"  {entry.name} = {_as_toml(entry.value)}" for entry in entries.values())
    yield "environment"
    names = {variable_of(where, key) for path in options.paths for key in options.of(path) for where in (path, ())}
    for name in sorted(name for name in os.environ if name.startswith(PREFIX)):
        if name in names:
            yield f"  {name}={os.environ[name]}"


def option_lines(context: Any, arguments: list[str], refuse: Refuse) -> Iterator[str]:
    """The value of every option of a call, and where it comes from; `arguments` are the command and what follows."""
    root = command = context.command
    path: CommandPath = ()
    while hasattr(command, "commands") and arguments:
        path, command, arguments = (*path, arguments[0]), command.commands[arguments[0]], arguments[1:]
    typed = command.typed_values(typer.Context(command), arguments)
    settings = settings_of(root, path, typed, refuse=refuse)
    for option in _Options(root).of(path).values():
        value: Any = option.default or (False if option.kind == "flag" else "not set")
        source = "default"
        if option.name in typed:
            value, source = typed[option.name], "command line"
        elif option.name in settings:
            value, source = settings[option.name].value, settings[option.name].source
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{option.flags[-1]:20}  {printable(shown):30}  {source}"
