"""Reading videos: which frames, the exact frames, and the squares that a model sees.

Native decoders run in a child process (`process`, `worker`); the rest of the program imports no decoder.
"""

from __future__ import annotations

from typing import Literal, get_args

Decoder = Literal["auto", "pyav", "decord"]
"""Who reads a video; `auto` is PyAV, and decord where PyAV is missing or cannot open or decode the file."""
DECODERS: tuple[Decoder, ...] = get_args(Decoder)

Decode = Literal["exact", "fast"]
"""The frames that are asked for, or the nearest keyframes."""
DECODES: tuple[Decode, ...] = get_args(Decode)
