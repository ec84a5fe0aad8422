"""Frames by decord: fast and sturdy on common files, but inexact on others, which it says in `warnings`.

decord finds frames by arithmetic on times, and knows no exact way; where PyAV is installed too, its packet index tells
for which files that goes wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adafocus_cli.errors import VideoError
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import Deadline, DecoderError, LimitError, Limits, check_picture, problem
from adafocus_cli.video.pictures import preprocess
from adafocus_cli.video.reading import Keep, Picture, Reading, nearest

# How the containers begin that decord may open: (offset, bytes). Its own guess would follow playlists to other files.
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"free", "mov"),
    (4, b"skip", "mov"),
    (4, b"wide", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"RIFF", "avi"),
    (0, b"FLV", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"\x00\x00\x01\xb3", "mpegvideo"),
    (0, b"OggS", "ogg"),
    (0, b"GIF8", "gif"),
)
# MPEG-TS packets begin with 0x47: (place of the first, size of a packet).
TS_PACKETS = ((0, 188), (4, 192), (0, 204))
# Where measured frames were wrong without a word.
INEXACT_CONTAINERS = {
    "mpegts": "MPEG-TS",
    "mpeg": "MPEG-PS",
    "mpegvideo": "MPEG",
    "avi": "AVI",
    "flv": "FLV",
    "asf": "WMV",
}
INEXACT_CODECS = ("wmv1", "wmv2", "wmv3", "vc1")
REORDERED_CODECS = ("mpeg4", "mpeg2video")
# How far to look for a frame that can be had instead of a damaged one.
REACH = 64


class DecordReader:
    """One open video. Not thread-safe."""

    decoder = "decord"

    def __init__(self, path: str, *, name: str, limits: Limits, deadline: Deadline) -> None:
        self._name, self._limits = name, limits
        kind = _container(path)
        if kind is None:
            raise problem(name, "decord is not asked to open files of an unknown kind; check that it is a video")
        facts = _PyAVFacts(path, name, limits, deadline)
        deadline.check()
        self._video, first = self._open(path)
        height, width = first.shape[:2]
        check_picture(width, height, name, limits)
        frames, fps = len(self._video), float(self._video.get_avg_fps())
        self.info = VideoInfo(
            path=name,
            width=width,
            height=height,
            fps=fps if fps > 0 else None,
            frames=frames,
            duration=frames / fps if fps > 0 else None,
            codec=facts.codec,
            rotation=facts.rotation,
            decoder=self.decoder,
        )
        self.warnings = facts.doubts(kind, frames)

    def _open(self, path: str) -> tuple[Any, np.ndarray]:
        import decord

        try:
            video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
            if len(video) < 1:
                raise problem(self._name, "there is no frame in it; it may have been cut off: copy it again")
            return video, video[0].asnumpy()
        except (decord.DECORDError, RuntimeError, UnicodeError) as error:
            raise problem(self._name, "decord cannot open it; try --decoder pyav, or re-encode it") from error

    def close(self) -> None:
        self._video = None

    def read(
        self,
        wanted: Sequence[int],
        *,
        framing: Framing,
        deadline: Deadline,
        later: Sequence[int] = (),
        keep: Keep | None = None,
    ) -> Reading:
        pictures: dict[int, Picture] = {}
        for number in wanted:
            found, picture = self._nearest(number, deadline)
            if keep is not None:
                keep(number, picture)
            pictures[number] = Picture(number=found, pixels=preprocess(picture, framing))
        return Reading(pictures=pictures)

    def time_of(self, number: int) -> float:
        start = float(self._video.get_frame_timestamp(0)[0])
        return float(self._video.get_frame_timestamp(number)[0]) - start

    def keyframe_near(self, number: int) -> int:
        return nearest(np.array(self._video.get_key_indices(), np.int64), number)

    def _nearest(self, number: int, deadline: Deadline) -> tuple[int, np.ndarray]:
        for distance in range(REACH):
            for candidate in dict.fromkeys((number - distance, number + distance)):
                if not 0 <= candidate < self.info.frames:
                    continue
                deadline.check()
                picture = self._decode(candidate)
                if picture is not None:
                    check_picture(picture.shape[1], picture.shape[0], self._name, self._limits, "decode")
                    return candidate, picture
        raise problem(self._name, f"no frame near frame {number} can be decoded; try --decoder pyav", "decode")

    def _decode(self, number: int) -> np.ndarray | None:
        import decord

        try:
            picture: np.ndarray = self._video[number].asnumpy()
        except (decord.DECORDError, RuntimeError):
            return None
        return picture


class _PyAVFacts:
    """What PyAV can tell of a file that decord decodes; without PyAV, or if it fails, nothing."""

    def __init__(self, path: str, name: str, limits: Limits, deadline: Deadline) -> None:
        self.codec, self.rotation = "unknown", 0
        self._reader = None
        try:
            from adafocus_cli.video.pyav_reader import PyAVReader

            reader = PyAVReader(path, name=name, limits=limits, deadline=deadline)
        except (LimitError, DecoderError):
            raise
        except (ImportError, VideoError):
            return
        self.codec, self.rotation = reader.info.codec, reader.info.rotation
        self._frames, self._open_gop, self._reorders = reader.info.frames, reader.index.open_gop, reader.index.reorders
        self._edited = reader.index.discarded > 0
        self._reader = reader
        reader.close()

    def doubts(self, kind: str, frames: int) -> tuple[str, ...]:
        """One warning, or none."""
        reasons = [f"the container is {INEXACT_CONTAINERS[kind]}"] if kind in INEXACT_CONTAINERS else []
        if self._reader is not None:
            if self._edited:
                reasons.append("an edit list cuts it")
            if frames != self._frames:
                reasons.append(f"{frames} frames counted where there are {self._frames}")
            if self._open_gop:
                reasons.append("groups of pictures are open")
            if self.codec in INEXACT_CODECS:
                reasons.append(f"the codec is {self.codec}")
            if self.codec in REORDERED_CODECS and self._reorders:
                reasons.append(f"{self.codec} frames are stored out of order")
        if not reasons:
            return ()
        why = ", ".join(reasons)
        return (f"decord may give other frames than the model asks for ({why}); use --decoder pyav for exact frames",)


def _container(path: str) -> str | None:
    with Path(path).open("rb") as file:
        start = file.read(512)
    if any(len(start) > at + size and start[at] == start[at + size] == 0x47 for at, size in TS_PACKETS):
        return "mpegts"
    if start[:4] == b"RIFF" and start[8:11] != b"AVI":
        return None
    return next((kind for offset, magic, kind in SIGNATURES if start[offset : offset + len(magic)] == magic), None)
