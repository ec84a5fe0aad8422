"""Parts of videos as files of their own: the same frames, from the keyframe before on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adafocus_cli.errors import VideoError
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.process import VideoProcess
from tests.clips import numbered_clip
from tests.render.films import grey_clip, sound_of

FPS = 25
START, END = 1.5, 2.2


@pytest.fixture(scope="module")
def process():
    with VideoProcess() as process:
        yield process


def frames(process: VideoProcess, path: Path) -> np.ndarray:
    video = process.open(str(path))
    return process.frames(video, range(video.info.frames), framing=Framing(64, squeezed=True)).pixels


@pytest.mark.parametrize(
    ("name", "kind", "ending"),
    [
        ("a.mp4", {}, ".mp4"),
        ("late.mp4", {"start": 3000}, ".mp4"),
        ("open.mp4", {"options": {"bf": "3", "g": "10", "x264-params": "open-gop=1"}}, ".mp4"),
        ("a.mkv", {}, ".mkv"),
        ("a.ts", {}, ".ts"),
        ("a.webm", {"codec": "libvpx", "options": {"g": "10", "deadline": "realtime"}}, ".webm"),
        ("a.avi", {"codec": "mpeg4", "options": {"g": "10"}}, ".mkv"),
        ("turned.mov", {"rotation": 90}, ".mov"),
    ],
)
def test_a_clip_has_the_frames_of_its_video_from_the_keyframe_before(
    tmp_path: Path, process: VideoProcess, name: str, kind: dict[str, Any], ending: str
) -> None:
    path = numbered_clip(tmp_path / name, frames=75, size=(64, 64), **{"options": {"g": "10"}, **kind})
    clip = process.write_clip(str(path), tmp_path / "clip", START, END)
    assert clip == tmp_path / f"clip{ending}"
    whole, part = frames(process, path), frames(process, clip)
    (begin,) = [n for n in range(75) if all(np.array_equal(*pair) for pair in zip(whole[n:], part, strict=False))][:1]
    assert START - 10 / FPS <= begin / FPS <= START
    assert END <= (begin + len(part) - 1) / FPS < END + 5 / FPS
    assert process.open(str(clip)).info.rotation == kind.get("rotation", 0)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_clip_has_the_sound_of_its_pictures(tmp_path: Path, process: VideoProcess) -> None:
    path = grey_clip(tmp_path / "a.mp4", frames=100, sound="aac")
    clip = process.write_clip(str(path), tmp_path / "clip", 2.0, 3.0)
    sounds, whole = sound_of(clip), [packet for _, packet in sound_of(path)]
    place = whole.index(sounds[1][1])
    assert [packet for _, packet in sounds[1:]] == whole[place : place + len(sounds) - 1]
    assert sounds[0][0] < 0.1
    assert 0.9 < sounds[-1][0] < 100 / FPS


def test_without_an_end_a_clip_goes_on_to_that_of_the_video(tmp_path: Path, process: VideoProcess) -> None:
    path = numbered_clip(tmp_path / "a.mp4", frames=50, size=(64, 64))
    clip = process.write_clip(str(path), tmp_path / "clip", 0.0, None)
    assert np.array_equal(frames(process, clip), frames(process, path))


@pytest.mark.parametrize(("name", "said"), [("gone.mp4", "there is no such file"), ("s3://b/a.mp4", "copy it to this")])
def test_what_cannot_be_cut_says_why_and_leaves_nothing(
    tmp_path: Path, process: VideoProcess, name: str, said: str
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for path, reason in ((name, said), (str(tmp_path / "text.mp4"), "re-encode it")):
        with pytest.raises(VideoError, match=reason):
            process.write_clip(path, tmp_path / "clip", 0.0, 1.0)
    assert [each.name for each in tmp_path.iterdir()] == ["text.mp4"]
