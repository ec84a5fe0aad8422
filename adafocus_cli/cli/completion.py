"""`adafocus completion`: completes command lines in bash, zsh and fish, with commands, options, values and model names.

A shell runs `adafocus` with the variable `_ADAFOCUS_COMPLETE` set and the words that are typed so far; the last one is
the one to complete. Each line of the answer is a word and, behind a tab, what it is; no answer leaves it to the shell,
which completes paths. Loads neither the networks nor what reads videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.parameters import Parameter, parameters_of
from adafocus_cli.cli.terminal import write_out

HELP = "Print a script that completes commands, options and model names in your shell."

EXAMPLES = """[bold]Examples[/bold]

In ~/.bashrc:
  [cyan]eval "$(adafocus completion bash)"[/cyan]
In ~/.zshrc, after compinit:
  [cyan]eval "$(adafocus completion zsh)"[/cyan]
Once, for fish:
  [cyan]adafocus completion fish > ~/.config/fish/completions/adafocus.fish[/cyan]"""

_BASH = """_adafocus() {
    local IFS=$'\\n' word
    COMPREPLY=()
    for word in $(_ADAFOCUS_COMPLETE=1 adafocus "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
        COMPREPLY+=("${word%%$'\\t'*}")
    done
}
complete -o default -F _adafocus adafocus
"""
_ZSH = """_adafocus() {
    local -a found
    local line
    for line in "${(@f)$(_ADAFOCUS_COMPLETE=1 adafocus "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( $#found )); then _describe adafocus found; else _files; fi
}
compdef _adafocus adafocus
"""
_FISH = """function __adafocus_complete
    set -l words (commandline -opc) (commandline -ct)
    set -lx _ADAFOCUS_COMPLETE 1
    adafocus $words[2..-1] 2>/dev/null
end
complete -c adafocus -a '(__adafocus_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

Shell = Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


@options.with_shared_options
def completion(shell: Shell, terminal: options.VerboseOption) -> None:
    write_out(_SCRIPTS[shell])


def complete(root: Any, words: list[str]) -> None:
    """Prints what the last word may become."""
    write_out("".join(f"{word}\t{about}\n" for word, about in completions(root, words)))


def completions(root: Any, words: list[str]) -> Iterator[tuple[str, str]]:
    *before, begun = words or [""]
    command, rest = root, list(_without_equals(before))
    while hasattr(command, "commands") and rest:
        word = rest.pop(0)
        if word in command.commands:
            command = command.commands[word]
    parameters = parameters_of(command)
    option = next((each for each in parameters if rest and rest[-1] in each.flags and each.kind != "flag"), None)
    if option is not None:
        found: Iterable[tuple[str, str]] = _values_of(option)
    elif begun.startswith("-"):
        found = ((flag, each.help) for each in parameters for flag in (each.flags + each.negatives)[-1:])
    elif hasattr(command, "commands"):
        found = ((name, (each.help or "").partition("\n")[0]) for name, each in command.commands.items())
    else:
        found = _argument_values(parameters)
    begun = "" if begun == "=" else begun
    yield from (pair for pair in found if pair[0].startswith(begun))


def _without_equals(words: Iterable[str]) -> Iterator[str]:
    """bash takes `--model=mot` for three words."""
    return (word for word in words if word != "=")


def _values_of(parameter: Parameter) -> Iterable[tuple[str, str]]:
    if parameter.choices:
        return ((choice, "") for choice in parameter.choices)
    if parameter.name == "model":
        return _models()
    return ()


def _argument_values(parameters: Iterable[Parameter]) -> Iterable[tuple[str, str]]:
    for parameter in parameters:
        if not parameter.is_option:
            return _models() if parameter.name in ("name", "names") else _values_of(parameter)
    return ()


def _models() -> Iterator[tuple[str, str]]:
    """Those that can be used at once, and then the others."""
    from adafocus_cli.errors import AdaFocusError
    from adafocus_cli.library import catalogue
    from adafocus_cli.library.store import ModelStore

    store = ModelStore()
    try:
        installed = [*catalogue.INCLUDED, *store.installed()]
    except AdaFocusError:
        installed = list(catalogue.INCLUDED)
    for name in installed:
        yield name, "installed"
    for entry in catalogue.packaged().entries:
        if entry.name not in installed:
            yield entry.name, "not installed"
