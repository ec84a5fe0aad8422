"""`adafocus doctor`, and what it finds out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from adafocus_cli import __version__
from adafocus_cli.diagnose import CodecCheck, DoctorReport, Machine, checks
from tests.cli.conftest import Adafocus
from tests.clips import has_encoder


def report(*, ready: bool) -> DoctorReport:
    return DoctorReport(
        versions={"adafocus": "1.0", "torch": "2.9" if ready else None, "ray": None},
        machine=Machine("Linux", "a processor", 2, 8.0, ("avx2",), "AVX2"),
        accelerators=(),
        codecs=(CodecCheck("h264", "libx264", {"pyav": "ok", "decord": "not installed"}), CodecCheck("av1", None, {})),
        advice=() if ready else ("torch cannot be loaded",),
        ready=ready,
    )


def test_this_machine_can_tag(adafocus: Adafocus) -> None:
    outcome = adafocus("doctor", "--format", "json")
    found = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert found["ready"] is True
    assert found["versions"]["adafocus"] == __version__
    assert found["versions"]["torch"]
    h264 = next(check for check in found["codecs"] if check["codec"] == "h264")
    assert h264["decoders"]["pyav"] == "ok"


@pytest.mark.parametrize("ready", [True, False])
def test_it_says_so_in_words_and_by_its_exit_status(
    adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    monkeypatch.setattr("adafocus_cli.diagnose.diagnose", lambda: report(ready=ready))
    outcome = adafocus("doctor")
    assert outcome.code == (0 if ready else 1)
    assert ("✓ Videos can be tagged here." in outcome.out) is ready
    assert ("torch cannot be loaded" in outcome.out) is not ready
    assert "not tested" in outcome.out


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="priorities of Linux")
@pytest.mark.skipif(not has_encoder("libsvtav1"), reason="the encoder that takes real-time priority is not there")
def test_trying_encoders_leaves_the_priority_of_the_process(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    encoder, _ = checks._make(next(clip for clip in checks._CODEC_CLIPS if clip.codec == "av1"), tmp_path)
    assert (encoder, os.sched_getscheduler(0)) == ("libsvtav1", before)


def test_a_wrong_frame_shows() -> None:
    import numpy as np

    right = checks._brightness(checks._ASKED)
    shifted = checks._brightness([frame + 1 for frame in checks._ASKED])
    pixels = [np.broadcast_to(grey[:, None, None, None], (3, 4, 4, 3)) for grey in (right, shifted)]
    assert checks._are_the_frames_asked_for(pixels[0])
    assert not checks._are_the_frames_asked_for(pixels[1])


def test_without_torchvision_videos_can_be_tagged_and_the_advice_says_what_cannot(
    adafocus: Adafocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr("adafocus_cli.diagnose.check_codecs", lambda: report(ready=True).codecs)
    outcome = adafocus("doctor")
    assert outcome.code == 0
    assert "torchvision cannot be loaded" in outcome.out
    assert "such as r3d-18" in outcome.out
