"""`bench/peers.py`, with a network that is small: every row has what was measured, counted and published."""

from __future__ import annotations

from torch import nn

from adafocus_cli.benchmark.videos import make_video
from adafocus_cli.video.process import VideoProcess
from bench import peers
from tests.tiny import tiny_tagger


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_each_row_has_its_time_its_work_and_its_accuracy(tmp_path, capsys):
    peer = peers.Peer("small", small, 2, 16, "1.0 top-1, made up", peers.as_pictures)
    assert peers.counted(peer) * 1e9 == 2 * 4 * 14 * 14 * 27
    path = make_video(tmp_path / "made.mp4", seconds=1)
    with VideoProcess() as process:
        peers.measure({"torch, fp32": tiny_tagger("adafocus-v2")}, "–", [peer], process, [path], 1)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| torch", "| small"))]
    assert [row.split(" | ")[0] for row in rows] == ["| torch, fp32", "| small"] * 2
    assert all(row.endswith("1.0 top-1, made up |") for row in rows[1::2])


def test_a_busy_machine_has_one_table(capsys):
    peer = peers.Peer("small", small, 2, 16, "1.0 top-1, made up", peers.as_pictures)
    peers.count_processor_seconds({"torch, fp32": tiny_tagger("adafocus-v2")}, "–", [peer])
    rows = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()]
    assert rows[-2:] == ["| torch, fp32", "| small"]
