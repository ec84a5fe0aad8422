"""A run that was interrupted is resumed to the very same end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adafocus_cli.cli import train as train_command
from adafocus_cli.cli.app import run
from adafocus_cli.training import train as runs
from adafocus_cli.training.recipes import TrainingSettings
from adafocus_cli.training.run_folder import RunFolder, RunProgress, TrainingRun
from tests.forked import Forked
from tests.tiny import tiny_spec
from tests.training.conftest import SIZES, WORLD


def without_seconds(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timings = ("seconds", "waiting")
    return [{name: value for name, value in line.items() if name not in timings} for line in lines[1:]]


def same_end(one, other, *, files=("best", "last", "model")):
    assert without_seconds(one) == without_seconds(other)
    for name in files:
        assert (one / f"{name}.safetensors").read_bytes() == (other / f"{name}.safetensors").read_bytes()


def process(folder, *arguments):
    folder.mkdir(exist_ok=True)
    return Forked("adafocus_cli", ["train", *arguments], cwd=folder, stderr=subprocess.DEVNULL)


def test_after_kill_9_the_curve_and_the_weights_are_those_of_an_unbroken_run(tmp_path, monkeypatch):
    command = [*WORLD, *SIZES, "-r", "v2", "--epochs", "3", "-o", "run"]
    killed = process(tmp_path / "killed", *command)
    log = tmp_path / "killed" / "run" / "log.jsonl"
    while not (log.exists() and len(log.read_bytes().splitlines()) >= 2):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "run" / "model.safetensors").exists()
    # The first line may be noted before the first checkpoint is there: then there is nothing to go on from.
    again = ["--resume", "run"] if (log.parent / "last.pt").exists() else command
    monkeypatch.chdir(tmp_path / "killed")
    assert run(["train", *again]) == 0
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert run(["train", *command]) == 0
    same_end(tmp_path / "whole" / "run", tmp_path / "killed" / "run")


class Interrupted:
    """Ctrl-C when this epoch of this stage begins."""

    def __init__(self, monkeypatch, stage, epoch):
        usual = train_command.EpochLines.epoch_started

        def epoch_started(view, stage_name, number, *more):
            if (stage_name, number) == (stage, epoch):
                raise KeyboardInterrupt
            usual(view, stage_name, number, *more)

        monkeypatch.setattr(train_command.EpochLines, "epoch_started", epoch_started)


@pytest.mark.parametrize(
    ("recipe", "epochs", "stage", "epoch"),
    [
        ("v1", "1,1,2,1", "policy", 2),
        ("v1", "0,0,1,1", "answers", 1),
    ],
)
def test_ctrl_c_says_how_to_go_on_also_between_stages(recipe, epochs, stage, epoch, train, videos, capsys, monkeypatch):
    given = ("videos", "-r", recipe, "--epochs", epochs, "-o", "run")
    for folder in ("whole", "broken"):
        Path(folder).mkdir()
        Path(folder, "videos").symlink_to(videos)
    monkeypatch.setattr(sys, "argv", ["adafocus", "the same command"])
    monkeypatch.chdir("whole")
    assert train(*given) == 0
    monkeypatch.chdir("../broken")
    with monkeypatch.context() as patch:
        Interrupted(patch, stage, epoch)
        assert train(*given) == 130
    assert "interrupted; resume the run with: adafocus train --resume run" in capsys.readouterr().err
    assert any(Path("run/frames").glob("*.frames"))  # which need not be decoded again
    with Path("run/log.jsonl").open("a") as log:  # as an epoch that was noted, but not kept
        log.write('{"stage": "policy", "epo')
    assert run(["train", "--resume", "run", "--workers", "0"]) == 0
    same_end(Path("../whole/run"), Path("run"))
    assert not Path("run/frames").exists()


def test_going_on_with_other_settings_names_the_one(train, videos, capsys):
    assert train("videos", "-r", "v2", "--epochs", 1, "-o", "run", "-q") == 0
    again = ["train", "--resume", "run"]
    assert run([*again, "--seed", "5"]) == 2
    assert "the run in run was started with --seed 0, not 5; leave it out" in capsys.readouterr().err
    assert run([*again, "--dropout", "0.1"]) == 2
    assert "started with no --dropout, not 0.1" in capsys.readouterr().err
    assert run(["train", "other", *again[1:]]) == 2
    assert "started with DATA videos, not other" in capsys.readouterr().err
    (videos / "low" / "3.mp4").unlink()
    assert run(again) == 2
    assert "videos has changed since the run in run was started" in capsys.readouterr().err


def test_going_on_needs_a_run(tmp_path, capsys):
    assert run(["train", "--resume", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err
    torch.save({"format": "something else"}, tmp_path / "last.pt")
    assert run(["train", "--resume", str(tmp_path)]) == 1
    assert "last.pt is of another version" in capsys.readouterr().err
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 cut off")
    assert run(["train", "--resume", str(tmp_path)]) == 1
    assert "last.pt is damaged; start a new run" in capsys.readouterr().err


def torchrun(monkeypatch, processes):
    """This process is the first of them."""
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("by", "now", "told"),
    [
        (4, 1, "by 4 processes, not 1; resume it with torchrun --nproc-per-node 4 -m adafocus_cli train --resume run"),
        (1, 2, "by 1 process, not 2; resume it with adafocus train --resume run"),
    ],
)
def test_going_on_needs_as_many_processes(by, now, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    settings = TrainingSettings(data="videos", recipe="v2", processes=by)
    run_of = TrainingRun(settings=settings, spec=tiny_spec("adafocus-v2"), labels=("a", "b"), clips={}, command="")
    RunFolder(Path("run")).save_checkpoint(run_of, RunProgress(), {})
    if now > 1:
        torchrun(monkeypatch, now)
    assert run(["train", "--resume", "run"]) == 2
    assert f"the run in run was started {told}\n" in capsys.readouterr().err


def test_going_on_takes_the_resources_of_the_run_but_for_those_that_are_given_again(tmp_path, monkeypatch):
    """With less memory a batch would go in other pieces, and the curve would be another."""
    taken = []

    def teach(of_run, data, context):
        taken.append((of_run.resources, context.resources))
        return runs.TrainingOutcome(model=Path("run/model.safetensors"), progress=RunProgress())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "_teach", teach)
    assert run(["train", "world:motion", "-r", "quick", "-o", "run", "--workers", "3", "--decoder", "pyav"]) == 0
    assert run(["train", "--resume", "run", "--device", "cpu", "--decoder", "decord"]) == 0
    saved, resources = taken[1]
    assert saved == resources == replace(taken[0][0], device="cpu", decoder="decord")
    assert resources.workers == 3


def test_ctrl_c_says_how_several_processes_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("adafocus_cli.training.train.resume", interrupted)
    torchrun(monkeypatch, 4)
    (tmp_path / "last.pt").touch()
    assert run(["train", "--resume", str(tmp_path)]) == 130
    command = f"torchrun --nproc-per-node 4 -m adafocus_cli train --resume {tmp_path}"
    assert f"interrupted; resume the run with: {command}\n" in capsys.readouterr().err


def test_two_processes_learn_what_one_does(train, videos):
    """Where no batch norm learns and nothing is random: else each process has its own batch norms and chance."""
    command = ["videos", *SIZES, "-r", "v1", "--epochs", "0,0,0,2", "--dropout", "0", "-q"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address, port = free.getsockname()
    ranks = [
        Forked(
            "adafocus_cli",
            ["train", *command, "-o", "two"],
            cwd=Path.cwd(),
            # As torchrun has it, which takes longer to start than they need.
            env={
                **os.environ,
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
                **{"MASTER_ADDR": address, "MASTER_PORT": str(port)},
            },
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        _, said = rank.communicate(timeout=300)
        assert rank.returncode == 0, said
    assert run(["train", *command, "-o", "one"]) == 0
    for two, one in zip(without_seconds(Path("two")), without_seconds(Path("one")), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            expected = None if one[name] is None else pytest.approx(one[name], rel=1e-6)  # sums in another order
            assert two[name] == expected, name
