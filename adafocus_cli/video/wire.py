"""Messages between a program and its decoding child: a length, a JSON header, raw bytes.

No pickle: the child handles hostile files, so that nothing it says may run as code. Knows nothing of what is said.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any, NoReturn

_LENGTHS = struct.Struct(">II")
MAX_HEADER = 1 << 24
# Set to 1: what a child prints is shown.
LOG_VARIABLE = "ADAFOCUS_DECODER_LOG"


class WireError(Exception):
    """The other side is gone, or does not speak this protocol."""


def send(stream: IO[bytes], header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    text = json.dumps(header, allow_nan=False).encode("ascii")
    stream.write(_LENGTHS.pack(len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes], *, payload_bytes: int = 0) -> tuple[dict[str, Any], bytes]:
    """One message, with no payload or one of exactly `payload_bytes`."""
    header_length, payload_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if header_length > MAX_HEADER or payload_length not in (0, payload_bytes):
        raise WireError("a message of a length that nobody sends")
    try:
        header = json.loads(_exactly(stream, header_length).decode("ascii"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError("a message that is not JSON") from error
    if not isinstance(header, dict):
        raise WireError("a message that is not an object")
    return header, _exactly(stream, payload_length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("the other side has gone")
    return data


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")
