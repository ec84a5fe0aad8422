"""The help of every command at any width, errors of wrong values, and the manual page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.main import get_command

from adafocus_cli.cli.app import app, manual_page
from adafocus_cli.cli.parameters import commands_below, parameters_of
from tests.cli.conftest import ROOT, Adafocus

COMMANDS = commands_below(get_command(app))
EVERY_COMMAND = pytest.mark.parametrize(("path", "command"), list(COMMANDS.items()), ids=lambda each: str(each)[:20])
# What the parser below would show: its types, the words of its checks, its ranges.
OF_PROGRAMMERS = re.compile(r"<\w|list\[|\[x|Input should be|Value error|Optional|Path\b(?!s)")


@EVERY_COMMAND
@pytest.mark.parametrize("columns", [40, 60, 200])
def test_no_name_of_an_option_is_cut_at_any_width(
    path: tuple[str, ...], command: Any, columns: int, adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = adafocus(*path, "--help").out
    for parameter in parameters_of(command):
        assert parameter.label in shown


@EVERY_COMMAND
def test_help_has_no_types_of_the_language(path: tuple[str, ...], command: Any, adafocus: Adafocus) -> None:
    assert not OF_PROGRAMMERS.search(adafocus(*path, "--help").out)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("classify a.mp4 --top-k many", "--top-k many is not allowed; give a whole number of at least 1"),
        ("classify a.mp4 --top-k 0", "--top-k 0 is not allowed; give a whole number of at least 1"),
        ("classify a.mp4 --min-score 3", "--min-score 3 is not allowed; give a number from 0 to 1"),
        ("classify a.mp4 --window x", "--window x is not allowed; give a number"),
        ("classify a.mp4 --format xml", "--format xml is not allowed; give table, json, jsonl or csv"),
        ("classify a.mp4 --device gpu", "--device gpu is not a device; give auto, cpu, cuda, cuda:N or mps"),
        ("batch a.mp4", "--output FILE is missing; see adafocus batch --help"),
        ("render", "VIDEO is missing; see adafocus render --help"),
        ("classify a --top-k", "--top-k has no value; give a whole number of at least 1, see adafocus classify --help"),
        ("classify a --quiet=1", "--quiet takes no value; leave out what follows it, see adafocus classify --help"),
        ("--foo", "--foo is not an option of adafocus; see adafocus --help"),
        (
            "classify a --wights w",
            "--wights is not an option of adafocus classify; the nearest is --weights, see adafocus classify --help",
        ),
        (
            "completion bash b",
            "too many arguments, from b on; the usage is: adafocus completion [OPTIONS] SHELL, see adafocus "
            "completion --help",
        ),
        ("models shwo", "shwo is not a command of adafocus models; the nearest is show, see adafocus models --help"),
        ("a.mp4", "a.mp4 is not a command of adafocus; to tag a video: adafocus classify a.mp4, see adafocus --help"),
    ],
)
def test_a_wrong_line_is_told_with_what_is_allowed(arguments: str, error: str, adafocus: Adafocus) -> None:
    done = adafocus(*arguments.split())
    assert (done.code, done.out, done.err) == (2, "", f"adafocus: error: {error}\n")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told(option: str, adafocus: Adafocus) -> None:
    assert re.fullmatch(r"adafocus \d+\.\d+\.\d+\n", adafocus(option).out)


def test_the_manual_page_is_that_of_these_commands() -> None:
    assert (ROOT / "docs/adafocus.1").read_text("utf-8") == manual_page(), "make man"
