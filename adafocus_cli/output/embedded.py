"""XMP inside MP4 and MOV files, behind everything else: no byte of the video moves or changes.

These files are a row of boxes, and players skip those that they do not know. Behind the last one go a box with the XMP,
under the number by which programs look for it, and one that says how long both are: so they are found again, replaced
by newer ones, and left out where a file is compared with what it was. The new file takes the place of the old one when
all of it is on the disk, and was compared with it.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from adafocus_cli.errors import VideoError
from adafocus_cli.files import replacing, sync_folder
from adafocus_cli.video.limits import check_file, problem

_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_SIZE, _LONG_SIZE = struct.Struct(">I4s"), struct.Struct(">Q")
_MARK = b"adafocus tags 1\n"
_ENDING = _SIZE.size + len(_MARK) + _LONG_SIZE.size
_BLOCK = 1 << 20
# Files that grow while they are read; their last box leads to the parts from the end.
_FRAGMENTED = {b"moof", b"mfra", b"styp"}
# What may stand at the top of a file, and not of another one that happens to begin with a number.
_KNOWN = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"pnot", b"udta", b"prfl", b"pdin"}


class _Box(NamedTuple):
    start: int
    size: int
    kind: bytes


def video_size(file: IO[bytes], size: int) -> int:
    """The length of a file without what was written into it here."""
    if size < _ENDING:
        return size
    file.seek(size - _ENDING)
    ending = file.read(_ENDING)
    if not ending.startswith(_SIZE.pack(_ENDING, b"free") + _MARK):
        return size
    (added,) = _LONG_SIZE.unpack_from(ending, _ENDING - _LONG_SIZE.size)
    return size - added if _ENDING < added < size else size


def write_tags(path: str, xmp: bytes) -> bool:
    """Puts XMP into a file, in the place of what was put there before; False if it is there already.

    Raises a VideoError where that is not safe, and leaves the file as it is.
    """
    check_file(path, path)
    real = Path(path).resolve()
    with real.open("rb") as file:
        status = os.fstat(file.fileno())
        size, added = video_size(file, status.st_size), _boxes_of(xmp)
        file.seek(size)
        if status.st_size - size == len(added) and file.read() == added:
            return False
        _check(path, file, size)
        if status.st_nlink > 1:
            raise problem(path, "the file has more than one name (hard links), which would part; copy it first")
        with replacing(real) as copy:
            _copy(file, copy, size)
            copy.write(added)
            copy.flush()
            with Path(copy.name).open("rb") as written:
                if not _is_same(file, written, size) or written.read() != added:
                    raise problem(path, "its copy with tags is not the same; check the disk")
            shutil.copystat(real, copy.name)
    sync_folder(real)
    return True


def _boxes_of(xmp: bytes) -> bytes:
    box = _SIZE.pack(_SIZE.size + len(_XMP) + len(xmp), b"uuid") + _XMP + xmp
    return box + _SIZE.pack(_ENDING, b"free") + _MARK + _LONG_SIZE.pack(len(box) + _ENDING)


def _check(path: str, file: IO[bytes], size: int) -> None:
    """Refuses everything but whole, plain files whose XMP is not of others."""
    kinds = set()
    for box in _boxes(path, file, size):
        kinds.add(box.kind)
        file.seek(box.start + _SIZE.size)
        if box.kind == b"uuid" and file.read(len(_XMP)) == _XMP:
            raise problem(path, "it has XMP of another program, which would be lost; write it beside with --xmp")
    if kinds & _FRAGMENTED:
        raise problem(path, "it is in fragments, behind which nothing can be written; write tags beside with --xmp")
    if not {b"moov", b"mdat"} <= kinds:
        raise _not_for_tags(path)


def _boxes(path: str, file: IO[bytes], size: int) -> Iterator[_Box]:
    start = 0
    while start < size:
        file.seek(start)
        header = file.read(_SIZE.size + _LONG_SIZE.size)
        if len(header) < _SIZE.size:
            raise _not_for_tags(path)
        length, kind = _SIZE.unpack_from(header)
        if length == 1 and len(header) == _SIZE.size + _LONG_SIZE.size:
            (length,) = _LONG_SIZE.unpack_from(header, _SIZE.size)
        if length < _SIZE.size or start + length > size or kind not in _KNOWN | _FRAGMENTED | {b"sidx"}:
            raise _not_for_tags(path)
        yield _Box(start, length, kind)
        start += length


def _not_for_tags(path: str) -> VideoError:
    return problem(path, "tags are written into whole MP4 and MOV files only; write them beside it with --xmp")


def _copy(file: IO[bytes], copy: IO[bytes], size: int) -> None:
    file.seek(0)
    left = size
    while left and (block := file.read(min(_BLOCK, left))):
        copy.write(block)
        left -= len(block)


def _is_same(file: IO[bytes], other: IO[bytes], size: int) -> bool:
    file.seek(0)
    left = size
    while left:
        block = file.read(min(_BLOCK, left))
        if not block or other.read(len(block)) != block:
            return False
        left -= len(block)
    return True
