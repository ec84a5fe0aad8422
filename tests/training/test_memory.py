"""A step that does not fit into memory is cut into pieces, and what cannot fit is refused before anything is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.models import build
from adafocus_cli.training import fit, memory
from adafocus_cli.training.fit import Fit
from adafocus_cli.training.memory import Fitting, Room
from adafocus_cli.training.recipes import TrainingSettings
from tests.tiny import tiny_spec

PLENTY = float("inf")


def cut_up(monkeypatch):
    """A machine whose room is for the smallest pieces only."""
    monkeypatch.setattr(Room, "of", lambda *_, **__: Room(0, PLENTY, by_option=True))


def heading_and_losses(folder):
    heading, *lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    values = [value for line in lines for value in (line["loss"], line["val_loss"])]
    return heading, [value for value in values if value is not None]


def test_the_pieces_of_a_batch_add_up_to_its_step(train, videos, monkeypatch, capsys):
    given = ("-r", "v1", "--epochs", "0,0,0,3", "--dropout", 0, "--seed", 1)
    assert train(videos, *given, "-o", "whole", "-q") == 0
    cut_up(monkeypatch)
    assert train(videos, *given, "-o", "cut") == 0
    whole, losses = heading_and_losses(Path("whole"))
    cut, losses_of_cut = heading_and_losses(Path("cut"))
    assert (whole["pieces"], cut["pieces"]) == ([1], [4])
    assert losses_of_cut == pytest.approx(losses, rel=1e-5)  # sums in another order
    said = " ".join(capsys.readouterr().err.split())
    assert "a step takes 1 at a time and adds up their gradients" in said


def test_a_resumed_run_keeps_its_pieces_on_a_machine_with_more_memory(train, videos, monkeypatch):
    given = (videos, "-r", "v2", "--epochs", 2, "-q")
    with monkeypatch.context() as small:
        cut_up(small)
        assert train(*given, "-o", "at-once") == 0
        small.setattr(Fit, "_validate", interrupted_at_second(Fit._validate))
        assert train(*given, "-o", "resumed") == 130
    assert train("--resume", "resumed", "-q") == 0
    assert heading_and_losses(Path("resumed"))[1] == heading_and_losses(Path("at-once"))[1]


def interrupted_at_second(validate):
    calls = []

    def call(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*given)

    return call


def test_what_cannot_fit_is_refused_in_a_line_that_names_the_options(train, videos, capsys):
    assert train(videos, "-r", "v2", "--memory", 0.1, "-o", "run") == 1
    said = capsys.readouterr().err
    assert "stage end to end needs more memory for one clip than the 0.0 GB" in said
    assert "allow more with --memory, give fewer --frames" in said
    assert not Path("run").exists()


def test_networks_that_exchange_features_between_frames_keep_two_clips(train, videos, monkeypatch):
    cut_up(monkeypatch)
    assert train(videos, "-r", "v2-tsm", "--epochs", 1, "-o", "run", "-q") == 0
    assert heading_and_losses(Path("run"))[0]["pieces"] == [2]


def test_a_single_clip_where_norms_need_two_is_refused():
    settings = TrainingSettings(data="", recipe="v2-tsm", batch_size=4, processes=4)
    fitting = Fitting(
        settings=settings,
        device=torch.device("cpu"),
        precision=None,
        room=Room(PLENTY, PLENTY, by_option=False),
        workers=0,
        notify=print,
    )
    with pytest.raises(
        UsageError, match="--batch-size 4 gives each process 1 clip, and norms of v2-tsm need two; give 8"
    ):
        fitting.pieces(build(replace(tiny_spec("adafocus-v2-tsm"), glance_frames=2, focus_frames=2)))


@pytest.mark.parametrize(
    ("recipe", "batch_size", "processes", "told"),
    [
        ("v2", 12, 4, "4 with --accumulate 4"),
        ("v2", 1, 1, "give fewer --frames, or smaller networks with --glance and --focus"),
        ("skip", 1, 1, "give a smaller model after --init"),
        ("v2-tsm", 3, 1, "give fewer --frames, or smaller networks with --glance and --focus"),
    ],
)
def test_too_little_memory_names_no_batch_that_cannot_be(recipe, batch_size, processes, told):
    settings = TrainingSettings(data="", recipe=recipe, batch_size=batch_size, accumulate=2, processes=processes)
    with (
        pytest.raises(AdaFocusError, match=f"--batch-size {batch_size} needs more memory than there is; {told}"),
        fit._explain_out_of_memory(settings, 2 if recipe == "v2-tsm" else 1),
    ):
        raise MemoryError


def test_the_trial_of_a_step_leaves_no_trace_in_a_run(train, videos, monkeypatch):
    given = (videos, "-r", "v2", "--epochs", 1, "-q")
    assert train(*given, "-o", "tried") == 0
    monkeypatch.setattr(Fitting, "pieces", lambda *_: (1,))
    assert train(*given, "-o", "untried") == 0
    tensors, others = (load_file(f"{folder}/model.safetensors") for folder in ("tried", "untried"))
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert heading_and_losses(Path("tried"))[1] == heading_and_losses(Path("untried"))[1]


def test_the_meter_counts_what_lives_at_the_same_time():
    known = torch.zeros(1000)
    with memory._Meter([known], PLENTY) as meter:
        known.add_(1)
        first = known + 1
        del first
        second = torch.ones(500)
        third = second.view(10, 50)  # the same bytes
        fourth = third + 1
        del fourth
    assert meter.peak == 4 * 1000
    with pytest.raises(memory._TooLargeError), memory._Meter([], 4 * 600):
        _ = [torch.ones(500), torch.ones(500)]


GROUPS = {
    "version 2": (
        "0::/user/job\n",
        {
            "sys/fs/cgroup/user/memory.max": "2000000000",
            "sys/fs/cgroup/user/memory.current": "1500000000",
            "sys/fs/cgroup/user/memory.stat": "anon 900000000\ninactive_file 250000000\n",
            "sys/fs/cgroup/user/job/memory.max": "max",
        },
    ),
    "version 1": (
        "5:cpu:/\n4:memory:/job\n",
        {
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000000",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "400000000",
            "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 150000000\n",
        },
    ),
    "none": ("0::/\n", {}),
}


@pytest.mark.parametrize(
    ("groups", "left"), [("version 2", 750_000_000), ("version 1", 750_000_000), ("none", 3_072_000_000)]
)
def test_limits_of_control_groups_count_like_the_memory_of_the_machine(groups, left, tmp_path):
    membership, files = GROUPS[groups]
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 3000000 kB\n", "proc/self/cgroup": membership, **files}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.free_memory(tmp_path) == left


def test_memory_that_was_asked_for_limits_the_smallest_pieces_and_the_default_does_not(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 50e9)
    monkeypatch.setattr(memory, "_resident", lambda: 1e9)
    processor = torch.device("cpu")
    usual = Room.of(processor, None, workers=2, processes=1)
    asked = Room.of(processor, 4.0, workers=2, processes=1)
    assert usual.bytes == asked.bytes == asked.most == pytest.approx(3e9 - 2 * memory._WORKER_BYTES)
    assert usual.most == pytest.approx(45e9 - 2 * memory._WORKER_BYTES)
    assert replace(usual, most=asked.most) == asked
