"""What one video may cost, and what a file must be before a decoder touches it.

Knows nothing of decoding. Every error names the file as it can safely be shown, what is wrong, and the next step.
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adafocus_cli.errors import VideoError, printable


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds for one video; each is checked before the work that it bounds."""

    # For one request to the child: it is killed then, and gives up by itself a little earlier.
    seconds: float = 60.0
    # Of the child's address space, where the platform can bound it.
    memory_bytes: int = 4 << 30

    # Of a video on other storage, which is copied first: four hours at 4 Mbit/s are 7 GiB.
    max_bytes: int = 8 << 30
    # 8192×8192, enough for 8K.
    max_pixels: int = 1 << 26
    # 18 hours at 30 frames a second.
    max_packets: int = 2_000_000
    # Long side to short side.
    max_aspect: float = 100.0

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_bytes", "max_bytes", "max_pixels", "max_packets", "max_aspect"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")

    @property
    def clean_seconds(self) -> float:
        """When the child gives up by itself, early enough to say so before it is killed."""
        return self.seconds - min(5.0, 0.1 * self.seconds)


class LimitError(VideoError):
    """A limit stopped the work; another reader would be stopped as well."""


class DecoderError(VideoError):
    """The decoder crashed, hung or ran out of memory; another one may get further."""


VideoStage = Literal["open", "decode"]


def stage_of(do: str) -> VideoStage:
    """What a request to the child is called in a failure."""
    return "open" if do == "open" else "decode"


class Deadline:
    """The moment at which one request must have been answered."""

    def __init__(self, name: str, limits: Limits, stage: VideoStage) -> None:
        self._name = name
        self._limits = limits
        self._stage = stage
        self._end = time.monotonic() + limits.clean_seconds

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise too_slow(self._name, self._limits, self._stage)


def too_slow(name: str, limits: Limits, stage: str) -> DecoderError:
    what = "opening" if stage == "open" else "decoding"
    text = f"{what} took longer than {limits.seconds:g} seconds; allow more with --decode-timeout SECONDS"
    return DecoderError(f"{printable(name)}: {text}", stage=stage)


def too_much_memory(name: str, limits: Limits, stage: str) -> DecoderError:
    allowed = f"{limits.memory_bytes / (1 << 30):.3g} GiB"
    text = f"decoding needs more than the {allowed} of memory allowed for one video; allow more with --decode-memory"
    return DecoderError(f"{printable(name)}: {text} GIB, or re-encode it smaller", stage=stage)


def problem(name: str, text: str, stage: str = "open") -> VideoError:
    """The one form of a video's error: its path, what is wrong, the next step."""
    return VideoError(f"{printable(name)}: {text}", stage=stage)


def check_file(path: str, name: str) -> None:
    """Refuses everything but a readable, non-empty regular file, without reading it."""
    try:
        status = os.stat(path)  # noqa: PTH116  (Path would refuse some of the names that os takes)
    except FileNotFoundError:
        reason = "no file matches this pattern" if glob.has_magic(path) else "there is no such file"
        raise problem(name, f"{reason}; check the path") from None
    except PermissionError:
        raise problem(name, "no permission to read it; change its permissions or those of its folder") from None
    except (OSError, ValueError) as error:
        raise problem(name, f"it cannot be read ({_reason(error)}); check the path and the disk") from None
    for is_kind, text in _NOT_FILES:
        if is_kind(status.st_mode):
            raise problem(name, text)
    if not stat.S_ISREG(status.st_mode):
        raise problem(name, "not a regular file; copy the video into one")
    if status.st_size == 0:
        raise problem(name, "the file is empty; copy or download it again")
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except PermissionError:
        raise problem(name, "no permission to read it; change its permissions") from None
    except OSError as error:
        raise problem(name, f"it cannot be read ({_reason(error)}); check the disk") from None


def check_picture(width: int, height: int, name: str, limits: Limits, stage: str = "open") -> None:
    """Refuses pictures that are too large or too lopsided to be worth decoding."""
    if width < 1 or height < 1:
        raise problem(name, "no picture size could be found; the file may be damaged: copy or download it again", stage)
    if width * height > limits.max_pixels:
        raise LimitError(
            f"{printable(name)}: a picture has {width}×{height} pixels, more than the {limits.max_pixels} allowed; "
            "re-encode it smaller",
            stage=stage,
        )
    aspect = max(width, height) / min(width, height)
    if aspect > limits.max_aspect:
        raise LimitError(
            f"{printable(name)}: the picture is {width}×{height}, more than {limits.max_aspect:g} times as long as "
            "short; crop it first",
            stage=stage,
        )


_NOT_FILES: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder, not a video; name the files in it"),
    (stat.S_ISFIFO, "a named pipe, not a file; write the video into a file first"),
    (stat.S_ISSOCK, "a socket, not a file; write the video into a file first"),
    (stat.S_ISCHR, "a device, not a file; write the video into a file first"),
    (stat.S_ISBLK, "a device, not a file; write the video into a file first"),
)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
