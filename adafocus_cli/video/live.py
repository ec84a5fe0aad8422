"""Streams that are tagged as they pass: what names one, and the parent's side of the child that reads it.

A connection is a child: when the stream breaks off, the child goes, and a new one is started for the next try. Loads
no decoder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video.framing import Framing
from adafocus_cli.video.limits import DecoderError, Limits, problem
from adafocus_cli.video.process import DecodedFrames, VideoProcess, frames_of
from adafocus_cli.video.sampling import Look
from adafocus_cli.video.windows import Window, Windowing

# How long a source may send nothing before it counts as broken off.
SILENT_SECONDS = 10.0
# Not every source lets go by itself when it is time.
_CONNECT_GRACE = 3.0

# What a stream may itself open, by what its address begins with: never a file of this machine.
_WEB = "http,https,tcp,tls,crypto,data"
_PROTOCOLS = {
    **dict.fromkeys(("http", "https"), _WEB),
    **dict.fromkeys(("rtsp", "rtsps"), "rtsp,rtp,srtp,udp,tcp,tls"),
    "udp": "udp",
}
_OPTIONS = {
    "rtsp": {"rtsp_flags": "prefer_tcp"},
    "rtsps": {"rtsp_flags": "prefer_tcp"},
    "udp": {"overrun_nonfatal": "1"},
}
_KINDS = "a camera such as 0 or /dev/video0, rtsp://, http://, https://, udp://, or - for standard input"
_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation"}


@dataclass(frozen=True, kw_only=True)
class LiveSource:
    """What FFmpeg is to open, and how. `can_wait` is whether it sends no faster than it is read."""

    name: str
    """As it is shown and written: without a password."""
    address: str
    kind: Literal["camera", "network", "stdin"]
    can_wait: bool
    format: str | None
    options: dict[str, str]

    @classmethod
    def of(cls, text: str) -> LiveSource:
        if text == "-":
            return cls._of_stdin()
        scheme, separator, _ = text.partition("://")
        scheme = scheme.lower()
        if scheme == "udp" and not re.search(r":\d+(\D|$)", text.removeprefix("udp://")):
            raise UsageError(f"{text} has no port; give udp://:PORT, such as udp://:5000")
        if separator and scheme in _PROTOCOLS:
            options = {"protocol_whitelist": _PROTOCOLS[scheme], **_OPTIONS.get(scheme, {})}
            is_web = scheme in ("http", "https")
            return cls(
                name=without_password(text), address=text, kind="network", can_wait=is_web, format=None, options=options
            )
        if text.isdecimal() or text.startswith("/dev/"):
            return cls._of_camera(text)
        if not separator and Path(text).is_file():
            raise UsageError(f"{text} is a file; adafocus classify {text} --window 4 tags it")
        raise UsageError(f"{without_password(text)} is not a source of live video; give {_KINDS}")

    @classmethod
    def _of_camera(cls, text: str) -> LiveSource:
        format_ = _CAMERAS.get(sys.platform)
        if format_ is None:
            raise UsageError(f"{text}: cameras are not known on this system; give an address such as rtsp://")
        address = f"/dev/video{text}" if text.isdecimal() and format_ == "v4l2" else text
        return cls(name=address, address=address, kind="camera", can_wait=False, format=format_, options={})

    @classmethod
    def _of_stdin(cls) -> LiveSource:
        if sys.platform == "win32":
            raise UsageError("a stream on standard input cannot be read on Windows; give an address such as udp://")
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("standard input is a terminal; pipe a stream into adafocus live -")
        options = {"protocol_whitelist": "pipe"}
        return cls(name="stdin://", address="pipe:", kind="stdin", can_wait=True, format=None, options=options)


def without_password(address: str) -> str:
    """
    >>> without_password("rtsp://me:secret@10.0.0.7/1"), without_password("udp://:5000")
    ('rtsp://me:***@10.0.0.7/1', 'udp://:5000')
    """
    try:
        parts = urlsplit(address)
        if not parts.password:
            return address
    except ValueError:
        return re.sub(r"(?<=:)[^:/@]*(?=@)", "***", address)
    before, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{before.partition(':')[0]}:***@{host}"))


@dataclass(frozen=True)
class StreamInfo:
    """What the first frame tells; `ends` is whether the stream has an end of its own, as a file has."""

    video: VideoInfo
    ends: bool


@dataclass(frozen=True, kw_only=True)
class PassedWindow:
    """A window of a stream that has passed, and its frames by their numbers in its piece.

    A stream begins a new `piece`, in which times and numbers count anew, where its clock is set back, or where frames
    had to be left out; `offset` is when that was, in seconds from the first frame of the connection. `since` and
    `until` are when its frames came, in seconds from 1970.
    """

    window: Window
    piece: int
    offset: float
    since: float
    until: float
    frames: int
    """How many frames of its piece have come."""
    lasted: float
    """The time of the last of them."""
    windows_dropped: int
    frames_dropped: int


@dataclass(frozen=True)
class StreamOver:
    """There is no more: it ended (no `reason`), or broke off."""

    reason: str | None


class LiveProcess(VideoProcess):
    """The child that reads one stream, from its connection to its end."""

    _command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "adafocus_cli.video.live_server")

    def __init__(self, source: LiveSource, limits: Limits) -> None:
        super().__init__(decoder="pyav", limits=limits)
        self._source = source
        self._info: VideoInfo | None = None
        self._shape = (0, 0, 0)

    def connect(self, windowing: Windowing, framing: Framing, *, keep_sources: bool, seconds: float) -> StreamInfo:
        """Waits for the first frame, no longer than `seconds` and what a start takes."""
        usual, self._limits = self._limits, replace(self._limits, seconds=seconds + _CONNECT_GRACE)
        try:
            return self._connected(windowing, framing, keep_sources=keep_sources, seconds=seconds)
        except DecoderError as error:
            if self._child is not None or "took longer" not in str(error):
                raise
            raise problem(self._source.name, f"nothing came for {seconds:g} seconds") from None
        finally:
            self._limits = usual

    def _connected(self, windowing: Windowing, framing: Framing, *, keep_sources: bool, seconds: float) -> StreamInfo:
        source, more = asdict(self._source), {"seconds": seconds, "silent": SILENT_SECONDS}
        how = {"windowing": asdict(windowing), "framing": asdict(framing), "keep_sources": keep_sources}
        if self._source.kind != "stdin":
            header = self._tell("open", {"source": source, **how, **more})
        else:
            descriptor = os.dup(0)  # the child has the protocol in that place
            try:
                self._inherited = (descriptor,)
                address = f"pipe:{descriptor}"
                header = self._tell("open", {"source": {**source, "address": address}, **how, **more})
            finally:
                self._inherited = ()
                os.close(descriptor)

        def read() -> StreamInfo:
            info = VideoInfo(**{**header["info"], "path": self._source.name})
            if not all(type(value) is int and value > 0 for value in (info.width, info.height)):
                raise ValueError("sizes are positive whole numbers")
            return StreamInfo(info, bool(header["ends"]))

        found = self._understand("open", self._source.name, read)
        self._info, self._shape = found.video, framing.shape_of(found.video.width, found.video.height)
        return found

    def next_window(self, likely: Iterable[int], *, wait: float) -> PassedWindow | StreamOver | None:
        """The next window that has passed; None if there is none within `wait` seconds.

        `likely` are the frames that a window is likely to be asked for, counted from its first.
        """
        header = self._tell("next", {"likely": sorted(likely), "wait": wait})
        return self._understand("next", self._source.name, lambda: _said(header))

    def frames_of(self, passed: PassedWindow, numbers: Sequence[int]) -> DecodedFrames:
        """Frames of the window that was given out last; each is of that window."""
        if not all(number in passed.window.frames for number in numbers):
            raise IndexError(f"frames of {passed.window.frames} only")
        shape = (len(numbers), *self._shape)
        header, payload = self._with_payload("frames", {"indices": list(numbers)}, int(np.prod(shape)))
        return self._understand("frames", self._source.name, lambda: frames_of(header, payload, shape))

    def looks_of(self, looks: Sequence[Look]) -> tuple[np.ndarray, float]:
        """What looks into the source of frames of this window see, and the seconds that it took."""
        size = looks[0].size
        boxes = [(look.frame, *look.box) for look in looks if look.box is not None]
        shape = (len(looks), size, size, 3)
        header, payload = self._with_payload("cuts", {"looks": boxes, "size": size}, int(np.prod(shape)))

        def read() -> tuple[np.ndarray, float]:
            return np.frombuffer(payload, np.uint8).reshape(shape), float(header["seconds"])

        return self._understand("cuts", self._source.name, read)

    def picture_of(self, number: int) -> np.ndarray:
        """All of a frame of this window, upright."""
        assert self._info is not None
        shape = (self._info.height, self._info.width, 3)
        _, payload = self._with_payload("picture", {"index": number}, int(np.prod(shape)))
        return self._understand("picture", self._source.name, lambda: np.frombuffer(payload, np.uint8).reshape(shape))

    def _tell(self, do: str, more: dict[str, Any]) -> dict[str, Any]:
        return self._with_payload(do, more, 0)[0]

    def _with_payload(self, do: str, more: dict[str, Any], payload_bytes: int) -> tuple[dict[str, Any], bytes]:
        try:
            return self._ask(do, self._source.name, "pyav", {"path": self._source.address, **more}, payload_bytes)
        except VideoError:
            self.close()  # a child that failed in the middle of a stream is not gone on with
            raise


def _said(header: dict[str, Any]) -> PassedWindow | StreamOver | None:
    if header["state"] == "waiting":
        return None
    if header["state"] == "over":
        return StreamOver(None if header["reason"] is None else str(header["reason"])[:500])
    said = {name: header[name] for name in ("piece", "frames", "windows_dropped", "frames_dropped")}
    first, stop = header["first"], header["stop"]
    if not all(type(value) is int and value >= 0 for value in (*said.values(), first, stop)) or first >= stop:
        raise ValueError("counts are whole numbers, and a window has frames")
    return PassedWindow(
        window=Window(0, 1, float(header["start"]), float(header["end"]), range(first, stop)),
        offset=float(header["offset"]),
        since=float(header["since"]),
        until=float(header["until"]),
        lasted=float(header["lasted"]),
        **said,
    )
