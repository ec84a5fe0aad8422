"""Where options are declared, and in which order the help shows them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from typer.main import get_command

from adafocus_cli.cli import options
from adafocus_cli.cli.app import app

SOURCES = sorted(Path(options.__file__).parent.glob("*.py"))
# Options whose meaning differs between commands, each with the number of its declarations.
DIFFERENT = {
    "--batch-size": 2,  # videos at a time; of train, clips in a gradient
    "--format": 4,  # results; a report; of live, with a table in place; of find, also paths
    "--frames": 3,  # of flops and train, a size of the model; of render, a folder
    "--group": 2,  # of calibrate, looks between exits; of train, what belongs together
    "--labels": 2,  # names of the model's classes; of train, of numbered classes in the data
    "--min-score": 2,  # of labels that are given; of those that are found
    "--name": 2,  # of models add, required; of models convert, stored in the file
    "--null": 2,  # of a list that is read; of paths that are written
    "--output": 10,  # results, records, a stream's, hits, numbers, thresholds, a run, a model, a video, a page
    "--precision": 3,  # one; of bench, several; of train, auto is not fp32
    "--runtime": 2,  # one; of bench, several
    "--seed": 2,  # of a pass over videos; of train, a whole run
    "--videos": 2,  # where those of results are now; of models quantize, those that it sees
    "--workers": 3,  # processes that decode; of batch, also those of a cluster; of train, that read clips
}


def option_calls(tree: ast.AST) -> list[ast.Call]:
    """The calls that declare an option."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).lower().endswith("option")
    ]


def names_of(call: ast.Call) -> list[str]:
    """`"--flip/--no-flip", "-f"` is ["--flip"]"""
    texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return [text.partition("/")[0] for text in texts if text.startswith("--")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_option_is_declared_at_the_top_of_a_module_and_by_its_name(path):
    tree = ast.parse(path.read_text())
    calls = option_calls(tree)
    at_top = [call for node in tree.body if isinstance(node, ast.Assign) for call in option_calls(node)]
    assert len(at_top) == len(calls)
    for call in calls:
        assert len(names_of(call)) == 1, f"{path.name}:{call.lineno} does not say how its option is typed"


def test_an_option_of_several_commands_is_declared_once_unless_its_meaning_differs():
    declared = Counter(
        name for path in SOURCES for call in option_calls(ast.parse(path.read_text())) for name in names_of(call)
    )
    assert {name: count for name, count in declared.items() if count > 1} == DIFFERENT


def commands():
    root = get_command(app)
    yield from root.commands.items()
    yield from root.commands["models"].commands.items()


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_panels_of_the_help_have_the_same_order_in_every_command(name, command):
    panels = [getattr(parameter, "rich_help_panel", None) for parameter in command.params]
    order = [options.PANELS.index(panel) for panel in panels if panel]
    assert order == sorted(order)
