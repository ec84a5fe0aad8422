"""Streams tagged as they pass: real servers on this machine, real decoding processes, tiny models."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.engine.live import LiveRequest, LiveResult, StreamLostError, TaggedWindow, tag_stream
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, VideoResult
from adafocus_cli.video import live as live_module
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.live import LiveProcess, LiveSource, PassedWindow, StreamOver
from adafocus_cli.video.windows import Windowing
from tests.clips import numbered_clip, read_number
from tests.storage import served
from tests.streams import needs_ffmpeg, rtsp_served, streamed, udp_sent
from tests.tiny import tiny_tagger

WINDOWS = Windowing(2.0, 1.0)
PIECE = {"preset": "ultrafast", "x264-params": "bframes=2:keyint=30"}


@pytest.fixture(scope="module")
def tagger() -> Any:
    return tiny_tagger("adafocus-v2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of MPEG-TS."""
    return numbered_clip(tmp_path_factory.mktemp("clips") / "clip.ts", frames=125, options=PIECE)


def tagged(
    address: str, tagger: Any, *, patience: float = 0.5, say: Callable[[str], None] = lambda text: None, **more: Any
) -> list[LiveResult]:
    live = LiveRequest(source=LiveSource.of(address), windows=WINDOWS, patience=patience, **more)
    return list(tag_stream(live, tagger, TagRequest(windows=WINDOWS), say=say))


def windows_of(results: list[LiveResult]) -> list[dict[str, Any]]:
    """As the record of a file has them."""
    found = []
    for each in results:
        assert isinstance(each, TaggedWindow), each
        record = each.result.to_dict()
        names = ("labels", "cost", "trajectory", "exit")
        times = {"start": round(each.window.start, 3), "end": round(each.window.end, 3)}
        found.append({**times, **{name: record[name] for name in names}})
    return found


def of_file(path: Path, tagger: Any) -> VideoResult:
    result: VideoResult = tagger.tag_video(path, window=WINDOWS.seconds, stride=WINDOWS.stride)
    return result


def two_sizes(folder: Path) -> Path:
    """One stream whose pictures change their size in the middle; its times begin at 80 ms."""
    parts = [
        numbered_clip(folder / f"{place}.ts", frames=75, size=size, start=start, first_number=75 * place, options=PIECE)
        for place, (size, start) in enumerate([((128, 96), 0), ((160, 112), 3080)])
    ]
    path = folder / "sizes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_a_gap(folder: Path) -> Path:
    times = [40 * n + (9000 if n >= 70 else 0) for n in range(130)]
    return numbered_clip(folder / "gap.mkv", frames=130, times=times, options=PIECE)


CLIPS: dict[str, Callable[[Path], Path]] = {
    "h264": lambda folder: numbered_clip(
        folder / "a.mp4", frames=130, options=PIECE, container_options={"movflags": "faststart"}
    ),
    "hevc": lambda folder: numbered_clip(
        folder / "a.mkv", frames=130, codec="libx265", options={"preset": "ultrafast"}
    ),
    "vp9": lambda folder: numbered_clip(
        folder / "a.webm", frames=130, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}
    ),
    "sizes": two_sizes,
    "gap": with_a_gap,
}


@pytest.mark.parametrize("kind", CLIPS)
def test_windows_of_a_stream_are_those_of_the_file(kind: str, tagger: Any, tmp_path: Path) -> None:
    path = CLIPS[kind](tmp_path)
    with served(tmp_path) as folder:
        results = tagged(f"{folder}/{path.name}", tagger)
    expected = of_file(path, tagger)
    assert windows_of(results) == expected.to_dict()["windows"]
    last = results[-1]
    assert isinstance(last, TaggedWindow)
    assert replace(last.result.video, path=str(path)) == expected.video


@pytest.mark.parametrize("family", ["evidence", "uni-adafocus"])
def test_looks_into_the_source_are_those_of_the_file(family: str, clip: Path) -> None:
    tagger = tiny_tagger(family)
    with served(clip.parent) as folder:
        results = tagged(f"{folder}/{clip.name}", tagger)
    assert windows_of(results) == of_file(clip, tagger).to_dict()["windows"]


@needs_ffmpeg
def test_windows_over_rtsp_are_those_of_the_file(tagger: Any, clip: Path) -> None:
    """Those that there was time for."""
    with rtsp_served(clip) as address:
        results = results_before_loss(address, tagger)
    expected = {window["start"]: window for window in of_file(clip, tagger).to_dict()["windows"]}
    found = windows_of(list(results))
    assert [each["labels"] for each in found] == [expected[each["start"]]["labels"] for each in found]
    assert len(found) + sum(each.live.windows_dropped for each in results) == len(expected)
    assert len(found) > 1


def results_before_loss(address: str, tagger: Any, **more: Any) -> list[TaggedWindow]:
    """Of a stream that ends without saying so."""
    live = LiveRequest(source=LiveSource.of(address), windows=WINDOWS, patience=0.5, **more)
    results = []
    try:
        for result in tag_stream(live, tagger, TagRequest(windows=WINDOWS), say=lambda text: None):
            results.append(result)
    except StreamLostError:
        return [each for each in results if isinstance(each, TaggedWindow)]
    raise AssertionError("the stream was not lost")


@needs_ffmpeg
def test_windows_over_udp_come_while_it_is_sent(tagger: Any, clip: Path) -> None:
    with udp_sent(clip, rate=1) as address:
        live = LiveRequest(source=LiveSource.of(address), windows=WINDOWS, patience=30)
        with closing(tag_stream(live, tagger, TagRequest(windows=WINDOWS), say=lambda text: None)) as stream:
            results = list(islice(stream, 2))
    assert [each["start"] for each in windows_of(results)] == [0.0, 1.0]


def test_a_stream_that_breaks_off_goes_on(tagger: Any, clip: Path) -> None:
    content, said = clip.read_bytes(), []
    expected = of_file(clip, tagger).to_dict()["windows"]
    with streamed((content, "close"), None, (content, "hang")) as (address, server):
        live = LiveRequest(source=LiveSource.of(address), windows=WINDOWS, patience=60)
        with closing(tag_stream(live, tagger, TagRequest(windows=WINDOWS), say=said.append)) as stream:
            results = list(islice(stream, len(expected) + 3))
        assert server.connections == 3
    (first,) = (place for place, each in enumerate(results) if isinstance(each, Failure))
    assert windows_of(results[:first]) == expected
    assert windows_of(results[first + 1 :]) == expected[:2]
    silence = results[first]
    assert isinstance(silence, Failure)
    assert silence.live is not None
    assert silence.live.until - silence.live.since > 1.0
    assert said[0] == f"{address}: the connection broke off; trying again"


def test_a_stream_that_says_nothing_more_breaks_off(tagger: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SILENT_SECONDS", 0.5)
    said: list[str] = []
    with streamed((clip.read_bytes(), "hang"), None) as (address, _), pytest.raises(StreamLostError):
        tagged(address, tagger, say=said.append)
    assert "nothing came" in said[0]


def test_a_stream_that_never_comes_is_one_error(tagger: Any) -> None:
    said: list[str] = []
    began = time.monotonic()
    with streamed(None) as (address, _), pytest.raises(StreamLostError) as caught:
        tagged(address, tagger, patience=1, say=said.append)
    assert time.monotonic() - began < 20
    assert str(caught.value).startswith(f"{address}: Server returned 5XX Server Error reply; tried for 1 s")
    assert len(said) <= 1


def test_a_decoder_that_crashes_costs_a_connection(tagger: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next_window = LiveProcess.next_window
    crashes = [True]

    def crash_once(self: LiveProcess, likely: Any, *, wait: float) -> Any:
        if crashes:
            crashes.pop()
            assert self._child is not None
            self._child.kill()
        return next_window(self, likely, wait=wait)

    monkeypatch.setattr(LiveProcess, "next_window", crash_once)
    with served(clip.parent) as folder:
        results = tagged(f"{folder}/{clip.name}", tagger, patience=20)
    assert isinstance(results[0], Failure)
    assert "killed" in results[0].message
    assert len(windows_of(results[1:])) == len(of_file(clip, tagger).windows)


def test_a_playlist_names_no_files(tagger: Any, clip: Path, tmp_path: Path) -> None:
    def playlist(segment: str) -> str:
        lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", segment, "#EXT-X-ENDLIST", "")
        return "\n".join(lines)

    (tmp_path / "clip.ts").write_bytes(clip.read_bytes())
    (tmp_path / "good.m3u8").write_text(playlist("clip.ts"))
    (tmp_path / "bad.m3u8").write_text(playlist(f"file://{clip}"))
    with served(tmp_path) as folder:
        assert windows_of(tagged(f"{folder}/good.m3u8", tagger)) == of_file(clip, tagger).to_dict()["windows"]
        with pytest.raises(StreamLostError):
            tagged(f"{folder}/bad.m3u8", tagger)


def test_a_time_that_is_over_before_the_first_try_is_an_error(tagger: Any) -> None:
    with pytest.raises(StreamLostError, match="it was not asked for before the time of --for or --until was over"):
        tagged("rtsp://127.0.0.1:9/x", tagger, end=time.monotonic())


def test_it_stops_when_it_is_time(tagger: Any, clip: Path) -> None:
    with streamed((clip.read_bytes(), "hang")) as (address, _):
        began = time.monotonic()
        results = tagged(address, tagger, patience=60, end=began + 4)
        assert time.monotonic() - began < 30
    assert all(isinstance(each, TaggedWindow) for each in results)


@needs_ffmpeg
def test_a_source_that_is_too_fast_has_windows_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who takes windows needs three times as long for one as passes until the next."""
    monkeypatch.setattr(live_module, "SILENT_SECONDS", 1.0)
    clip = numbered_clip(tmp_path / "clip.ts", frames=375, options=PIECE)
    taken: list[PassedWindow] = []
    with (
        udp_sent(clip, rate=3) as address,
        LiveProcess(LiveSource.of(address), Limits()) as process,
    ):
        process.connect(WINDOWS, Framing(64), keep_sources=False, seconds=10)
        while not isinstance(found := process.next_window((), wait=1.0), StreamOver):
            if found is None:
                continue
            taken.append(found)
            behind = found.lasted - found.window.end
            number = found.window.frames[0]
            frames = process.frames_of(found, [number])
            assert frames.replaced == 0
            assert read_number(frames.pixels[0]) == number
            assert behind <= 2 * WINDOWS.seconds
            time.sleep(1.0)
    left_out = sum(each.windows_dropped for each in taken)
    assert left_out > 0
    starts = [each.window.start for each in taken]
    assert starts == sorted(set(starts))
    assert len(taken) + left_out == starts[-1] / WINDOWS.stride + 1
