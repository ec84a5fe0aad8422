"""The example that writes a world's videos into folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest

from adafocus_cli.worlds import SIDE
from tests.clips import has_encoder

RENDER = Path(__file__).parents[2] / "examples" / "render.py"


def render(folder, *options):
    return subprocess.run([sys.executable, RENDER, folder, *options], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV has no libx264 encoder")
def test_it_writes_the_same_videos_again(tmp_path):
    labels = ["nothing moves", "object moves left"]
    written = []
    for name in ("one", "other"):
        done = render(tmp_path / name, "--labels", *labels, "--per-label", "1", "--seed", "3")
        assert done.returncode == 0, done.stderr
        written.append([(tmp_path / name / label / "000.mp4").read_bytes() for label in labels])
    assert written[0] == written[1]
    assert written[0][0] != written[0][1]
    with av.open(str(tmp_path / "one" / labels[0] / "000.mp4")) as video:
        (stream,) = video.streams.video
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (SIDE, SIDE, "yuv420p")
        assert 16 <= sum(1 for _ in video.decode(stream)) <= 120


def test_a_label_that_the_world_has_not_is_one_line(tmp_path):
    done = render(tmp_path, "--labels", "object jumps")
    assert done.returncode == 2
    assert "has no label 'object jumps'; its labels are nothing moves" in done.stderr.splitlines()[-1]
