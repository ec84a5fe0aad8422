"""The example that writes a world's videos into folders."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import av
import pytest

from adafocus_cli.worlds import SIDE
from tests.clips import has_encoder

RENDER = Path(__file__).parents[2] / "examples" / "render.py"


@pytest.fixture
def render(monkeypatch):
    """Runs it in the test's process."""

    def call(folder, *options):
        monkeypatch.setattr(sys, "argv", [str(RENDER), str(folder), *options])
        runpy.run_path(str(RENDER), run_name="__main__")

    return call


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV has no libx264 encoder")
def test_it_writes_the_same_videos_again(tmp_path, render):
    labels = ["nothing moves", "object moves left"]
    options = ("--labels", *labels, "--per-label", "1", "--seed", "3")
    render(tmp_path / "one", *options)
    subprocess.run([sys.executable, RENDER, tmp_path / "other", *options], check=True, timeout=120)
    written = [[(tmp_path / name / label / "000.mp4").read_bytes() for label in labels] for name in ("one", "other")]
    assert written[0] == written[1]
    assert written[0][0] != written[0][1]
    with av.open(str(tmp_path / "one" / labels[0] / "000.mp4")) as video:
        (stream,) = video.streams.video
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (SIDE, SIDE, "yuv420p")
        assert 16 <= sum(1 for _ in video.decode(stream)) <= 120


def test_a_label_that_the_world_has_not_is_one_line(tmp_path, render, capsys):
    with pytest.raises(SystemExit) as ended:
        render(tmp_path, "--labels", "object jumps")
    assert ended.value.code == 2
    assert "has no label 'object jumps'; its labels are nothing moves" in capsys.readouterr().err.splitlines()[-1]
