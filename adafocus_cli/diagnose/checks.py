"""The checks of this machine: installed packages, processor and accelerators, and which codecs are decoded correctly.

For each codec a tiny clip is made, decoded and compared. Every frame has a brightness of its own, so that a wrong frame
shows.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from adafocus_cli import __version__
from adafocus_cli.errors import AdaFocusError
from adafocus_cli.requests import cores
from adafocus_cli.video.framing import Framing

if TYPE_CHECKING:
    from adafocus_cli.video.process import VideoProcess


# By import name; the same name installs them.
REQUIRED = ("torch", "numpy", "av", "PIL", "yaml")
_DISTRIBUTIONS = ("torch", "torchvision", "numpy", "av", "decord", "pillow", "pyyaml", "typer", "rich")
OPTIONAL = ("openvino", "ray", "torchcodec")


def installed_versions() -> dict[str, str | None]:
    """None for what is not installed."""
    found: dict[str, str | None] = {"adafocus": __version__, "python": platform.python_version()}
    for name in (*_DISTRIBUTIONS, *OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
        if name == "av":
            found["ffmpeg"] = _ffmpeg_in_av()
    return found


def import_problem(name: str) -> str | None:
    """Why a package cannot be loaded; None if it can."""
    try:
        import_module(name)
    except Exception as error:  # a broken native library may raise anything
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _ffmpeg_in_av() -> str | None:
    """The version of FFmpeg inside PyAV."""
    try:
        import av
    except Exception:  # as above
        return None
    return str(getattr(av, "ffmpeg_version_info", "")) or None


# CPU features that speed up convolutions or matrix products.
_TELLING_FEATURES = (
    *("avx2", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
_GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    system: str
    cpu: str
    cores: int
    memory_gib: float | None
    cpu_features: tuple[str, ...]
    torch_kernels: str | None


@dataclass(frozen=True)
class Accelerator:
    """`device` is what --device takes."""

    device: str
    name: str
    memory_gib: float | None
    bf16: bool


def describe_machine() -> Machine:
    cpu, features = _cpu()
    return Machine(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=cpu or platform.processor() or "unknown",
        cores=cores(),
        memory_gib=_memory_gib(),
        cpu_features=tuple(feature for feature in _TELLING_FEATURES if feature in features),
        torch_kernels=_torch_kernels(),
    )


def cpu_features() -> frozenset[str]:
    """By the names that the system has for them."""
    _, features = _cpu()
    return frozenset(features)


def computes_in_bf16() -> bool:
    """Whether this processor has instructions for it; else it is emulated, many times as slow as fp32."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_features())


def find_accelerators() -> tuple[Accelerator, ...]:
    import torch

    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = round(properties.total_memory / _GIB, 1)
            found.append(Accelerator(f"cuda:{index}", properties.name, memory, properties.major >= 8))
    if torch.backends.mps.is_available():
        found.append(Accelerator("mps", "Apple GPU", None, True))
    return tuple(found)


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _cpu() -> tuple[str, set[str]]:
    """Its name, and its features."""
    return _cpu_on_mac() if platform.system() == "Darwin" else _cpu_on_linux()


def _cpu_on_linux() -> tuple[str, set[str]]:
    """Its name and features; Arm machines call them `Features` and give no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return "", set()
    entries: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    return entries.get("model name", ""), set((entries.get("flags") or entries.get("Features") or "").split())


def _cpu_on_mac() -> tuple[str, set[str]]:
    features = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower().split()
    arm = {"bf16": "hw.optional.arm.FEAT_BF16", "i8mm": "hw.optional.arm.FEAT_I8MM"}
    return _sysctl("machdep.cpu.brand_string"), {*features, *(name for name, key in arm.items() if _sysctl(key) == "1")}


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _torch_kernels() -> str | None:
    """The instruction set of the kernels that torch has chosen."""
    try:
        import torch
    except Exception:  # a broken native library may raise anything
        return None
    return str(torch.backends.cpu.get_cpu_capability())


DecoderName = Literal["pyav", "decord"]
DECODERS: tuple[DecoderName, ...] = ("pyav", "decord")
DECODER_MODULES = {"pyav": "av", "decord": "decord"}


@dataclass(frozen=True)
class _CodecClip:
    """How to make a clip of a codec: the encoders to try, and a usual container."""

    codec: str
    encoders: tuple[str, ...]
    container: str
    options: tuple[tuple[str, str], ...] = ()


_CODEC_CLIPS = (
    _CodecClip("h264", ("libx264", "libopenh264", "h264_videotoolbox"), "mp4"),
    _CodecClip("hevc", ("libx265", "hevc_videotoolbox"), "mp4", (("x265-params", "log-level=none"),)),
    _CodecClip("vp8", ("libvpx",), "webm"),
    _CodecClip("vp9", ("libvpx-vp9",), "webm"),
    _CodecClip("av1", ("libsvtav1", "libaom-av1", "librav1e"), "mp4"),
    _CodecClip("mpeg4", ("mpeg4",), "avi"),
    _CodecClip("mpeg2", ("mpeg2video",), "mkv"),
    _CodecClip("mjpeg", ("mjpeg",), "avi"),
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
        clips = {codec_clip.codec: _make(codec_clip, Path(folder)) for codec_clip in _CODEC_CLIPS}
        results: dict[str, dict[str, str]] = {codec: {} for codec in clips}
        for name in DECODERS:
            with VideoProcess(decoder=name, limits=Limits(seconds=_SECONDS)) as process:
                for codec, (encoder, path) in clips.items():
                    if encoder is not None:
                        results[codec][name] = _try(process, name, path)
    return tuple(CodecCheck(codec, clips[codec][0], results[codec]) for codec in clips)


def _try(process: VideoProcess, name: str, path: Path) -> str:
    if find_spec(DECODER_MODULES[name]) is None:
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


def _make(codec_clip: _CodecClip, folder: Path) -> tuple[str | None, Path]:
    """The encoder that made the clip, or None, and the clip."""
    path = folder / f"{codec_clip.codec}.{codec_clip.container}"
    for encoder in codec_clip.encoders:
        try:
            _encode(path, encoder, dict(codec_clip.options))
        except Exception:  # if an encoder fails, the next one is tried
            continue
        return encoder, path
    return None, path


@contextmanager
def keeping_priority() -> Iterator[None]:
    """SVT-AV1, if root runs it, gives the process real-time priority, and nothing else would get the processor."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@keeping_priority()
def _encode(path: Path, encoder: str, options: dict[str, str]) -> None:
    import av

    os.environ.setdefault("SVT_LOG", "0")  # else this encoder writes to the terminal
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(25), options=options)
        stream.width, stream.height = _WIDTH, _HEIGHT
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for grey in _brightness(range(_FRAMES)):
            picture = np.full((_HEIGHT, _WIDTH, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
