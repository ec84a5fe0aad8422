"""gzip and zstd in pieces: each is complete by itself, so that a file of them can grow and be cut between two.

Knows nothing of what is in them.
"""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol

from adafocus_cli.errors import UsageError

_CHUNK = 1 << 16


class Piece(NamedTuple):
    """What was compressed in one go; if it is not `whole`, as much of it as can be had."""

    offset: int
    end: int
    content: bytes
    whole: bool


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Compression(ABC):
    magic: bytes
    error: type[Exception]

    @abstractmethod
    def compress(self, content: bytes) -> bytes: ...

    @abstractmethod
    def decompressor(self) -> _Decompressor: ...

    def pieces(self, file: IO[bytes], offset: int = 0) -> Iterator[Piece]:
        """From an offset where a piece begins; after one that is not whole there are no more."""
        file.seek(offset)
        rest = b""
        while rest := rest or file.read(_CHUNK):
            decompressor, content, taken = self.decompressor(), [], 0
            try:
                while rest:
                    content.append(decompressor.decompress(rest))
                    taken += len(rest)
                    rest = b"" if decompressor.eof else file.read(_CHUNK)
            except self.error:
                pass
            rest = decompressor.unused_data if decompressor.eof else b""
            end = offset + taken - len(rest)
            yield Piece(offset, end, b"".join(content), decompressor.eof)
            if not decompressor.eof:
                return
            offset = end


class Gzip(Compression):
    magic = b"\x1f\x8b"
    error = zlib.error

    def compress(self, content: bytes) -> bytes:
        return gzip.compress(content, mtime=0)

    def decompressor(self) -> _Decompressor:
        return zlib.decompressobj(wbits=31)


class Zstd(Compression):
    magic = b"\x28\xb5\x2f\xfd"

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise UsageError("zstd needs a library: pip install zstandard; or give a name that ends in .gz") from None
        self._library: Any = zstandard
        self.error = zstandard.ZstdError

    def compress(self, content: bytes) -> bytes:
        compressed: bytes = self._library.ZstdCompressor().compress(content)
        return compressed

    def decompressor(self) -> _Decompressor:
        decompressor: _Decompressor = self._library.ZstdDecompressor().decompressobj()
        return decompressor
