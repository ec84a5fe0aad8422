"""Files that are odd, damaged or no videos: frames where they can be had, else one clear sentence."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from adafocus_cli.errors import VideoError
from adafocus_cli.video.decode import Decoder, open_video
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.pyav_reader import FramePictures
from adafocus_cli.video.sampling import spread
from tests.clips import cut_off, flip_bytes, number_picture, numbered_clip, read_number

X264 = {"preset": "veryfast", "g": "25", "bf": "3"}


def refusal(path: Path | str, *, decoder: Decoder = "auto", limits: Limits | None = None) -> str:
    with pytest.raises(VideoError) as caught:
        open_video(str(path), decoder=decoder, limits=limits).frames([0])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path).encode("unicode_escape").decode()[:20])
    return message


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short(tmp_path: Path, frames: int) -> None:
    video = open_video(str(numbered_clip(tmp_path / "short.mp4", frames=frames, options=X264)), decoder="pyav")
    indices = [*range(frames), 0]
    assert [read_number(picture) for picture in video.frames(indices).pixels] == indices
    assert video.info.frames == frames


@pytest.mark.parametrize("size", [(1, 1), (17, 3), (3, 17)])
def test_tiny_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    path = numbered_clip(tmp_path / "tiny.mkv", frames=3, codec="ffv1", size=size, pixel_format="yuv444p")
    video = open_video(str(path), decoder="pyav")
    assert (video.info.width, video.info.height) == size
    assert video.frames([2, 0]).pixels.shape == (2, 224, 224, 3)


def test_4k(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "4k.mp4", frames=4, size=(3840, 2160), options={"preset": "ultrafast"})
    assert [read_number(picture) for picture in open_video(str(path)).frames([3, 1]).pixels] == [3, 1]


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_rotated_pictures_come_upright(tmp_path: Path, rotation: int, decoder: Decoder) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    path = numbered_clip(tmp_path / "turned.mp4", frames=10, size=(160, 96), options=X264, rotation=rotation)
    video = open_video(str(path), decoder=decoder)
    assert video.info.rotation == rotation
    assert (video.info.width, video.info.height) == ((160, 96) if rotation == 180 else (96, 160))
    turned_back = np.rot90(video.frames([7]).pixels[0], k=rotation // 90)
    assert read_number(turned_back) == 7


@pytest.mark.parametrize("pixel_format", ["yuv444p10le", "gray", "bgr0", "yuva420p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    path = numbered_clip(tmp_path / "format.mkv", frames=5, codec="ffv1", pixel_format=pixel_format)
    frames = open_video(str(path), decoder="pyav").frames([4])
    assert read_number(frames.pixels[0]) == 4
    if pixel_format != "gray":
        middle = number_picture(4, 128, 96)[4:12, 60:68].mean(axis=(0, 1))
        assert np.abs(frames.pixels[0][:12, 104:120].mean(axis=(0, 1)) - middle).max() < 60


def test_colours_that_ffmpeg_does_not_know(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "strange.mkv", frames=3, options=X264, colorspace=8)
    assert read_number(open_video(str(path), decoder="pyav").frames([2]).pixels[0]) == 2


def test_no_videos(tmp_path: Path) -> None:
    text, empty, folder = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "folder.mp4"
    text.write_text("Good morning")
    empty.touch()
    folder.mkdir()
    assert "not a video" in refusal(text)
    assert "the file is empty" in refusal(empty)
    assert "a folder" in refusal(folder)
    assert "no such file" in refusal(tmp_path / "missing.mp4")
    assert "no such file" in refusal(text / "below.mp4") or "cannot be read" in refusal(text / "below.mp4")
    assert "cannot be read" in refusal(tmp_path / "nul\0.mp4")
    assert "cannot be read" in refusal(tmp_path / ("long" * 100))


@pytest.mark.skipif(sys.platform == "win32", reason="no such files on Windows")
def test_no_regular_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "a named pipe" in refusal(tmp_path / "pipe.mp4")
    assert "a device" in refusal("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path has to be short
        server.bind("socket.mp4")
        assert "a socket" in refusal("socket.mp4")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "closed.mp4", frames=2)
    path.chmod(0)
    assert "no permission" in refusal(path)


def test_no_permission_as_the_system_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = numbered_clip(tmp_path / "closed.mp4", frames=2)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert "no permission" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile real.mp4\n",
        "[playlist]\nFile1=real.mp4\n",
    ],
)
@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
@pytest.mark.parametrize("ending", ["m3u8", "mp4", "ffconcat"])
def test_playlists_open_no_other_files(tmp_path: Path, text: str, decoder: Decoder, ending: str) -> None:
    numbered_clip(tmp_path / "real.mp4", frames=2)
    path = tmp_path / f"list.{ending}"
    path.write_text(text)
    refusal(path, decoder=decoder)


def test_names_that_look_like_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered_clip(tmp_path / "real.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    for name in ("concat:real.mp4|real.mp4", "subfile,,start,0,end,9,,:real.mp4", "http://localhost/real.mp4", "-"):
        assert "no such file" in refusal(name)


NAMES = [
    "a b.mp4",
    'it\'s "it".mp4',
    "two\nlines\t.mp4",
    "-dash.mp4",
    "кино 映画.mp4",
    "100% {x} $HOME *.mp4",
    "a:b|c.mp4",
]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these names")
@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"bytes\xff\xfe.mp4")])
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    clip = numbered_clip(tmp_path / "plain.mp4", frames=3, options=X264)
    try:
        clip.rename(tmp_path / name)
    except OSError:
        pytest.skip("the file system has no such names")
    monkeypatch.chdir(tmp_path)
    video = open_video(name, decoder="pyav")
    assert video.info.path == name
    assert read_number(video.frames([2]).pixels[0]) == 2


def test_a_cut_off_mp4_is_refused(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "cut.mp4", frames=50, options=X264)
    cut_off(path, 0.6)
    assert "copy or download it again" in refusal(path)


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_the_rest_of_a_cut_off_file_is_read(tmp_path: Path, ending: str) -> None:
    path = numbered_clip(tmp_path / f"cut.{ending}", frames=200, options=X264)
    cut_off(path, 0.5)
    video = open_video(str(path), decoder="pyav")
    assert 50 < video.info.frames < 150
    wanted = spread(video.info.frames, 16)
    assert [read_number(picture) for picture in video.frames(wanted).pixels] == list(wanted)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_damage_in_the_middle_is_counted(tmp_path: Path, ending: str) -> None:
    path = numbered_clip(tmp_path / f"damaged.{ending}", frames=200, options={**X264, "crf": "10"})
    flip_bytes(path, start=0.4, stop=0.6, every=11)
    video = open_video(str(path), decoder="pyav")
    wanted = range(0, video.info.frames, 2)
    result = video.frames(wanted)
    assert result.pixels.shape[0] == len(wanted)
    assert result.replaced > 0
    if ending != "ts":  # there the damage also hides the packets
        assert result.damaged
    assert [read_number(picture) for picture in result.pixels[:20]] == list(wanted[:20])


def test_threads_change_nothing_of_a_damaged_video(tmp_path: Path) -> None:
    path = str(numbered_clip(tmp_path / "damaged.mp4", codec="mpeg4", frames=100, size=(256, 192)))
    flip_bytes(Path(path), start=0.3, stop=0.7, every=301)
    alone, threaded = (open_video(path, decoder="pyav", threads=threads) for threads in (1, 3))
    for wanted in ((5, 1), range(0, 100, 3), (99,)):
        ours, theirs = alone.frames(wanted), threaded.frames(wanted)
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert (ours.replaced, ours.damaged) == (theirs.replaced, theirs.damaged)
    assert ours.damaged


def test_damage_far_into_a_film_has_little_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(numbered_clip(tmp_path / "damaged.mp4", codec="mpeg4", frames=200, options={"g": "10"}))
    flip_bytes(Path(path), start=0.8, stop=0.9, every=301)
    made = 0
    usual = FramePictures.upright

    def counted(self: FramePictures, frame: object) -> np.ndarray:
        nonlocal made
        made += 1
        return usual(self, frame)

    alone, threaded = (open_video(path, decoder="pyav", threads=threads) for threads in (1, 3))
    for first in range(0, 200, 20):
        ours = alone.frames([first + 5, first + 15])
        with monkeypatch.context() as patch:
            patch.setattr(FramePictures, "upright", counted)
            theirs = threaded.frames([first + 5, first + 15])
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert ours.damaged == theirs.damaged
    assert ours.damaged
    assert made == 20 + 2, "those of the request that met damage are read again, and none before it"


def test_threads_forget_no_damage_that_opening_met(tmp_path: Path) -> None:
    path = str(numbered_clip(tmp_path / "damaged.avi", codec="mpeg4", frames=60, size=(256, 192)))
    flip_bytes(Path(path), start=0.5, stop=0.7, every=301)
    alone, threaded = (open_video(path, decoder="pyav", threads=threads) for threads in (1, 3))
    assert alone.frames([2]).damaged == threaded.frames([2]).damaged != frozenset()


@pytest.mark.parametrize(("codec", "ending"), [("libx264", "mp4"), ("libx264", "ts"), ("mpeg4", "mp4")])
def test_damage_that_ffmpeg_paints_over_is_counted(tmp_path: Path, codec: str, ending: str) -> None:
    path = numbered_clip(tmp_path / f"whole.{ending}", codec=codec, frames=100, size=(256, 192))
    wanted = range(100)
    assert open_video(str(path), decoder="pyav").frames(wanted).damaged == frozenset()
    flip_bytes(path, start=0.3, stop=0.7, every=3001)
    result = open_video(str(path), decoder="pyav").frames(wanted)
    assert result.replaced == 0
    assert 0 < len(result.damaged) < 40


def test_a_picture_that_nothing_can_decode(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "damaged.ts", frames=50, codec="mpeg4")
    flip_bytes(path, start=0.0, stop=1.0, every=7)
    refusal(path)


def test_limits_come_before_decoding(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "plain.mp4", frames=50, options=X264)
    assert "128×96" in refusal(path, limits=Limits(max_pixels=10_000))
    assert "packets" in refusal(path, limits=Limits(max_packets=49))
    assert "times as long as short" in refusal(path, limits=Limits(max_aspect=1.2))
    assert "--decode-timeout SECONDS" in refusal(path, limits=Limits(seconds=1e-9))
    with pytest.raises(ValueError, match="more than 0"):
        Limits(seconds=0)


def test_sound_with_a_cover_is_not_a_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert "no video in it" in refusal(path)
