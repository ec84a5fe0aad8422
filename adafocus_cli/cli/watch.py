"""Files as they arrive in folders, each when it is complete: it no longer changes, and nobody has it open to write.

Whether a file is open for writing is known on Linux for files of one's own; else a file is complete when it has not
changed for a while. Knows nothing of videos.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic

_Stamp = tuple[int, int, int]


@dataclass
class _Seen:
    """A file as it was last seen, and since when; on a clock that nobody sets."""

    stamp: _Stamp
    since: float
    given: bool = False


def watched(look: Callable[[], Iterable[str]], stop: threading.Event, *, settle: float) -> Iterator[str]:
    """The paths that `look` finds, again and again until stopped; one that changes later is given again."""
    seen: dict[str, _Seen] = {}
    while not stop.is_set():
        now, before, seen = monotonic(), seen, {}
        for path in look():
            stamp = _stamp(path)
            if stamp is None:
                continue
            known = before.get(path)
            seen[path] = known = known if known and known.stamp == stamp else _Seen(stamp, now)
            if not known.given and now - known.since >= settle and not _is_being_written(path):
                known.given = True
                yield path
        stop.wait(min(1.0, settle / 2))


def _stamp(path: str) -> _Stamp | None:
    """What changes when a file does; None if it is no file, or gone."""
    try:
        status = os.stat(path)  # noqa: PTH116 (paths stay as they were typed)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _is_being_written(path: str) -> bool:
    """Linux leases a file for reading only while nobody has it open for writing."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Who opens it to write meanwhile breaks the lease, which is told by a signal: one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # another's file, or a file system without leases
    finally:
        os.close(descriptor)
    return False
