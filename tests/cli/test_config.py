"""Options that are set in files and by variables, and the completion of command lines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from adafocus_cli.cli.app import app, run
from adafocus_cli.cli.completion import completions
from adafocus_cli.cli.config import settings_of, variable_of
from adafocus_cli.cli.parameters import commands_below, parameters_of
from tests.cli.conftest import ROOT, Adafocus
from tests.cli.fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The files of settings of the working folder and of the user."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name, appauthor: str(tmp_path))
    return tmp_path / "here/adafocus.toml", tmp_path / "adafocus.toml"


def settings(path: tuple[str, ...] = ("classify",), typed: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: each.value for name, each in settings_of(get_command(app), path, typed).items()}


def test_the_command_line_comes_first_then_variables_then_the_working_folder_then_the_user(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, of_user = places
    of_user.write_text("top-k = 1")
    assert settings() == {"top_k": "1"}
    here.write_text("top-k = 2")
    assert settings() == {"top_k": "2"}
    monkeypatch.setenv("ADAFOCUS_TOP_K", "3")
    assert settings() == {"top_k": "3"}
    assert settings(typed=("top_k",)) == {}


def test_what_is_set_is_used(
    places: tuple[Path, Path], engine: FakeEngine, weights: str, adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    places[0].write_text(f"weights = {json.dumps(weights)}\n[classify]\ntop-k = 2\n")
    monkeypatch.setenv("ADAFOCUS_MIN_SCORE", "0.5")
    assert adafocus("classify", "a.mp4").code == 0
    assert engine.request is not None
    assert (engine.request.top_k, engine.request.min_score) == (2, 0.5)


def test_one_command_comes_before_all(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    places[0].write_text("top-k = 1\nquiet = true\n[batch]\ntop-k = 2\n[models.list]\nformat = 'json'")
    assert settings() == {"top_k": "1", "quiet": True}
    assert settings(("batch",)) == {"top_k": "2", "quiet": True}
    assert settings(("models", "list")) == {"format_": "json"}
    monkeypatch.setenv("ADAFOCUS_BATCH_TOP_K", "4")
    monkeypatch.setenv("ADAFOCUS_QUIET", "0")
    assert settings(("batch",)) == {"top_k": "4", "quiet": False}
    assert settings() == {"top_k": "1", "quiet": False}


def test_a_value_for_all_commands_is_for_those_that_take_it(places: tuple[Path, Path]) -> None:
    places[0].write_text("format = 'csv'")
    assert settings() == {"format_": "csv"}
    assert settings(("doctor",)) == {}


def test_of_a_model_and_a_file_of_weights_the_nearer_one_counts(places: tuple[Path, Path]) -> None:
    places[1].write_text("weights = 'mine.pth'")
    assert settings(typed=("model",)) == {}
    places[0].write_text("model = 'motion'")
    assert settings() == {"model": "motion"}


def test_every_option_can_be_set_by_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = commands_below(get_command(app))
    for path, command in commands.items():
        options = [each for each in parameters_of(command) if path and each.is_setting]
        assert len({variable_of(path, each.key) for each in options}) == len(options)
        for option in options:
            number = f"{1 if option.at_least is None else option.at_least:g}"
            values = {"flag": "1", "choice": (*option.choices, "")[0], "whole number": number, "number": number}
            value = "cpu" if option.key == "device" else values.get(option.kind, "x")
            variable = variable_of(path, option.key)
            monkeypatch.setenv(variable, value)
            assert settings(path) == {option.name: True if option.kind == "flag" else value}, variable
            monkeypatch.delenv(variable)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("top-k = 'x'", 'adafocus.toml: top-k = "x" is not allowed; give a whole number of at least 1'),
        ("top-k = true", "adafocus.toml: top-k = true is not allowed; give a whole number of at least 1"),
        ("top-k = [1]", "adafocus.toml: top-k = [1] is not allowed; give a whole number of at least 1"),
        ("quiet = 'yes'", 'adafocus.toml: quiet = "yes" is not allowed; give true or false'),
        ("format = 'xml'", 'adafocus.toml: format = "xml" is not allowed; give table, json, jsonl or csv'),
        ("[train]\nval-share = 2", "adafocus.toml: train.val-share = 2 is not allowed; give a number from 0.01 to 0.9"),
        ("[batch]\ndevice = 'x'", 'batch.device = "x" is not a device; give auto, cpu, cuda, cuda:N or mps'),
        ("top_k = 3", "adafocus.toml has the unknown key top_k; the nearest is top-k"),
        ("help = true", "adafocus.toml has the unknown key help; keys are the names of options, such as top-k"),
        ("[btach]\nquiet = true", "adafocus.toml has the unknown section [btach]; the nearest is batch"),
        ("top-k =", "adafocus.toml is not TOML: "),
        ("model = 'absent'", "there is no model 'absent'"),
        ("model = 'absent'", '(adafocus.toml: model = "absent")'),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key_and_what_is_allowed(
    text: str, error: str, places: tuple[Path, Path], adafocus: Adafocus
) -> None:
    places[0].write_text(text)
    done = adafocus("classify", "a.mp4")
    assert (done.code, done.out) == (2, "")
    assert error in done.err
    assert done.err.count("\n") == 1


def test_a_wrong_variable_is_told_and_help_is_there_all_the_same(
    adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch, places: tuple[Path, Path]
) -> None:
    monkeypatch.setenv("ADAFOCUS_TOP_K", "x")
    done = adafocus("classify", "a.mp4")
    assert done.err == "adafocus: error: ADAFOCUS_TOP_K=x is not allowed; give a whole number of at least 1\n"
    places[0].write_text("=")
    assert adafocus("classify", "--help").code == 0


def test_what_is_set_is_shown(places: tuple[Path, Path], adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch) -> None:
    places[0].write_text("top-k = 2\n[batch]\nquiet = true")
    monkeypatch.setenv("ADAFOCUS_DEVICE", "cpu")
    shown = adafocus("--show-config").out
    assert shown.splitlines() == [
        "adafocus.toml",
        "  top-k = 2",
        "  batch.quiet = true",
        f"{places[1]} (not there)",
        "environment",
        "  ADAFOCUS_DEVICE=cpu",
    ]
    rows = [
        line.split(maxsplit=2) for line in adafocus("--show-config", "batch", "videos/", "-m", "x").out.splitlines()
    ]
    assert ["--model", "x", "command line"] in rows
    assert ["--top-k", "2", "adafocus.toml"] in rows
    assert ["--device", "cpu", "ADAFOCUS_DEVICE"] in rows
    assert ["--quiet", "true", "adafocus.toml"] in rows
    assert ["--decode", "exact", "default"] in rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("topk = 5", "adafocus.toml has the unknown key topk; the nearest is top-k"),
        ("[clasify]\nquiet = true", "adafocus.toml has the unknown section [clasify]; the nearest is classify"),
        ("top-k = [", "adafocus.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_told_behind_the_rest_of_what_is_set(
    places: tuple[Path, Path], adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    places[0].write_text(f"model = 'motion'\n{line}\n")
    places[1].write_text("decode = 'fast'")
    monkeypatch.setenv("ADAFOCUS_MIN_SCORE", "3")
    done = adafocus("--show-config")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert ('model = "motion"' in done.out) == ("TOML" not in said)
    assert 'decode = "fast"' in done.out
    assert "ADAFOCUS_MIN_SCORE=3" in done.out
    done = adafocus("--show-config", "classify")
    assert (done.code, done.err.count("\n")) == (2, 2)
    assert ["--decode", "fast", str(places[1])] in [line.split() for line in done.out.splitlines()]


def test_paths_of_home_are_expanded(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    places[0].write_text("weights = '~/mine.pth'")
    assert settings() == {"weights": "/home/me/mine.pth"}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["cla"], {"classify"}),
        (["models", "sh"], {"show"}),
        (["batch", "videos/", "--pre"], {"--precision"}),
        (["batch", "--decode", ""], {"exact", "fast"}),
        (["classify", "-m", "mot"], {"motion"}),
        (["classify", "--model", "=", "mot"], {"motion"}),
        (["models", "show", "obj"], {"objects"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["classify", "vid"], set()),
        (["classify", "--weights", ""], set()),
    ],
)
def test_the_last_word_is_completed(words: list[str], found: set[str]) -> None:
    assert {word for word, _ in completions(get_command(app), words)} == found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_names_of_models_without_loading_networks() -> None:
    command = f"{sys.executable} -c 'from adafocus_cli.cli.app import run; import sys; run(sys.argv[1:]); "
    command += 'print("torch" in sys.modules, file=sys.stderr)' + '\' "$@"'
    script = f'adafocus() {{ {command}; }}; eval "$(adafocus completion bash 2>/dev/null)"; '
    script += 'COMP_WORDS=(adafocus classify --model = mot); COMP_CWORD=4; _adafocus; echo "${COMPREPLY[@]}"; '
    script += "_ADAFOCUS_COMPLETE=1 adafocus classify -m mot >/dev/null"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("motion\n", "False\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str, adafocus: Adafocus) -> None:
    done = adafocus("completion", shell)
    assert done.code == 0
    assert "_ADAFOCUS_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["completion", "tcsh"], "SHELL tcsh is not allowed; give bash, zsh or fish"),
        (["classfy"], "classfy is not a command of adafocus; the nearest is classify, see adafocus --help"),
    ],
)
def test_a_wrong_word_is_answered_with_those_that_are_allowed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert message in capsys.readouterr().err
