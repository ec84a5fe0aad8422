"""Every frame is the one asked for, in every kind of stream, in any order of asking."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest

from adafocus_cli.video.decode import Video, open_video
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.pictures import preprocess
from adafocus_cli.video.pyav_reader import Cursor
from adafocus_cli.video.sampling import coarse_to_fine, spread
from tests.clips import read_number
from tests.video.conftest import ClipMaker
from tests.video.kinds import BY_NAME, FRAMES, KINDS, Kind, uneven_times

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def pyav(path: Path) -> Video:
    return open_video(str(path), decoder="pyav")


def numbers(video: Video, indices: tuple[int, ...]) -> list[int]:
    return [read_number(picture) for picture in video.frames(indices).pixels]


@each_kind
def test_sampled_frames_are_exact(clip: ClipMaker, kind: Kind) -> None:
    video = pyav(clip(kind.name))
    wanted = spread(kind.frames, 16)

    result = video.frames(wanted)

    assert video.info.frames == kind.frames
    assert [read_number(picture) for picture in result.pixels] == [kind.first + number for number in wanted]
    assert (result.replaced, result.damaged, result.decoder) == (0, frozenset(), "pyav")


@each_kind
def test_frames_equal_those_of_decoding_everything(clip: ClipMaker, kind: Kind) -> None:
    path, rng = clip(kind.name), random.Random(kind.name)
    requests = [[rng.randrange(kind.frames) for _ in range(count)] for count in (5, 1, 1, 3, 1, 16, 2)]
    requests.append([kind.frames - 1, 0])
    asked_for = {number for request in requests for number in request}
    with av.open(str(path)) as container:
        everything = [
            preprocess(frame.to_ndarray(format="rgb24")) if number in asked_for else None
            for number, frame in enumerate(container.decode(video=0))
        ]
    assert len(everything) == kind.frames

    video = pyav(path)
    for request in requests:
        for number, picture in zip(request, video.frames(request).pixels, strict=True):
            assert np.array_equal(picture, everything[number]), f"frame {number} differs"


@each_kind
def test_threads_change_no_frame(clip: ClipMaker, kind: Kind) -> None:
    path, wanted = str(clip(kind.name)), spread(kind.frames, 16)
    alone, threaded = (open_video(path, decoder="pyav", threads=threads) for threads in (1, 3))
    for indices in (wanted, wanted[5:2:-1], (kind.frames - 1, 0)):
        ours, theirs = (video.frames(indices, later=wanted) for video in (alone, threaded))
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert (ours.times, ours.replaced, ours.damaged) == (theirs.times, theirs.replaced, theirs.damaged)
    assert alone.info == threaded.info


@pytest.mark.parametrize("name", ["h264.ts", "intra-refresh.mp4", "h264.avi", "mpeg2-b.mpg"])
def test_a_reader_that_seeks_by_time_gets_these_wrong(clip: ClipMaker, name: str) -> None:
    """So the clips are hard enough for the tests above to mean something."""
    wanted = spread(FRAMES, 16)
    assert [_frame_by_time(clip(name), number) for number in wanted] != list(wanted)


def _frame_by_time(path: Path, number: int) -> int | None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base, rate = stream.time_base, stream.average_rate
        assert base is not None
        assert rate is not None
        target = (stream.start_time or 0) + round(number / rate / base)
        try:
            container.seek(target, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= target:
                    return read_number(np.asarray(frame.to_ndarray(format="rgb24")), whole=True)
        except (av.error.FFmpegError, ValueError):
            return None
    return None


def test_frames_come_in_the_order_asked_for(clip: ClipMaker) -> None:
    video = pyav(clip("b-frames.mp4"))
    assert numbers(video, (200, 3, 3, 299, 0, 200)) == [200, 3, 3, 299, 0, 200]
    assert video.frames(()).pixels.shape == (0, 224, 224, 3)


@each_kind
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_a_video_is_read_in_looking_order(clip: ClipMaker, kind: Kind, told: bool) -> None:
    video, wanted = pyav(clip(kind.name)), spread(kind.frames, 16)
    for number in (wanted[position] for position in coarse_to_fine(16)):
        (picture,) = video.frames((number,), later=wanted if told else ()).pixels
        assert read_number(picture) == kind.first + number


def test_frames_kept_for_later_are_not_decoded_again(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    video, decoded = pyav(clip("b-frames.mp4")), _positions_decoded(monkeypatch)
    video.frames((40,), later=(20, 30))
    before = len(decoded)
    assert numbers(video, (20, 30)) == [20, 30]
    assert len(decoded) == before


def test_frames_kept_for_later_have_the_size_asked_for(clip: ClipMaker) -> None:
    video = pyav(clip("b-frames.mp4"))
    video.frames((40,), framing=Framing(96), later=(20, 30))
    assert video.frames((20,), framing=Framing(64)).pixels.shape == (1, 64, 64, 3)
    assert np.array_equal(
        video.frames((30,), framing=Framing(96)).pixels,
        pyav(clip("b-frames.mp4")).frames((30,), framing=Framing(96)).pixels,
    )


@each_kind
def test_keyframes_are_the_frames_that_they_say(clip: ClipMaker, kind: Kind) -> None:
    video, wanted = pyav(clip(kind.name)), spread(kind.frames, 16)

    near = video.keyframes_near(wanted)

    assert numbers(video, tuple(near)) == [kind.first + number for number in near]
    for number in reversed(near):
        assert numbers(video, (number,)) == [kind.first + number]


SEEKING = ("b-frames.mp4", "b-frames.mkv", "open-gop.mp4", "uneven.mkv", "hevc-open-gop.mp4", "vp9-hidden.webm")


@pytest.mark.parametrize("name", SEEKING)
def test_a_keyframe_costs_one_packet(clip: ClipMaker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    video = pyav(clip(name))
    near = sorted(set(video.keyframes_near(range(FRAMES))) - {0})
    assert len(near) >= 4
    decoded = _positions_decoded(monkeypatch)

    assert numbers(video, tuple(near)) == near

    assert len(decoded) == len(near)


def test_nothing_is_decoded_behind_the_last_frame_of_a_group(clip: ClipMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    video = pyav(clip("b-frames.mp4"))  # a keyframe every 50
    decoded = _positions_decoded(monkeypatch)

    assert numbers(video, (60, 260)) == [60, 260]

    assert max(position for position in decoded if position < 200) <= 64  # stored at most a few places later than shown


def _positions_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the packets stand that are given to a decoder from now on."""
    positions: list[int] = []
    decode = Cursor._decode

    def spy(self: Cursor, packet: object) -> list[object]:
        if packet is not None:
            positions.append(self.position)
        return decode(self, packet)

    monkeypatch.setattr(Cursor, "_decode", spy)
    return positions


@pytest.mark.parametrize("name", ["b-frames.mp4", "h264.ts", "h264.avi", "av1.mkv"])
def test_a_video_is_read_on_from_where_it_is(clip: ClipMaker, name: str) -> None:
    video = pyav(clip(name))
    for number in (*range(10, 40, 3), 41, 40, 41, 250, 0, 299):
        assert numbers(video, (number,)) == [number]


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_times_are_those_of_the_frames(clip: ClipMaker, name: str) -> None:
    video, times = pyav(clip(name)), uneven_times()
    wanted = spread(FRAMES, 16)
    assert video.frames(wanted).times == pytest.approx([times[number] / 1000 for number in wanted], abs=0.0015)
    assert video.info.fps == pytest.approx((FRAMES - 1) / (times[-1] / 1000), rel=0.01)


@pytest.mark.parametrize("name", ["b-frames.mp4", "late.mp4", "late.mkv", "h264.ts", "h264.avi", "edited.mp4"])
def test_times_count_from_the_first_frame(clip: ClipMaker, name: str) -> None:
    video = pyav(clip(name))
    assert video.frames((0, 50)).times == pytest.approx((0.0, 2.0), abs=0.002)
    assert video.info.fps == pytest.approx(25)
    assert video.info.duration == pytest.approx(BY_NAME[name].frames / 25)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("b-frames.mp4", "h264"), ("hevc-open-gop.mp4", "hevc"), ("av1.mkv", "av1"), ("vp9.webm", "vp9")],
)
def test_codecs_are_called_by_their_names(clip: ClipMaker, name: str, codec: str) -> None:
    assert pyav(clip(name)).info.codec == codec
