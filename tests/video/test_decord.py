"""decord as the second reader: what it gives, what it warns of, and when `auto` turns to it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from adafocus_cli.errors import VideoError
from adafocus_cli.video import decode
from adafocus_cli.video.decode import open_video
from adafocus_cli.video.limits import problem
from adafocus_cli.video.sampling import spread
from tests.clips import numbered_clip, read_number
from tests.video.conftest import ClipMaker
from tests.video.kinds import FRAMES

needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")


@needs_decord
@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.mkv", "uneven.mp4", "late.mkv", "vp9.webm"])
def test_gives_what_pyav_gives(clip: ClipMaker, name: str) -> None:
    wanted = spread(FRAMES, 16)
    ours, theirs = (open_video(str(clip(name)), decoder=decoder) for decoder in ("pyav", "decord"))
    first, second = ours.frames(wanted), theirs.frames(wanted)
    assert theirs.warnings == ()
    assert second.decoder == theirs.info.decoder == "decord"
    assert (ours.info.width, ours.info.frames, ours.info.codec) == (
        theirs.info.width,
        theirs.info.frames,
        theirs.info.codec,
    )
    assert first.times == pytest.approx(second.times, abs=0.002)
    assert np.abs(first.pixels.astype(int) - second.pixels).max() <= 2


@needs_decord
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("h264.ts", "MPEG-TS"),
        ("mpeg2-b.mpg", "MPEG-PS"),
        ("h264.avi", "AVI"),
        ("plain.wmv", "WMV"),
        ("plain.flv", "FLV"),
        ("edited.mp4", "an edit list cuts it"),
        ("open-gop.mp4", "groups of pictures are open"),
        ("mpeg4-b.mp4", "mpeg4 frames are stored out of order"),
    ],
)
def test_warns_where_it_is_inexact(clip: ClipMaker, name: str, why: str) -> None:
    (warning,) = open_video(str(clip(name)), decoder="decord").warnings
    assert why in warning
    assert warning.endswith("use --decoder pyav for exact frames")


def test_auto_is_pyav(clip: ClipMaker) -> None:
    assert open_video(str(clip("b-frames.mp4"))).info.decoder == "pyav"


@needs_decord
def test_it_knows_the_keyframes(clip: ClipMaker) -> None:
    video = open_video(str(clip("b-frames.mp4")), decoder="decord")
    near = video.keyframes_near((0, 60, 290))
    assert near == open_video(str(clip("b-frames.mp4")), decoder="pyav").keyframes_near((0, 60, 290))
    assert [read_number(picture) for picture in video.frames(near).pixels] == near


@needs_decord
def test_auto_is_decord_where_pyav_is_missing(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = decode.is_installed
    monkeypatch.setattr(decode, "is_installed", lambda module: module != "av" and installed(module))
    video = open_video(str(clip("b-frames.mp4")))
    assert video.info.decoder == "decord"
    assert read_number(video.frames([123]).pixels[0]) == 123
    with pytest.raises(VideoError, match="pip install av"):
        open_video(str(clip("b-frames.mp4")), decoder="pyav")


@needs_decord
def test_auto_turns_to_decord_where_pyav_fails_to_open(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode.Video, "_open_pyav", _fail)
    video = open_video(str(clip("b-frames.mp4")))
    assert video.frames([5]).decoder == "decord"


@needs_decord
def test_auto_turns_to_decord_where_pyav_fails_to_decode(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from adafocus_cli.video.pyav_reader import PyAVReader

    video = open_video(str(clip("b-frames.mp4")))
    assert video.info.decoder == "pyav"
    monkeypatch.setattr(PyAVReader, "read", _fail)
    frames = video.frames([5, 299])
    assert frames.decoder == "decord"
    assert [read_number(picture) for picture in frames.pixels] == [5, 299]


def _fail(*given: object, **how: object) -> None:
    raise problem("x", "made to fail")


def test_the_error_is_pyavs_where_both_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = numbered_clip(tmp_path / "plain.mp4", frames=3)
    monkeypatch.setattr(decode.Video, "_open_pyav", _fail)
    monkeypatch.setattr(decode, "is_installed", lambda module: module == "av")
    with pytest.raises(VideoError, match="made to fail"):
        open_video(str(path))


def test_says_what_to_install(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "is_installed", lambda module: module != "decord")
    with pytest.raises(VideoError, match="decord is not installed; pip install decord"):
        open_video(str(clip("b-frames.mp4")), decoder="decord")
