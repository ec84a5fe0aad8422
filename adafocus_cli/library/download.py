"""Downloads over HTTPS: resumed where they broke off, and visible only when complete.

Proxies are those of the environment. Knows nothing of models.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from adafocus_cli import __version__
from adafocus_cli.errors import AdaFocusError
from adafocus_cli.files import disk_full, sha256_of
from adafocus_cli.library import is_safe, origin_of

Progress = Callable[[int, int | None], None]

PAUSES = (1.0, 3.0, 9.0)  # seconds, while nothing more arrives
TIMEOUT = 30.0
_BLOCK = 1 << 18
_TEXT_LIMIT = 1 << 20
_PAGE_STARTS = (b"<!doctype html", b"<html")


class DownloadError(AdaFocusError):
    """A file could not be downloaded."""


class _TransientError(Exception):
    """A failure that may be gone at the next attempt."""


class _StaleError(_TransientError):
    """The partial file is not the start of the server's file."""


def fetch(
    url: str,
    target: Path,
    *,
    on_progress: Progress = lambda done, total: None,
    sha256: str | None = None,
    otherwise: str = "try again later",
    pauses: Sequence[float] | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Downloads to `target`, which appears when it is complete; until then there is a partial file beside it.

    `sha256` are the first digits of its hash, or all; `otherwise` is what a user can do instead, as the end of a
    sentence.
    """
    part = _PartialFile(target, url)
    left = iter(PAUSES if pauses is None else pauses)
    reached = part.size  # the most so far: without progress, the pauses run out
    while True:
        try:
            _receive(url, part, on_progress, timeout)
            break
        except _TransientError as error:
            if part.size > reached:
                reached = part.size
                left = iter(PAUSES if pauses is None else pauses)
            if isinstance(error, _StaleError):
                part.discard()
            pause = next(left, None)
            if pause is None:
                raise DownloadError(_gave_up(url, part, error)) from error
            time.sleep(pause)
        except DownloadError as error:
            raise DownloadError(f"{error}; {otherwise}") from error.__cause__
    if sha256 and not (found := sha256_of(part.path)).startswith(sha256):
        part.discard()
        raise DownloadError(
            f"{url} is not the file that was published: its SHA-256 begins with {found[: len(sha256)]}, not {sha256}; "
            f"try again, or {otherwise}"
        )
    part.finish()


def read_text(url: str, *, timeout: float = TIMEOUT) -> str:
    """A small text file."""
    try:
        with _open(url, {}, timeout) as response:
            content = response.read(_TEXT_LIMIT + 1)
        if _is_page(response, content):
            raise DownloadError(f"{url} is a web page, not a file; give the address of the file itself")
        if len(content) > _TEXT_LIMIT:
            raise DownloadError(f"{url} is longer than {_TEXT_LIMIT >> 20} MB, too long for a text; check the address")
        return str(content.decode())
    except UnicodeDecodeError as error:
        raise DownloadError(f"{url} is not UTF-8 text; check the address") from error
    except (_TransientError, OSError, http.client.HTTPException) as error:
        raise DownloadError(f"cannot read {url}: {_reason(error)}; try again later") from error


def check_address(url: str, *, redirected_from: str | None = None) -> None:
    """Refuses addresses that are not safe, also after a redirect."""
    if redirected_from is None:
        if not is_safe(url):
            raise DownloadError(f"{url!r} is not an address that starts with https://")
    elif not is_safe(url) or (redirected_from.startswith("https:") and not url.startswith("https:")):
        raise DownloadError(f"{redirected_from} redirects to {origin_of(url)}, which is not https; refused")


@dataclass(frozen=True)
class _Version:
    """The version of the file that a partial file belongs to."""

    url: str
    validator: str | None
    total: int | None


class _PartialFile:
    """A partial file, and beside it a note of its version."""

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self.version = self._noted_version()
        if self.version is None or self.version.validator is None or self.version.url != url:
            self.discard()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, version: _Version) -> None:
        self.discard()
        self.version = version
        with _disk_errors_explained(self.path):
            self._note.write_text(json.dumps(asdict(version)), "utf-8")

    def discard(self) -> None:
        self.version = None
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        with _disk_errors_explained(self.target):
            self.path.replace(self.target)
            self._note.unlink(missing_ok=True)

    def _noted_version(self) -> _Version | None:
        try:
            return _Version(**json.loads(self._note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def _receive(url: str, part: _PartialFile, on_progress: Progress, timeout: float) -> None:
    """One request: the whole file, or the rest of it."""
    done = part.size
    if part.version and done == part.version.total:
        return
    headers = {}
    if done and part.version and part.version.validator:
        headers = {"Range": f"bytes={done}-", "If-Range": part.version.validator}
    with _open(url, headers, timeout) as response:
        if response.status == 206:
            _check_continuation(response, part, done)
        else:
            done = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            part.begin(_Version(url, _validator(response), total))
        _append(response, part, done, on_progress)


def _check_continuation(response: Any, part: _PartialFile, done: int) -> None:
    """Checks that the rest is of the same version: servers may ignore If-Range."""
    version = part.version
    start, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    same = (
        version is not None
        and start.partition("-")[0] == str(done)
        and total in ("*", str(version.total))
        and _validator(response) in (None, version.validator)
    )
    if not same:
        raise _StaleError("the file changed meanwhile")


def _append(response: Any, part: _PartialFile, done: int, on_progress: Progress) -> None:
    total = part.version.total if part.version else None
    with _disk_errors_explained(part.path), part.path.open("ab") as file:
        on_progress(done, total)
        for block in _blocks(response):
            if done == 0 and _is_page(response, block):
                part.discard()
                raise DownloadError(f"{origin_of(response.url)} sent a web page instead of the file")
            file.write(block)
            done += len(block)
            on_progress(done, total)
    if total is not None and done != total:
        raise _TransientError("the connection was closed early")
    if done == 0:
        raise DownloadError(f"{origin_of(response.url)} sent an empty file")


def _blocks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(_reason(error)) from error
        if not block:
            return
        yield block


def _validator(response: Any) -> str | None:
    """What identifies a version of a file; weak tags do not identify its bytes."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    modified = response.headers.get("Last-Modified")
    return str(modified) if modified else None


def _is_page(response: Any, start: bytes) -> bool:
    kind = response.headers.get_content_type()
    return kind == "text/html" or start.lstrip()[:16].lower().startswith(_PAGE_STARTS)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_address(newurl, redirected_from=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _open(url: str, headers: dict[str, str], timeout: float) -> Iterator[Any]:
    check_address(url)
    usual = {"User-Agent": f"adafocus/{__version__}", "Accept-Encoding": "identity"}
    opener = urllib.request.build_opener(_Redirects())
    try:
        response = opener.open(urllib.request.Request(url, headers={**usual, **headers}), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(url, error) from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(_reason(error)) from error
    with response:
        yield response


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    answer = f"{error.code} ({error.reason})" if error.reason else str(error.code)
    if error.code == 416:
        return _StaleError(f"the server answers {answer}")
    if error.code in (408, 429) or error.code >= 500:
        return _TransientError(f"the server answers {answer}")
    if error.code in (404, 410):
        return DownloadError(f"there is no file at {url}: the server answers {answer}")
    return DownloadError(f"{url} cannot be downloaded: the server answers {answer}")


def _unreachable(url: str, reason: object) -> Exception:
    host = origin_of(url)
    if isinstance(reason, socket.gaierror):
        return DownloadError(f"{host} was not found; check the network connection")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"the certificate of {host} cannot be trusted ({reason.verify_message})")
    if isinstance(reason, ConnectionRefusedError):
        return DownloadError(f"{host} refuses the connection; check the network connection and its proxy")
    return _TransientError(_reason(reason))


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the connection timed out"
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
        return "the connection was closed early"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _gave_up(url: str, part: _PartialFile, error: _TransientError) -> str:
    if part.size and part.version and part.version.validator:
        of = "" if part.version.total is None else f" of {part.version.total}"
        return f"{url} broke off after {part.size}{of} bytes: {error}; run the same command again to resume"
    return f"{url} cannot be downloaded: {error}; try again later"


@contextmanager
def _disk_errors_explained(path: Path) -> Iterator[None]:
    """Turns errors of our own files into a sentence."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror}; set ADAFOCUS_HOME to another folder"
        raise DownloadError(disk_full(error, path) or reason) from error
