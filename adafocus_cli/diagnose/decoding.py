"""Which codecs are really decoded here: a tiny clip of each is made, decoded and compared.

Every frame of a clip has a brightness of its own, so that a wrong frame shows.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.video.framing import Framing

if TYPE_CHECKING:
    from adafocus_cli.video.process import VideoProcess

Name = Literal["pyav", "decord"]
DECODERS: tuple[Name, ...] = ("pyav", "decord")
_MODULES = {"pyav": "av", "decord": "decord"}


@dataclass(frozen=True)
class _Recipe:
    """How to make a clip of a codec: the encoders to try, and a container that it is found in."""

    codec: str
    encoders: tuple[str, ...]
    container: str
    options: tuple[tuple[str, str], ...] = ()


_RECIPES = (
    _Recipe("h264", ("libx264", "libopenh264", "h264_videotoolbox"), "mp4"),
    _Recipe("hevc", ("libx265", "hevc_videotoolbox"), "mp4", (("x265-params", "log-level=none"),)),
    _Recipe("vp8", ("libvpx",), "webm"),
    _Recipe("vp9", ("libvpx-vp9",), "webm"),
    _Recipe("av1", ("libsvtav1", "libaom-av1", "librav1e"), "mp4"),
    _Recipe("mpeg4", ("mpeg4",), "avi"),
    _Recipe("mpeg2", ("mpeg2video",), "mkv"),
    _Recipe("mjpeg", ("mjpeg",), "avi"),
)

_FRAMES = 24
_WIDTH, _HEIGHT = 128, 96
_DARKEST, _STEP = 24, 9
_ASKED = (3, 20, 11)
_TOLERANCE = _STEP / 2  # the next frame is a whole step away
_SECONDS = 10.0


@dataclass(frozen=True)
class CodecCheck:
    """`decoders` says for each: `ok`, `wrong frames`, `not installed`, or why it failed.

    Without an `encoder` no clip could be made, and nothing was tried.
    """

    codec: str
    encoder: str | None
    decoders: dict[str, str]

    @property
    def tested(self) -> bool:
        return self.encoder is not None


def check_codecs() -> tuple[CodecCheck, ...]:
    from adafocus_cli.video.limits import Limits
    from adafocus_cli.video.process import VideoProcess

    with tempfile.TemporaryDirectory(prefix="adafocus-doctor-") as folder:
        clips = {recipe.codec: _make(recipe, Path(folder)) for recipe in _RECIPES}
        results: dict[str, dict[str, str]] = {codec: {} for codec in clips}
        for name in DECODERS:
            with VideoProcess(decoder=name, limits=Limits(seconds=_SECONDS)) as process:
                for codec, (encoder, path) in clips.items():
                    if encoder is not None:
                        results[codec][name] = _try(process, name, path)
    return tuple(CodecCheck(codec, clips[codec][0], results[codec]) for codec in clips)


def _try(process: VideoProcess, name: str, path: Path) -> str:
    if find_spec(_MODULES[name]) is None:
        return "not installed"
    try:
        video = process.open(str(path))
        if video.info.frames != _FRAMES:
            return f"counts {video.info.frames} frames of {_FRAMES}"
        frames = process.frames(video, _ASKED, framing=Framing(64))
    except AdaFocusError as error:
        return str(error).removeprefix(f"{path}: ")
    return "ok" if _are_the_frames_asked_for(frames.pixels) else "wrong frames"


def _are_the_frames_asked_for(pixels: np.ndarray) -> bool:
    brightness = pixels.reshape(len(_ASKED), -1).mean(axis=1)
    return bool(np.all(np.abs(brightness - _brightness(_ASKED)) < _TOLERANCE))


def _brightness(frames: Sequence[int]) -> np.ndarray:
    return _DARKEST + _STEP * np.asarray(frames)


def _make(recipe: _Recipe, folder: Path) -> tuple[str | None, Path]:
    """The encoder that made the clip, or None, and the clip."""
    path = folder / f"{recipe.codec}.{recipe.container}"
    for encoder in recipe.encoders:
        try:
            _encode(path, encoder, dict(recipe.options))
        except Exception:  # whatever an encoder dislikes, the next one is tried
            continue
        return encoder, path
    return None, path


def _encode(path: Path, encoder: str, options: dict[str, str]) -> None:
    import av

    av.logging.set_level(av.logging.PANIC)
    os.environ.setdefault("SVT_LOG", "0")  # an encoder that would write to the terminal by itself
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(25), options=options)
        stream.width, stream.height = _WIDTH, _HEIGHT
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for grey in _brightness(range(_FRAMES)):
            picture = np.full((_HEIGHT, _WIDTH, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
