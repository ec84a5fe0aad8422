"""`bench/gpu.py` runs to its end without a GPU, and its report has every field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
# Why a field may be empty here; anything else is a fault of the part.
REASONS = ("no CUDA device", "not measured on this device", "not reached in ", "the program ffmpeg is not there")


def test_without_a_gpu_every_part_is_tried_and_every_empty_field_says_why(tmp_path):
    command = [sys.executable, BENCH / "gpu.py", "--json", tmp_path / "gpu.json", "--device", "cpu", "--seconds", "8"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=180, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No GPU was there" in done.stdout
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert (report["schema"], report["device"]) == ("adafocus-gpu/1", "cpu")
    parts = report["parts"]
    assert set(parts) == {
        *("about", "tests", "goldens", "peak", "speed", "stages", "batch", "decoding", "training", "uploading"),
    }
    for part in parts.values():
        assert {name for name, value in part["values"].items() if value is None} == set(part["reasons"])
        assert all(reason.startswith(REASONS) for reason in part["reasons"].values()), part["reasons"]
    assert parts["about"]["values"]["torch"]
    assert parts["decoding"]["values"]["pyav_nvdec"] is None
