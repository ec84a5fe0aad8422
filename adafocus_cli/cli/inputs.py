"""From what was typed to the paths of videos: files, folders, patterns and lists of paths.

Knows nothing of videos but their file name extensions. A path that does not exist is passed on: the one who opens it
says so, and the other videos are still tagged.
"""

# ruff: noqa: PTH112, PTH116, PTH120, PTH207 (paths stay as they were typed; `Path` would tidy them)
from __future__ import annotations

import glob
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.video.remote import STDIN, StorageError, is_remote, listed

VIDEO_EXTENSIONS = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".m2t"),
        *(".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg"),
        *(".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    )
)
_CHUNK = 1 << 16
_LOOK_AHEAD = 10_000  # paths, so that the progress bar knows how many there are

Warn = Callable[[str], None]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def is_video_name(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_EXTENSIONS and not name.startswith(".")


def expand(inputs: Iterable[str], *, warn: Warn) -> Iterator[str]:
    """Arguments as typed: a pattern that the shell did not expand is expanded, a folder is walked."""
    for entry in inputs:
        if is_remote(entry):
            try:
                yield from _listed(entry, warn=warn)
            except StorageError as error:
                raise UsageError(str(error)) from None
        elif glob.has_magic(entry) and not os.path.lexists(entry):
            matches = sorted(glob.glob(entry, recursive=True))
            # `**` brings what is in a folder already; one without a match is passed on as it is.
            files = [m for m in matches if not os.path.isdir(m)] if "**" in entry else matches
            yield from expand_listed(files or [entry], warn=warn)
        else:
            yield from expand_listed([entry], warn=warn)


def expand_listed(paths: Iterable[str], *, warn: Warn) -> Iterator[str]:
    """Paths as they are; only folders are walked."""
    for path in paths:
        if is_remote(path):
            try:
                yield from _listed(path, warn=warn)
            except StorageError:
                yield path  # others may be known
        elif os.path.isdir(path):
            yield from _walk(path, warn=warn)
        else:
            yield path


def _listed(entry: str, *, warn: Warn) -> Iterator[str]:
    try:
        yield from listed(entry, is_video=is_video_name, warn=warn)
    except StorageError:
        raise
    except VideoError:
        yield entry  # whoever opens it says why that does not work


def _walk(folder: str, *, warn: Warn) -> Iterator[str]:
    found = False
    for path in _videos_below(folder, frozenset(), warn):
        found = True
        yield path
    if not found:
        warn(
            f"no video files in the folder {folder}; it was searched for names such as .mp4, .mkv, .webm, .avi or .mov"
        )


def _videos_below(folder: str, above: frozenset[tuple[int, int]], warn: Warn) -> Iterator[str]:
    """In the order of names; `above` are the folders it lies in, for a link that leads back to one of them."""
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        warn(f"cannot look into the folder {folder}: {error.strerror}; its videos are left out")
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            yield from _videos_below(entry.path, above | {here}, warn)
        elif is_video_name(entry.name) and not _is_special(entry):
            yield entry.path


def _is_special(entry: os.DirEntry[str]) -> bool:
    """A pipe or a device: reading it might wait for ever. A dangling link is not, and is reported when opened."""
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False


def read_list(source: str, *, null: bool, warn: Warn) -> Iterator[str]:
    """The paths of a list, or of records, from a file or (`-`) standard input, each as soon as it is there."""
    if source == "-":
        # Unbuffered: Python cannot end while another thread waits in its buffered standard input.
        stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        return expand_listed(split_list(stdin, null=null, name="the list on standard input"), warn=warn)
    try:
        stream = Path(source).open("rb", buffering=0)  # noqa: SIM115 — closed by the generator below
    except OSError as error:
        raise UsageError(
            f"cannot read the list {source}: {error.strerror}; give a text file with one path a line, or - for "
            "standard input"
        ) from error
    return expand_listed(_closing(stream, null=null, name=f"the list {source}"), warn=warn)


def _closing(stream: FileIO, *, null: bool, name: str) -> Iterator[str]:
    with stream:
        yield from split_list(stream, null=null, name=name)


# What files of videos begin with, after so many bytes.
_BEGINNINGS = ((b"ftyp", 4), (b"\x1aE\xdf\xa3", 0), (b"RIFF", 0), (b"FLV\x01", 0), (b"OggS", 0), (b"\0\0\x01", 0))


def split_list(stream: _Readable, *, null: bool, name: str = "the list") -> Iterator[str]:
    """One path a line or up to a NUL; blank lines are skipped, bytes of names that are not UTF-8 survive.

    From an unbuffered stream each path comes out as soon as it is there. What is no list, such as a video, is refused.
    """
    separator = b"\0" if null else b"\n"
    rest, is_first = b"", True
    while chunk := stream.read(_CHUNK):
        if (not null and b"\0" in chunk) or (is_first and any(chunk.startswith(b, at) for b, at in _BEGINNINGS)):
            raise UsageError(
                f"{name} is not text with one path a line; a video on standard input needs adafocus classify --stdin, "
                "paths that end with NUL need -0"
            )
        is_first = False
        *whole, rest = (rest + chunk).split(separator)
        yield from filter(None, (_decoded(entry, null=null) for entry in whole))
    if last := _decoded(rest, null=null):
        yield last


def _decoded(entry: bytes, *, null: bool) -> str:
    if null:
        return os.fsdecode(entry)
    # Lists written on Windows may open with a byte order mark and end their lines with a carriage return.
    entry = entry.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")
    if entry.startswith(b'{"schema"'):
        return _path_in(entry)
    return os.fsdecode(entry) if entry.strip() else ""


def _path_in(record: bytes) -> str:
    """The path of a record, so that a list of failures can be read again; what only looks like one is a path."""
    from adafocus_cli.schema import path_of

    try:
        return path_of(json.loads(record))
    except (ValueError, KeyError, TypeError):
        return os.fsdecode(record)


class Counted(Iterator[str]):
    """The same paths, counted: `total` is known from the start if there are few, else once they are all out."""

    def __init__(self, paths: Iterator[str], *, look_ahead: int = 0) -> None:
        ahead = list(islice(paths, look_ahead))
        self._paths = chain(ahead, paths)
        self._count = 0
        self.total = len(ahead) if len(ahead) < look_ahead else None

    def __next__(self) -> str:
        try:
            path = next(self._paths)
        except StopIteration:
            self.total = self._count
            raise
        self._count += 1
        return path


@dataclass(frozen=True)
class Sources:
    """Where paths come from: arguments, and at most one list."""

    inputs: tuple[str, ...]
    files_from: str | None
    null: bool
    stdin: bool = False
    """Whether the one video is on standard input."""

    def __post_init__(self) -> None:
        if self.stdin:
            self._check_stdin()
            return
        if not self.inputs and self.files_from is None:
            raise UsageError("no videos were given; name files or folders, or - to read a list of paths from stdin")
        lists = [entry for entry in (*self.inputs, self.files_from) if entry == "-"]
        if len(lists) > 1:
            raise UsageError("standard input can be read only once; give - or --files-from - a single time")
        if self.null and self.files_from is None and not lists:
            raise UsageError("--null is about a list of paths; add - or --files-from FILE")

    def _check_stdin(self) -> None:
        if self.inputs or self.files_from is not None or self.null:
            raise UsageError("--stdin is for one video, that on standard input; leave out the other inputs")
        if sys.stdin.isatty():
            raise UsageError("--stdin needs a video on standard input, as in adafocus classify --stdin < clip.mp4")

    @property
    def has_list(self) -> bool:
        return self.files_from is not None or "-" in self.inputs

    def each(self, terminal: Terminal) -> Iterator[str]:
        """Only now is a list opened, and it is read as the paths are asked for."""
        if self.stdin:
            return iter([STDIN])
        if "-" in (*self.inputs, self.files_from) and sys.stdin.isatty():
            terminal.typing = True
            terminal.note("reading paths from the terminal, one a line; Ctrl-D ends the list")
        parts: list[Iterator[str]] = []
        for entry in self.inputs:
            parts.append(self._list(entry, terminal) if entry == "-" else expand([entry], warn=terminal.warn))
        if self.files_from is not None:
            parts.append(self._list(self.files_from, terminal))
        return chain.from_iterable(parts)

    def counted(self, paths: Iterator[str]) -> Counted:
        """A list may grow while it is read, and its first videos need not wait for its last."""
        return Counted(paths, look_ahead=0 if self.has_list else _LOOK_AHEAD)

    def _list(self, source: str, terminal: Terminal) -> Iterator[str]:
        return read_list(source, null=self.null, warn=terminal.warn)


def is_same(path: Path, source: str | Path | None) -> bool:
    try:
        return source is not None and path.samefile(source)
    except (OSError, ValueError):
        return False  # one of them is not there


def once_each(paths: Iterable[str]) -> Iterator[str]:
    """Without those that are another name of a file that came before."""
    from adafocus_cli.output.records import key_of

    given: set[bytes] = set()
    for path in paths:
        digest = blake2b(key_of(path).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest not in given:
            given.add(digest)
            yield path


def folder_of(entry: str) -> str | None:
    """The folder below which all of an input lies, if there is one: itself, or where a pattern begins."""
    if is_remote(entry) or entry == "-":
        return None
    if glob.has_magic(entry) and not os.path.lexists(entry):
        while glob.has_magic(entry):
            entry = os.path.dirname(entry)
        entry = entry or os.curdir
    return entry if os.path.isdir(entry) else None


def is_gone(path: str) -> bool:
    """Whether there is surely no such file; not where that cannot be known."""
    if is_remote(path):
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
