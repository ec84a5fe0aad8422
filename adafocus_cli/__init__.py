"""`adafocus`: what happens in a video, what it cost to find out, and where the model looked.

Importing the package is cheap; `Tagger` loads torch when it is first touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adafocus_cli.api import Tagger
    from adafocus_cli.schema import Cost, Failure, PatchBox, Tag, VideoResult

__version__ = "0.1.0"

_HOMES = {
    "Tagger": "adafocus_cli.api",
    "VideoResult": "adafocus_cli.schema",
    "Failure": "adafocus_cli.schema",
    "Tag": "adafocus_cli.schema",
    "PatchBox": "adafocus_cli.schema",
    "Cost": "adafocus_cli.schema",
}

__all__ = ["Cost", "Failure", "PatchBox", "Tag", "Tagger", "VideoResult", "__version__"]


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
