"""Which packages are here, in which versions, and whether those that are needed can be loaded."""

from __future__ import annotations

import platform
from importlib import import_module, metadata

from adafocus_cli import __version__

# By import name; the same name installs them.
REQUIRED = ("torch", "numpy", "av", "PIL", "yaml")
_DISTRIBUTIONS = ("torch", "numpy", "av", "decord", "pillow", "pyyaml", "typer", "rich")
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
    except Exception as error:  # a broken native library raises whatever it likes
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _ffmpeg_in_av() -> str | None:
    """The FFmpeg that PyAV brings along."""
    try:
        import av
    except Exception:  # as above
        return None
    return str(getattr(av, "ffmpeg_version_info", "")) or None
