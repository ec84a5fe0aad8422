"""Videos on other storage, by whatever fsspec knows: which there are, what tells that one changed, copies to decode.
The one on standard input counts as such, too.

A decoder sees a copy on this machine, which lasts until its video is done. Every wait has an end. Knows nothing of
decoding. fsspec is loaded when the first such path comes.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from adafocus_cli.errors import VideoError, printable
from adafocus_cli.video.limits import LimitError, Limits, problem

_T = TypeVar("_T")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # a drive of Windows has a single letter
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_GLANCE_SECONDS = 0.05
_ASK_SECONDS = 60.0

# What storages say of a file that changes with its content, the surest first; and when it was written.
_MARKS = ("ETag", "md5Hash", "content_md5", "Content-MD5", "Digest", "etag", "generation")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified", "created")


STDIN = "stdin://"
"""The path of the video on standard input."""
_PIECE = 1 << 20

_SHARED: dict[tuple[type, str], Any] = {}


class StorageError(VideoError):
    """No library on this machine knows such paths."""


@dataclass(frozen=True)
class RemoteFile:
    """What the storage says of a file: a size of 0 or a time of 0 is one that it does not say."""

    size: int
    mtime_ns: int
    mark: str


def is_remote(path: str) -> bool:
    """
    >>> is_remote("s3://bucket/a.mp4"), is_remote("C://a.mp4")
    (True, False)
    """
    return bool(_SCHEME.match(path))


def look_up(path: str) -> RemoteFile:
    """Asks for everything but the content."""
    storage, name = _storage(path)
    info = _asked(path, lambda: storage.info(name))
    return _file_of(path, info)


def listed(entry: str, *, is_video: Callable[[str], bool], warn: Callable[[str], None]) -> Iterator[str]:
    """The files of a pattern (`*` only, for `?` begins a query), the videos of a folder, or the file itself."""
    storage, name = _storage(entry)
    if "*" in (entry.partition("?")[0] if _HTTP.match(entry) else entry):
        matches = sorted(_asked(entry, lambda: storage.glob(name)))
        visible = [match for match in matches if "/." not in match or "/." in name]
        yield from (_address(entry, name, match) for match in visible if is_video(_basename(match)))
        if not matches:
            yield entry  # whoever opens it says that it is not there
    elif _is_folder(entry, storage, name, is_video):
        yield from _below(entry, storage, name, is_video, warn)
    else:
        yield entry


class Copies:
    """Copies of the videos that are being tagged; all are gone when this is closed."""

    def __init__(self, limits: Limits, closing: threading.Event) -> None:
        self._limits = limits
        self._closing = closing
        self._access = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names = itertools.count()

    def fetch(self, path: str) -> Path:
        """A copy of a video on other storage; of standard input only where it cannot be opened again."""
        if path == STDIN and (opened := _regular_stdin()):
            return opened
        file = self._new_file(path)
        if path == STDIN:
            _asked(path, lambda: _spool(file, self._limits), seconds=math.inf, closing=self._closing)
            return file
        _fetch(path, file, self._limits, self._closing)
        return file

    def drop(self, file: Path) -> None:
        """Its room is free at once, also while a decoder still has it open. What is no copy stays."""
        if self._folder is not None and file.parent == Path(self._folder.name):
            _remove(file)

    def close(self) -> None:
        if self._folder is not None:
            with suppress(OSError):  # what Windows holds open, its own tools clear away
                self._folder.cleanup()

    def _new_file(self, path: str) -> Path:
        with self._access:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="adafocus-")
            name = str(next(self._names))
        ending = PurePosixPath(urlsplit(path).path).suffix
        return Path(self._folder.name, f"{name}{ending if ending[1:].isalnum() else ''}")


def _fetch(path: str, file: Path, limits: Limits, closing: threading.Event) -> None:
    """Writes all of it, or leaves nothing."""
    storage, name = _storage(path)
    end = time.monotonic() + limits.seconds

    def check(size: int | None, written: int, **more: Any) -> None:
        if max(size or 0, written) > limits.max_bytes:
            raise LimitError(
                f"{printable(path)}: it is larger than the {limits.max_bytes >> 30} GiB that are fetched of one video; "
                "download it and name the file"
            )
        if closing.is_set() or time.monotonic() > end:
            raise TimeoutError  # nobody waits for it any more

    def fetch() -> None:
        from fsspec.callbacks import Callback

        info = storage.info(name)
        expected = _file_of(path, info).size
        check(expected, 0)
        storage.get_file(name, str(file), callback=Callback(hooks={"check": check}))
        if expected and file.stat().st_size != expected:
            raise OSError(f"{file.stat().st_size} of {expected} bytes came")

    try:
        _asked(path, fetch, seconds=limits.seconds, closing=closing)
    except BaseException:
        _remove(file)
        raise


def _remove(file: Path) -> None:
    with suppress(OSError):
        if file.exists():
            file.open("wb").close()
            file.unlink()


def _regular_stdin() -> Path | None:
    """The file that standard input is, where the system has a name for it that others can open."""
    opened = Path(f"/proc/{os.getpid()}/fd/0")
    return opened if stat.S_ISREG(os.fstat(0).st_mode) and opened.exists() else None


def _spool(file: Path, limits: Limits) -> None:
    """Writes all of standard input into a file, or leaves nothing."""
    written = 0
    try:
        with file.open("wb") as copy:
            while piece := os.read(0, _PIECE):
                written += len(piece)
                if written > limits.max_bytes:
                    raise LimitError(
                        f"{STDIN}: more than the {limits.max_bytes >> 30} GiB that are taken of one video; write it "
                        "into a file, or tag it as it comes with adafocus live -"
                    )
                copy.write(piece)
    except BaseException as error:
        _remove(file)
        if isinstance(error, OSError):
            raise problem(STDIN, f"it cannot be copied ({_one_line(error)}); make room, or name a file") from None
        raise
    if not written:
        raise problem(STDIN, "nothing came; pipe a video into it, as in adafocus classify --stdin < clip.mp4")


def _storage(path: str) -> tuple[Any, str]:
    """The file system that knows a path, and the path's name there."""
    if _HTTP.fullmatch(path):
        raise StorageError(f"{path}: it names no server; give the whole address")
    try:
        from fsspec.core import url_to_fs

        storage, name = url_to_fs(path)
    except ImportError as error:
        text = 'this storage needs a library: pip install "adafocus-cli[remote]" for http, s3fs for s3, gcsfs for gs'
        raise StorageError(f"{printable(path)}: {text} ({_one_line(error)})") from None
    except Exception as error:  # libraries raise errors of their own
        text = f"no storage can be reached by this address ({_one_line(error)}); check what is before ://"
        raise StorageError(f"{printable(path)}: {text}") from None
    if getattr(storage, "async_impl", False):  # may be used by several threads, which then share what it has listed
        storage = _SHARED.setdefault((type(storage), repr(storage.storage_options)), storage)
    return storage, str(name)


def _asked(
    path: str, action: Callable[[], _T], *, seconds: float = _ASK_SECONDS, closing: threading.Event | None = None
) -> _T:
    """What a storage answers; its errors as ours."""
    answer: Future[_T] = Future()

    def ask() -> None:
        try:
            answer.set_result(action())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="storage", daemon=True).start()
    end = time.monotonic() + seconds
    while not answer.done() and time.monotonic() < end and not (closing and closing.is_set()):
        wait([answer], timeout=_GLANCE_SECONDS)
    try:
        return answer.result(timeout=0)
    except VideoError:
        raise
    except Exception as error:
        raise problem(path, _reason(error, seconds)) from None


def _reason(error: Exception, seconds: float) -> str:
    """What went wrong, and the next step."""
    if type(error).__name__ in ("TimeoutError", "FSTimeoutError"):
        return f"fetching took longer than {seconds:g} seconds; allow more with --decode-timeout SECONDS"
    cause = error.__cause__ or error
    status = getattr(cause, "status", None)
    of_http = type(cause).__module__.startswith("aiohttp")  # whose failures are all said to be missing files
    if status in (401, 403) or isinstance(error, PermissionError):
        return "no permission to read it; check the address and what you are let in with"
    if status in (404, 410) or (isinstance(error, FileNotFoundError) and not of_http):
        return "there is no such file; check the address"
    return f"it cannot be fetched ({_one_line(cause)}); check the address and the network, or try again"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _file_of(path: str, info: dict[str, Any]) -> RemoteFile:
    if info.get("type") == "directory":
        raise problem(path, "a folder, not a video; end it with / to have the videos in it")
    size = info.get("size")
    if size == 0:
        raise problem(path, "the file is empty; copy or download it again")
    mark = next((str(info[name]) for name in _MARKS if info.get(name)), "")
    written = next((info[name] for name in _TIMES if info.get(name)), 0)
    return RemoteFile(size or 0, _nanoseconds(written), mark)


def _nanoseconds(written: datetime | str | float) -> int:
    if isinstance(written, str):
        try:
            iso = written[:1].isdecimal()  # else as the web has it
            written = datetime.fromisoformat(written.replace("Z", "+00:00")) if iso else parsedate_to_datetime(written)
        except ValueError:
            return 0
    seconds = written.timestamp() if isinstance(written, datetime) else written
    return int(seconds * 1_000_000) * 1000


def _is_folder(entry: str, storage: Any, name: str, is_video: Callable[[str], bool]) -> bool:
    if entry.endswith("/"):
        return True
    if _HTTP.match(entry) or is_video(_basename(name)):
        return False  # to ask would be to fetch it, or one question for each of a long list
    return bool(_asked(entry, lambda: storage.isdir(name)))


def _below(
    entry: str, storage: Any, name: str, is_video: Callable[[str], bool], warn: Callable[[str], None]
) -> Iterator[str]:
    """Folder by folder, in the order of names; hidden ones are left out."""
    found = False

    def unreadable(error: Exception) -> None:
        warn(f"cannot look into {printable(entry)}: {_reason(error, _ASK_SECONDS)}")

    for _, folders, files in storage.walk(name, detail=True, on_error=unreadable):
        for hidden in [folder for folder in folders if folder.startswith(".")]:
            del folders[hidden]
        for file in sorted(files):
            if is_video(file):
                found = True
                yield _address(entry, name, str(files[file]["name"]))
    if not found:
        warn(f"no video files in {printable(entry)}; it was searched for names such as .mp4, .mkv, .webm, .avi or .mov")


def _address(entry: str, name: str, other: str) -> str:
    """What `other` would have been typed as, if `name` was typed as `entry`."""
    start = entry.rstrip("/").removesuffix(name.rstrip("/"))
    if _SCHEME.match(other):
        return other
    if name.strip("/") and start != entry.rstrip("/"):
        return start + other
    return f"{entry.partition('://')[0]}://{other.lstrip('/')}"


def _basename(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
