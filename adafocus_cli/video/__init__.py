"""Reading videos: which frames, the exact frames, and the squares that a model sees.

Native decoders run in a child process (`process`, `server`); the rest of the program imports no decoder.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

Decoder = Literal["auto", "pyav", "decord"]
"""Who reads a video; `auto` is PyAV, and decord where PyAV is missing or cannot open or decode the file."""
DECODERS: tuple[Decoder, ...] = get_args(Decoder)

Decode = Literal["exact", "fast"]
"""The frames that are asked for, or the nearest keyframes."""
DECODES: tuple[Decode, ...] = get_args(Decode)


def other_decoder(decoder: Decoder) -> Decoder | None:
    """Who is tried where the first one was lost; nobody if one was asked for by name."""
    return "decord" if decoder == "auto" and is_installed("av") and is_installed("decord") else None


def is_installed(module: str) -> bool:
    return find_spec(module) is not None
