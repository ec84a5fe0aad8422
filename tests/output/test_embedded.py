"""Tags inside videos: read by other programs, while the video plays as before."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import av
import pytest

from adafocus_cli.errors import VideoError
from adafocus_cli.output.embedded import video_size, write_tags
from adafocus_cli.output.records import SourceFile
from tests.clips import numbered_clip
from tests.output.test_journal import file_size_limit
from tests.render.films import grey_clip

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">one</x:xmpmeta>'


def packets(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [
            (packet.stream.index, packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
            for packet in container.demux()
        ]


def frames(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


def xmp_of(path: Path) -> str | None:
    with av.open(str(path), options={"export_xmp": "1"}) as container:
        return container.metadata.get("xmp")


@pytest.fixture(params=["sound.mp4", "turned.mov", "quick.m4v"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / request.param
    if path.suffix == ".mp4":
        return grey_clip(path, frames=20, sound="aac")
    options = {"movflags": "+faststart"} if path.suffix == ".m4v" else {}
    kind = "mp4" if path.suffix == ".m4v" else None
    rotation = 90 if path.suffix == ".mov" else 0
    return numbered_clip(path, frames=20, rotation=rotation, container=kind, container_options=options)


def test_a_video_with_tags_plays_as_before_and_others_read_them(video: Path) -> None:
    before, content = (packets(video), frames(video)), video.read_bytes()
    assert write_tags(str(video), XMP)
    assert xmp_of(video) == XMP.decode()
    assert (packets(video), frames(video)) == before
    assert video.read_bytes().startswith(content)


def test_it_is_the_same_video_for_a_later_run(video: Path) -> None:
    os.utime(video, ns=(5, 1_700_000_000_123_456_789))
    video.chmod(0o640)
    before = SourceFile.of(str(video))
    write_tags(str(video), XMP)
    assert SourceFile.of(str(video)) == before
    assert video.stat().st_mode & 0o777 == 0o640


def test_newer_tags_take_the_place_of_older_ones_and_the_same_are_not_written_again(video: Path) -> None:
    write_tags(str(video), XMP)
    first = video.stat()
    assert not write_tags(str(video), XMP)
    assert video.stat().st_ino == first.st_ino
    assert write_tags(str(video), XMP.replace(b"one", b"three"))
    assert video.stat().st_size == first.st_size + 2
    assert "three" in (xmp_of(video) or "")


def test_a_link_stays_one_and_its_file_gets_the_tags(video: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(video)
    assert write_tags(str(tmp_path / "link.mp4"), XMP)
    assert (tmp_path / "link.mp4").is_symlink()
    assert xmp_of(video) == XMP.decode()


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(content) if size is None else size, kind) + content


def test_what_tags_are_not_safe_in_stays_as_it_is(tmp_path: Path) -> None:
    whole = numbered_clip(tmp_path / "a.mp4", frames=5).read_bytes()
    others = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b"<x:xmpmeta>rating</x:xmpmeta>"
    numbered_clip(tmp_path / "matroska.mp4", frames=5, container="matroska")
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    numbered_clip(tmp_path / "fragments.mp4", frames=5, container_options=fragments)
    (tmp_path / "cut.mp4").write_bytes(whole[:-7])
    (tmp_path / "open.mp4").write_bytes(whole + box(b"mdat", b"to the end", size=0))
    (tmp_path / "tail.mp4").write_bytes(whole + b"rest")
    (tmp_path / "others.mp4").write_bytes(whole + box(b"uuid", others))
    (tmp_path / "linked.mp4").write_bytes(whole)
    (tmp_path / "second-name").hardlink_to(tmp_path / "linked.mp4")
    said = {
        **dict.fromkeys(("matroska", "cut", "open", "tail"), "whole MP4 and MOV files only"),
        **{"fragments": "in fragments", "others": "of another program", "linked": "more than one name"},
    }
    for name, reason in said.items():
        path = tmp_path / f"{name}.mp4"
        before = path.read_bytes()
        with pytest.raises(VideoError, match=reason):
            write_tags(str(path), XMP)
        assert path.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_leaves_the_video_as_it_was(video: Path) -> None:
    before = video.read_bytes()
    with file_size_limit(len(before) // 2), pytest.raises(OSError, match="large"):
        write_tags(str(video), XMP)
    assert video.read_bytes() == before
    assert [path.name for path in video.parent.iterdir()] == [video.name]


@pytest.mark.parametrize("length", [0, 31, 32, 10_000])
def test_an_ending_that_only_looks_like_ours_is_part_of_the_video(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 50 + box(b"free", b"adafocus tags 1\n" + struct.pack(">Q", length)))
    with path.open("rb") as file:
        assert video_size(file, path.stat().st_size) == path.stat().st_size
