"""Clips made for the tests: every frame carries its number as a picture that survives compression.

`numbered_clip` writes one, `read_number` reads the number back from a frame, whole or as a model sees it.
The code is a 4×4 board of black and white cells in the middle of the picture: 12 bits of number, 4 of check.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from adafocus_cli.diagnose.checks import keeping_priority

CELLS = 4
# Side of the board as a part of the picture's short side; a model sees 224 of 256.
BOARD, SEEN = 0.75, 224 / 256
MAX_NUMBER = 1 << 12


def has_encoder(codec: str) -> bool:
    try:
        return bool(av.codec.Codec(codec, "w"))
    except av.error.FFmpegError:
        return False


def number_picture(number: int, width: int, height: int) -> np.ndarray:
    """An RGB picture that shows a number, on a background that moves with it."""
    columns, rows = np.arange(width), np.arange(height)[:, None]
    ramp = (columns * 3).astype(np.uint8) + (rows * 2 + number * 5).astype(np.uint8)  # modulo 256, which is quick
    picture = np.stack([ramp, np.roll(ramp, 7, axis=1), 255 - ramp], axis=2)
    side = max(CELLS, int(min(width, height) * BOARD))
    left, top = (width - side) // 2, (height - side) // 2
    edges = [round(i * side / CELLS) for i in range(CELLS + 1)]
    for place, bit in enumerate(_bits(number)):
        row, column = divmod(place, CELLS)
        picture[
            max(0, top + edges[row]) : top + edges[row + 1], max(0, left + edges[column]) : left + edges[column + 1]
        ] = 235 if bit else 20
    return picture


def read_number(picture: np.ndarray, *, whole: bool = False) -> int:
    """The number in a square that a model sees, or in a `whole` frame; ValueError where it is not readable.

    >>> read_number(number_picture(1234, 160, 96), whole=True)
    1234
    """
    height, width = picture.shape[:2]
    cell = min(width, height) * (BOARD if whole else BOARD / SEEN) / CELLS
    bits = []
    for place in range(CELLS * CELLS):
        row, column = divmod(place, CELLS)
        x, y = width / 2 + (column - 1.5) * cell, height / 2 + (row - 1.5) * cell
        reach = max(1, int(cell / 4))
        patch = picture[max(0, int(y) - reach) : int(y) + reach, max(0, int(x) - reach) : int(x) + reach]
        bits.append(int(patch.mean() > 127))
    number = sum(bit << place for place, bit in enumerate(bits[:12]))
    if bits != _bits(number):
        raise ValueError(f"no number is readable in the picture: {bits}")
    return number


def numbered_clip(
    path: Path | str,
    *,
    frames: int = 300,
    codec: str = "libx264",
    size: tuple[int, int] = (128, 96),
    fps: int = 25,
    options: Mapping[str, str] | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
    pixel_format: str = "yuv420p",
    times: Sequence[int] | None = None,
    start: int = 0,
    rotation: int = 0,
    first_number: int = 0,
    colorspace: int | None = None,
) -> Path:
    """Writes a clip of numbered frames and gives its path back.

    `size` is width and height as stored; `times` are milliseconds of each frame (variable frame rate), `start`
    milliseconds before the first; `rotation` is for MP4 and MOV, in degrees clockwise that a player turns the picture;
    `colorspace` is the number of the colour matrix that the file names.
    """
    if not has_encoder(codec):
        pytest.skip(f"this PyAV has no {codec} encoder")
    path = Path(path)
    with keeping_priority(), av.open(str(path), "w", format=container, options=dict(container_options or {})) as output:
        stream: Any = output.add_stream(codec, rate=fps, options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        base = Fraction(1, 1000) if times else Fraction(1, fps)
        stream.codec_context.time_base = base
        offset = int(Fraction(start, 1000) / base)
        reformatter = VideoReformatter()  # of all frames: to make one takes longer than to use it
        for place in range(frames):
            frame = av.VideoFrame.from_ndarray(number_picture(first_number + place, *size), format="rgb24")
            frame = reformatter.reformat(frame, format=pixel_format)
            frame.pts = offset + (times[place] if times else place)
            frame.time_base = base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    if rotation:
        _rotate(path, rotation)
    return path


def set_edit_list(path: Path, *, skip_frames: int, keep_frames: int, fps: int = 25) -> None:
    """Cuts an MP4 without re-encoding: its one edit then shows `keep_frames` from frame `skip_frames` on."""
    data = bytearray(path.read_bytes())
    movie_scale = _number_after(data, b"mvhd", 12)
    media_scale = _number_after(data, b"mdhd", 12)
    entry = data.index(b"elst") + 12  # past the name, version and flags, and the count
    duration, media_time = struct.unpack_from(">Ii", data, entry)
    assert duration, "the file has no edit to change"
    media_time += skip_frames * media_scale // fps
    struct.pack_into(">Ii", data, entry, keep_frames * movie_scale // fps, media_time)
    path.write_bytes(data)


def flip_bytes(path: Path, *, start: float, stop: float, every: int = 97) -> None:
    """Damages the part of a file between two fractions of its length."""
    data = bytearray(path.read_bytes())
    for place in range(int(len(data) * start), int(len(data) * stop), every):
        data[place] ^= 0x5A
    path.write_bytes(data)


def cut_off(path: Path, part: float) -> None:
    """Keeps only the first `part` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def _bits(number: int) -> list[int]:
    if not 0 <= number < MAX_NUMBER:
        raise ValueError(f"number is {number}; it must be from 0 to {MAX_NUMBER - 1}")
    check = ~(number ^ number >> 4 ^ number >> 8) & 15
    return [(number | check << 12) >> place & 1 for place in range(16)]


def _rotate(path: Path, degrees: int) -> None:
    one = 1 << 16
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # the header of version 0 has 40 bytes before the matrix
    struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def _number_after(data: bytearray, name: bytes, skip: int) -> int:
    """A 32-bit field of a box of version 0, `skip` bytes after the version."""
    return int(struct.unpack_from(">I", data, data.index(name) + 4 + skip)[0])
