"""Sources of live video by their names, and what the child keeps and how it keeps up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from adafocus_cli.errors import UsageError
from adafocus_cli.video.live import LiveSource
from adafocus_cli.video.live_server import PacketRing, StreamPace


@pytest.mark.parametrize(
    ("text", "kind", "can_wait"),
    [
        ("rtsp://10.0.0.7/1", "network", False),
        ("UDP://:5000", "network", False),
        ("https://example.org/live.m3u8", "network", True),
        ("/dev/video0", "camera", False),
    ],
)
def test_sources_by_their_addresses(text: str, kind: str, can_wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    source = LiveSource.of(text)
    assert (source.name, source.kind, source.can_wait) == (text, kind, can_wait)
    assert "file" not in source.options.get("protocol_whitelist", "").split(",")


def test_a_camera_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    source = LiveSource.of("0")
    assert (source.address, source.format) == ("/dev/video0", "v4l2")


def test_a_password_is_not_shown() -> None:
    source = LiveSource.of("rtsp://me:secret@10.0.0.7:554/1")
    assert source.name == "rtsp://me:***@10.0.0.7:554/1"
    assert source.address == "rtsp://me:secret@10.0.0.7:554/1"


def test_what_is_no_source_is_refused_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ftp://here is not a source of live video; give a camera"):
        LiveSource.of("ftp://here")
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(UsageError, match=r"is a file; adafocus classify .*clip\.mp4 --window 4"):
        LiveSource.of(str(tmp_path / "clip.mp4"))


@dataclass
class _Packet:
    pts: int
    is_keyframe: bool = False
    size: int = 10


def group(pts: int) -> list[_Packet]:
    return [_Packet(pts, is_keyframe=True), _Packet(pts + 1), _Packet(pts + 2)]


def test_packets_are_kept_from_a_keyframe_on() -> None:
    ring = PacketRing()
    for packet in [_Packet(0), *group(10), *group(20), *group(30)]:
        ring.add(packet)
    assert [packet.pts for packet in ring.since(21, 6)] == [20, 21, 22, 30, 31, 32]
    assert ring.since(9, 1) == []
    ring.prune(29, 8)
    assert ring.since(11, 3) == []
    assert next(packet.pts for packet in ring.since(21, 6)) == 20
    assert ring.nbytes == 60


def test_packets_before_a_clock_was_set_back_serve_their_own_frames() -> None:
    ring = PacketRing()
    for packet in [*group(50), *group(60), *group(10), *group(20)]:
        ring.add(packet)
    ring.prune(51, 3)
    assert [packet.pts for packet in ring.since(51, 3)][:3] == [50, 51, 52]
    assert [packet.pts for packet in ring.since(21, 12)] == [20, 21, 22]


def test_packets_that_are_kept_are_bounded() -> None:
    ring = PacketRing(most_bytes=60)
    for pts in range(0, 1000, 10):
        for packet in group(pts):
            ring.add(packet)
    assert ring.nbytes == 60
    endless = PacketRing(most_bytes=60)
    for packet in [*group(0), *map(_Packet, range(3, 1000))]:
        endless.add(packet)
    assert endless.nbytes <= 60


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    pace: StreamPace, clock: _Clock, *, frames: int, stream: float, busy: float, waited: float, at: float = 0.0
) -> float:
    """Frames that last so long in the stream, and take the reader so long; where the stream is afterwards."""
    for _ in range(frames):
        at += stream
        clock.now += busy + waited
        pace.waited(waited)
        pace.note(at)
    return at


def test_a_reader_that_waits_for_its_source_is_not_behind() -> None:
    clock = _Clock()
    pace = StreamPace(clock)
    run(pace, clock, frames=500, stream=0.04, busy=0.01, waited=0.07)  # a source that is slower than it says
    assert pace.behind == 0.0
    assert not pace.is_ahead


def test_a_reader_that_has_too_much_to_do_falls_behind_and_catches_up() -> None:
    clock = _Clock()
    pace = StreamPace(clock)
    at = run(pace, clock, frames=500, stream=0.04, busy=0.05, waited=0.0)
    assert pace.behind == pytest.approx(5.0, abs=0.1)
    run(pace, clock, frames=200, stream=0.04, busy=0.0, waited=0.01, at=at)
    assert pace.behind == 0.0


def test_a_source_that_gives_more_than_passes_is_ahead() -> None:
    clock = _Clock()
    pace = StreamPace(clock)
    run(pace, clock, frames=500, stream=0.04, busy=0.004, waited=0.0)
    assert pace.is_ahead
    assert pace.behind == pytest.approx(0.0, abs=0.1)
