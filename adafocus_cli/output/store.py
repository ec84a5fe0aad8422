"""What a file of records can do for the journal: remember, find, take one more, and have it all on the disk.

Knows nothing of formats; they are in the modules beside this one.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.output.records import Record
from adafocus_cli.output.source import key_of


class Known(NamedTuple):
    """What a file has of a path."""

    fingerprint: str
    ok: bool


class Store(ABC):
    """The records of one run's settings; those of others stay as they are. Not thread-safe."""

    def key(self, path: str) -> str:
        """What tells the videos of the file from one another: the same for all names of one."""
        return key_of(path)

    @abstractmethod
    def known(self, path: str) -> Known | None: ...

    @abstractmethod
    def like(self, digest: str) -> Record | None:
        """A tagged record of this content."""

    @abstractmethod
    def put(self, record: Record) -> None:
        """Adds a record, in the place of one of the same video."""

    @abstractmethod
    def prune(self, is_gone: Callable[[str], bool]) -> int:
        """Removes the records of such paths, with any settings; how many. What is not the exact path stays."""

    @abstractmethod
    def sync(self) -> None:
        """Returns when all that was put would survive a power loss."""

    @abstractmethod
    def finish(self) -> None:
        """Completes the file."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file as it is."""


@contextmanager
def told(path: Path, then: str = "what was written before it is kept: run it again to go on") -> Iterator[None]:
    """What the system says of a file, and what to do then, as one sentence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AdaFocusError(f"cannot write to {path}: {reason}; {then}") from error
