"""Looks into the source: cut out of all its pixels by the child that decoded it, once, within a bound."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adafocus_cli.video import decode, wire
from adafocus_cli.video.decode import KeptSources, open_video
from adafocus_cli.video.framing import Framing, Geometry
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.pictures import cut, cut_looks, fitted, preprocess
from adafocus_cli.video.process import VideoProcess
from adafocus_cli.video.sampling import Look
from adafocus_cli.video.server import DecodeServer
from tests.clips import numbered_clip, read_number

WHOLE = Framing(area=160 * 96)
SIZES = [(1920, 1080), (1080, 1920), (640, 480), (500, 500), (720, 480), (2560, 1080), (8, 8), (1, 1), (4000, 40)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(numbered_clip(tmp_path_factory.mktemp("clips") / "a.mp4", frames=60, size=(320, 180)))


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clips") / "turned.mp4"
    return str(numbered_clip(path, frames=60, size=(320, 180), rotation=90))


def source_of(path: str, frame: int, decoder: Any = "pyav") -> np.ndarray:
    video = open_video(path, decoder=decoder)
    return video.source(frame, deadline=decode.Deadline(path, Limits(), "decode"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that are taken from the decoder, each time."""
    from adafocus_cli.video.pyav_reader import PyAVReader

    taken: list[int] = []
    original = PyAVReader._picture

    def spy(self: PyAVReader, wanted: int, number: int, frame: Any) -> Any:
        taken.append(number)
        return original(self, wanted, number, frame)

    monkeypatch.setattr(PyAVReader, "_picture", spy)
    return taken


class Asked:
    """What a child does, in this process."""

    def __init__(self, path: str) -> None:
        self.server = DecodeServer()
        self._request = {"path": path, "name": path, "decoder": "pyav", "limits": {}, "threads": 1}

    def __call__(self, do: str, **more: Any) -> bytes:
        header, payload = self.server.answer({**self._request, "do": do, **more})
        assert "error" not in header, header
        return payload

    def glance(self, *frames: int, keep_source: bool = True) -> bytes:
        framing = {"area": WHOLE.area}
        return self("frames", indices=frames, framing=framing, later=[], keep_source=keep_source)

    def look(self, *looks: tuple[float, ...], size: int = 32) -> np.ndarray:
        payload = self("cuts", looks=looks, size=size)
        return np.frombuffer(payload, np.uint8).reshape(len(looks), size, size, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("area", [160 * 96, 640 * 352])
def test_a_whole_picture_is_of_whole_cells_no_larger_than_the_area_and_goes_back_to_all_of_it(
    size: tuple[int, int], area: int
) -> None:
    geometry = Geometry(*size, area=area)
    width, height = geometry.resized
    assert width % 32 == height % 32 == 0
    assert width * height <= area
    assert geometry.to_source((0, 0, width, height)) == (0, 0, *size)
    assert geometry.to_source((0, 0, width / 2, height / 4)) == pytest.approx((0, 0, size[0] / 2, size[1] / 4))


def test_a_usual_picture_fills_the_area_and_none_loses_its_shape_by_much() -> None:
    assert Geometry(1920, 1080, area=640 * 352).resized == (640, 352)
    for width, height in SIZES[:-1]:
        across, down = Geometry(width, height, area=640 * 352).resized
        assert across / down == pytest.approx(width / height, rel=0.07)


def test_an_area_of_less_than_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1024"):
        Geometry(100, 100, area=1000)


def test_a_whole_picture_is_all_of_it_resized() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, 80:] = 255
    seen = preprocess(picture, WHOLE)
    assert seen.shape == WHOLE.shape_of(160, 90) == (96, 160, 3)
    assert (seen[:, :78].max(), seen[:, 82:].min()) == (0, 255)


def test_a_cut_is_the_box_of_the_picture_at_the_size_asked_for() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    same, half = cut(picture, [(10.0, 20.0, 42.0, 52.0)], 32)[0], cut(picture, [(0.0, 0.0, 60.0, 60.0)], 30)[0]
    np.testing.assert_array_equal(same, picture[20:52, 10:42])
    np.testing.assert_allclose(half.mean(), picture[:60, :60].mean(), atol=1)


def test_a_box_may_touch_the_border_and_be_smaller_than_a_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    corner, all_of_it, tiny = cut(picture, [(6.0, 6.0, 8.0, 8.0), (0.0, 0.0, 8.0, 8.0), (7.5, 7.5, 8.0, 8.0)], 8)
    np.testing.assert_array_equal(all_of_it, picture)
    np.testing.assert_array_equal(corner[-1, -1], picture[-1, -1])
    np.testing.assert_array_equal(tiny[-1, -1], picture[-1, -1])


def test_looks_come_in_their_order_and_each_frame_is_asked_for_once() -> None:
    asked = []

    def source(frame: int) -> np.ndarray:
        asked.append(frame)
        return np.full((40, 40, 3), frame, np.uint8)

    seen = cut_looks([Look(frame, (0.0, 0.0, 9.0, 9.0), 4) for frame in (7, 3, 7, 5)], source)
    assert (seen[:, 0, 0, 0].tolist(), asked) == ([7, 3, 7, 5], [3, 5, 7])


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["clip", "turned"])
def test_a_cut_equals_cutting_from_the_decoded_frame(name: str, decoder: Any, request: pytest.FixtureRequest) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    path: str = request.getfixturevalue(name)
    boxes = [(0.0, 0.0, 100.0, 100.0), (30.5, 60.25, 130.5, 160.25)]
    looks = [Look(frame, box, 48) for frame in (10, 50) for box in boxes]
    with VideoProcess(decoder=decoder) as process:
        video = process.open(path)
        process.frames(video, [10, 50], framing=WHOLE, keep_source=True)
        seen, seconds = process.cuts(video, looks)
    assert seconds > 0
    sizes = (320, 180) if name == "clip" else (180, 320)
    assert (video.info.width, video.info.height) == sizes
    for look, pixels in zip(looks, seen, strict=True):
        source = source_of(path, look.frame, decoder)
        assert source.shape == (sizes[1], sizes[0], 3)
        assert look.box is not None
        np.testing.assert_array_equal(pixels, cut(source, [look.box], 48)[0])


def test_the_source_has_the_frame_that_was_asked_for(turned: str) -> None:
    assert read_number(source_of(turned, 37).swapaxes(0, 1)[::-1], whole=True) == 37


def test_frames_of_ten_bits_are_cut_as_others(tmp_path: Path) -> None:
    path = str(numbered_clip(tmp_path / "ten.mkv", frames=5, codec="ffv1", pixel_format="yuv420p10le"))
    asked = Asked(path)
    asked.glance(3)
    np.testing.assert_array_equal(asked.look((3, 0, 0, 64, 64))[0], cut(source_of(path, 3), [(0, 0, 64, 64)], 32)[0])


@pytest.mark.parametrize(("size", "frames"), [((8, 8), 1), ((17, 3), 2)])
def test_tiny_videos_are_glanced_at_and_looked_into(tmp_path: Path, size: tuple[int, int], frames: int) -> None:
    path = str(numbered_clip(tmp_path / "tiny.mkv", frames=frames, codec="ffv1", size=size, pixel_format="yuv444p"))
    asked = Asked(path)
    assert len(asked.glance(frames - 1)) == np.prod(WHOLE.shape_of(*size))
    seen = asked.look((frames - 1, 0, 0, *size))[0]
    np.testing.assert_array_equal(seen, cut(source_of(path, frames - 1), [(0, 0, *size)], 32)[0])


def test_no_frame_is_decoded_twice(clip: str, decoded: list[int]) -> None:
    asked = Asked(clip)
    asked.glance(10, 50)
    asked.look((50, 0, 0, 60, 60), (10, 0, 0, 60, 60), (10, 5, 5, 60, 60))
    asked.look((50, 9, 9, 60, 60))
    assert decoded == [10, 50]


def test_sources_outlive_the_open_file(clip: str, decoded: list[int], tmp_path: Path) -> None:
    asked = Asked(clip)
    asked.glance(10)
    for number in range(9):  # more than are kept open
        other = Asked(str(numbered_clip(tmp_path / f"{number}.mp4", frames=2)))
        other.server = asked.server
        other("open")
    asked.look((10, 0, 0, 60, 60))
    assert decoded == [10]


def test_a_source_that_was_dropped_is_decoded_again_with_the_right_pixels(clip: str, decoded: list[int]) -> None:
    asked = Asked(clip)
    asked.server._sources = KeptSources(2 * 320 * 180 * 3)
    asked.glance(10, 30, 50)
    seen = asked.look(*((frame, 0, 0, 60, 60) for frame in (10, 30, 50)))
    assert decoded == [10, 30, 50, 10]
    for frame, pixels in zip((10, 30, 50), seen, strict=True):
        np.testing.assert_array_equal(pixels, cut(source_of(clip, frame), [(0.0, 0.0, 60.0, 60.0)], 32)[0])


def test_a_file_that_is_opened_again_has_lost_its_sources(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", frames=5, first_number=1)
    asked = Asked(str(path))
    asked.glance(3)
    numbered_clip(path, frames=5, first_number=900)
    asked("open")
    np.testing.assert_array_equal(
        asked.look((3, 0, 0, 64, 64))[0], cut(source_of(str(path), 3), [(0, 0, 64, 64)], 32)[0]
    )


def test_all_videos_of_a_child_keep_within_one_bound_even_in_one_request(clip: str, turned: str) -> None:
    frame_bytes, asked, other = 320 * 180 * 3, Asked(clip), Asked(turned)
    asked.server._sources = other.server._sources = sources = KeptSources(5 * frame_bytes)
    asked.glance(*range(0, 60, 5))
    assert sources.nbytes == 5 * frame_bytes
    other.glance(0, 1)
    assert sources.nbytes == 5 * frame_bytes
    assert [frame for video, frame in sources._kept if video[0] == turned] == [0, 1]


def test_what_is_kept_for_later_holds_no_sources_beside_those_within_the_bound(clip: str) -> None:
    asked = Asked(clip)
    asked.server._sources = sources = KeptSources(320 * 180 * 3)
    asked("frames", indices=[50], framing={"area": WHOLE.area}, later=[10, 20, 30], keep_source=True)
    assert sources.nbytes == 320 * 180 * 3


def test_nothing_is_kept_for_who_does_not_look_into_the_source(clip: str) -> None:
    asked = Asked(clip)
    asked.glance(10, keep_source=False)
    assert asked.server._sources.nbytes == 0


def test_only_patches_cross_the_pipe(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    received = []
    original = wire.receive

    def spy(stream: Any, **how: Any) -> Any:
        header, payload = original(stream, **how)
        received.append(len(payload))
        return header, payload

    monkeypatch.setattr(wire, "receive", spy)
    with VideoProcess() as process:
        video = process.open(clip)
        process.frames(video, [10, 50], framing=WHOLE, keep_source=True)
        received.clear()
        process.cuts(video, [Look(frame, (0.0, 0.0, 90.0, 90.0), 24) for frame in (10, 50, 50)])
    assert received == [3 * 24 * 24 * 3]


def test_a_child_that_died_between_glance_and_look_is_replaced_and_the_look_sees_the_same(clip: str) -> None:
    look = [Look(10, (5.0, 5.0, 95.0, 95.0), 32)]
    with VideoProcess() as process:
        video = process.open(clip)
        process.frames(video, [10], framing=WHOLE, keep_source=True)
        before, _ = process.cuts(video, look)
        assert process._child is not None
        os.kill(process._child.pid, signal.SIGKILL)
        process._child.wait()
        after, _ = process.cuts(video, look)
    np.testing.assert_array_equal(before, after)


def test_looks_of_several_sizes_or_without_a_box_are_no_request(clip: str) -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    with VideoProcess() as process:
        video = process.open(clip)
        for looks in ([Look(1, box, 8), Look(1, box, 9)], [Look(1, box, 8), Look(1, None, 8)]):
            with pytest.raises(ValueError, match="have boxes, and one size"):
                process.cuts(video, looks)


def test_a_frame_of_another_size_is_seen_as_large_as_the_first() -> None:
    small = np.full((20, 30, 3), 9, np.uint8)
    assert fitted(small, 30, 20) is small
    assert fitted(small, 60, 40).shape == (40, 60, 3)
