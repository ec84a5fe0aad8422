"""Rendered files: the box in its place, the times and the sound of the source, all or nothing on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adafocus_cli.errors import AdaFocusError, UsageError, VideoError
from adafocus_cli.render import process
from adafocus_cli.render.process import render
from tests.clips import has_encoder
from tests.render.films import BOXES, TIMES, Box, box_in, duration_of, grey_clip, pictures_of, record_of, sound_of

pytestmark = pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV has no libx264")


def test_an_mp4_has_its_box_in_place_and_time_and_sound_of_the_source(tmp_path: Path) -> None:
    source, film = grey_clip(tmp_path / "a.mp4", sound="aac"), tmp_path / "drawn.mp4"
    told: list[tuple[int, int]] = []
    render(str(source), record_of(source), output=film, progress=lambda *now: told.append(now))
    pictures = pictures_of(film)
    assert [time for time, _ in pictures] == [time for time, _ in pictures_of(source)]
    assert duration_of(film) == duration_of(source)
    for time, box in (*zip(TIMES, BOXES, strict=True), (0.6, (70, 20, 130, 80))):
        assert_drawn(pictures[round(time * 25)][1], box)
    assert sound_of(film) == sound_of(source)
    assert told[-1] == (50, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "drawn.mp4"]


def assert_drawn(picture: np.ndarray, box: Box) -> None:
    """White lines around it, corners in colour, and nothing beside it."""
    assert box_in(picture, box) == pytest.approx(box, abs=1)
    for x, y in ((box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])):
        red, _, blue = picture[round(y) - 1 : round(y) + 1, round(x) - 1 : round(x) + 1].mean(axis=(0, 1))
        assert red > 200
        assert blue < 120
    assert picture[4, 4] == pytest.approx(128, abs=4)
    assert picture[round(box[1]) + 20, round(box[0]) + 20] == pytest.approx(128, abs=6)


def test_the_panel_and_its_meter_are_below(tmp_path: Path) -> None:
    source, film = grey_clip(tmp_path / "a.mp4"), tmp_path / "drawn.mp4"
    render(str(source), record_of(source), output=film)
    pictures = [picture for _, picture in pictures_of(film)]
    filled = [
        int(((p[-60:, :, 0] > 200) & (p[-60:, :, 2] < 100)).any(axis=0).sum()) for p in (pictures[2], pictures[-1])
    ]
    assert 0 < filled[0] < filled[1]
    assert pictures[0][-10, 12].max() < 90  # the panel is dark


def test_the_panel_is_above_where_the_looks_are_below(tmp_path: Path) -> None:
    source = grey_clip(tmp_path / "a.mp4")
    low = [{"step": 0, "frame": 5, "time": 0.2, "box": [20, 90, 80, 150]}]
    render(str(source), record_of(source, trajectory=low), folder=tmp_path)
    with Image.open(tmp_path / "a-look-01.jpg") as picture:
        pixels = np.asarray(picture)
    assert_drawn(pixels[::-1], (20, 10, 80, 70))
    assert pixels[10, 12].max() < 90


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    source, film = grey_clip(tmp_path / "a.mp4", size=(160, 240), rotation=90), tmp_path / "drawn.mp4"
    render(str(source), record_of(source), output=film)
    pictures = pictures_of(film)
    assert pictures[0][1].shape == (160, 240, 3)
    assert_drawn(pictures[25][1], BOXES[1])


def test_frames_that_come_irregularly_keep_their_times(tmp_path: Path) -> None:
    times = [number * 30 + (number % 3) * 7 for number in range(50)]
    for ending in ("mp4", "webm"):
        source, film = grey_clip(tmp_path / "a.mp4", times=times), tmp_path / f"drawn.{ending}"
        render(str(source), record_of(source), output=film)
        drawn = [time for time, _ in pictures_of(film)]
        assert drawn == pytest.approx([time / 1000 for time in times], abs=0.001)


def test_a_webm_of_a_picture_with_odd_sides_has_sound(tmp_path: Path) -> None:
    size = (241, 161)
    source = grey_clip(tmp_path / "a.mkv", size=size, sound="libopus", codec="ffv1", pixel_format="yuv444p")
    film = tmp_path / "drawn.webm"
    render(str(source), record_of(source, size=size), output=film)
    pictures = pictures_of(film)
    assert (len(pictures), pictures[0][1].shape) == (50, (162, 242, 3))
    assert_drawn(pictures[25][1], BOXES[1])
    assert [data for _, data in sound_of(film)] == [data for _, data in sound_of(source)]


@pytest.mark.parametrize(("name", "codec", "header"), [("a.ts", "libx264", 7), ("a.avi", "mpeg4", 0)])
def test_old_containers_keep_their_sound_beside_the_pictures(
    name: str, codec: str, header: int, tmp_path: Path
) -> None:
    """MPEG-TS puts a header before each packet of AAC, and AVI has times that repeat themselves."""
    sound = "aac" if header else "mp3"
    source, film = grey_clip(tmp_path / name, sound=sound, codec=codec), tmp_path / "drawn.mp4"
    render(str(source), record_of(source), output=film)
    assert [data for _, data in sound_of(film)] == [data[header:] for _, data in sound_of(source)]
    assert duration_of(film) == pytest.approx(2.0)
    delays = [sound_of(path)[0][0] - pictures_of(path)[0][0] for path in (source, film)]
    assert delays[1] == pytest.approx(delays[0], abs=0.002)


def test_sound_that_a_file_does_not_take_is_encoded_anew(tmp_path: Path) -> None:
    source, film = grey_clip(tmp_path / "a.mkv", sound="pcm_s16le"), tmp_path / "drawn.mp4"
    render(str(source), record_of(source), output=film)
    sound = sound_of(film)
    assert sound[-1][0] == pytest.approx(2.0, abs=0.05)
    assert sum(len(data) for _, data in sound) < 100_000


def test_a_gif_has_the_frames_and_the_box(tmp_path: Path) -> None:
    source, film = grey_clip(tmp_path / "a.mp4"), tmp_path / "drawn.gif"
    render(str(source), record_of(source), output=film)
    pictures = pictures_of(film)
    assert [time for time, _ in pictures] == pytest.approx([number / 25 for number in range(50)])
    assert box_in(pictures[25][1], BOXES[1]) == pytest.approx(BOXES[1], abs=1)
    with Image.open(film) as image:
        assert sum(_durations(image)) == 2000


def _durations(image: Image.Image) -> list[int]:
    found = []
    for frame in range(getattr(image, "n_frames", 1)):
        image.seek(frame)
        found.append(int(image.info["duration"]))
    return found


def test_pictures_of_the_looks(tmp_path: Path) -> None:
    source = grey_clip(tmp_path / "a.mp4")
    render(str(source), record_of(source), folder=tmp_path / "looks/of a")
    names = sorted(path.name for path in (tmp_path / "looks/of a").iterdir())
    assert names == ["a-look-01.jpg", "a-look-02.jpg", "a-look-03.jpg"]
    for name, box in zip(names, BOXES, strict=True):
        with Image.open(tmp_path / "looks/of a" / name) as picture:
            assert_drawn(np.asarray(picture), box)


def test_a_record_of_another_video_is_refused(tmp_path: Path) -> None:
    source = grey_clip(tmp_path / "a.mp4", frames=5)
    for record in (record_of(source), record_of(source, size=(100, 100), frames=5)):
        with pytest.raises(UsageError, match="another video"):
            render(str(source), record, output=tmp_path / "drawn.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"no video" * 1000)
    with pytest.raises(VideoError, match="not a video"):
        render(str(source), record_of(source), output=tmp_path / "drawn.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    source = grey_clip(tmp_path / "a.mp4", frames=5)
    for target in ({"output": source / "drawn.mp4"}, {"folder": source / "looks"}):
        with pytest.raises(UsageError, match=f"cannot write to {next(iter(target.values()))}: Not a directory; give"):
            render(str(source), record_of(source, frames=5), **target)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = grey_clip(tmp_path / "a.mp4", frames=5)
    monkeypatch.setattr(process, "_absolute", lambda path: "/dev/full")
    with pytest.raises(AdaFocusError, match=r"cannot write .*drawn.webm: the disk is full; make room"):
        render(str(source), record_of(source, frames=5), output=tmp_path / "drawn.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_child_that_crashes_costs_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = grey_clip(tmp_path / "a.mp4", frames=5)
    crash = "import os, sys; from adafocus_cli.video import wire; wire.send(sys.stdout.buffer, {}); os.abort()"
    monkeypatch.setattr(process._Renderer, "_command", (process.sys.executable, "-c", crash))
    with pytest.raises(VideoError, match="SIGABRT"):
        render(str(source), record_of(source, frames=5), output=tmp_path / "drawn.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
