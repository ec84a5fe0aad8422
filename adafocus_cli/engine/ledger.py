"""What of a batch is still to do, and what becomes of each video: done before, copied from a twin, tagged, or failed.

Between the paths and the journal; two threads come here, one with paths and one with results. Knows nothing of how
videos are tagged or records kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adafocus_cli.engine.local import failure_of
from adafocus_cli.errors import VideoError, printable
from adafocus_cli.output.journal import Journal, SourceFile
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Failure, Result, VideoResult, share_of

if TYPE_CHECKING:
    from adafocus_cli.exits import ExitRule
    from adafocus_cli.tagger import ClipTagger


# How often one who waits looks whether he was told to stop: an event that a signal sets wakes nobody.
_GLANCE_SECONDS = 0.05


@dataclass
class Tally:
    """How many videos ended how, and what they cost."""

    tagged: int = 0
    copied: int = 0
    done_before: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    gmacs: float = 0.0
    full_frame_gmacs: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "infer": 0.0})

    @property
    def share(self) -> float | None:
        """Of what whole frames would have cost."""
        return share_of(self.gmacs, self.full_frame_gmacs)

    @property
    def failures(self) -> int:
        return self.failed.total()

    @property
    def new(self) -> int:
        return self.tagged + self.copied + self.failures

    @property
    def all(self) -> int:
        return self.new + self.done_before

    def add(self, result: Result) -> None:
        if isinstance(result, Failure):
            self.failed[kind_of(result)] += 1
            return
        self.tagged += 1
        self.gmacs += result.cost.gmacs
        self.full_frame_gmacs += result.cost.full_frame_gmacs or 0.0
        for stage, seconds in result.runtime.seconds.items():
            self.seconds[stage] += seconds


def kind_of(failure: Failure) -> str:
    """What happened, in words that can follow a number of videos."""
    of_type = {"DecoderError": "lost the decoder", "WorkerError": "lost the worker", "LimitError": "over a limit"}
    of_stage = {"open": "could not be opened", "decode": "could not be decoded", "infer": "broke the model"}
    return of_type.get(failure.type, of_stage[failure.stage])


class Ledger:
    """`failed` is told of each failure."""

    def __init__(self, journal: Journal, *, failed: Callable[[Failure], None], stop: threading.Event) -> None:
        self.tally = Tally()
        self._journal = journal
        self._failed = failed
        self._stop = stop
        self._access = threading.Condition()
        self._due: dict[str, SourceFile] = {}  # those in flight and their twins, by their paths
        self._twins: dict[str, list[SourceFile]] = {}  # of those in flight, by their content

    def paths(self, paths: Iterable[str]) -> Iterator[str]:
        """Those that have to be tagged; the others are dealt with."""
        for path in paths:
            try:
                source = SourceFile.of(path)
            except VideoError as error:
                with self._access:
                    if not self._stop.is_set():
                        self._write(failure_of(path, error, "open"), None)
                continue
            with self._access:
                while self._has_changed(source) and not self._stop.is_set():
                    self._access.wait(_GLANCE_SECONDS)  # for the record of what it was, which this one replaces
                if self._stop.is_set():
                    return
                wanted = self._is_wanted(source)
            if wanted:
                yield path

    def take(self, result: Result) -> None:
        """Writes the record of a video that was wanted, and those of its twins."""
        path = result.path if isinstance(result, Failure) else result.video.path
        with self._access:
            source = self._due.pop(path)
            twins = self._twins.pop(source.digest)
            self._write(result, source)
            for twin in twins:
                del self._due[twin.path]
                if isinstance(result, VideoResult):
                    self._journal.copy(twin)
                    self.tally.copied += 1
                else:
                    message = result.message.replace(printable(path), printable(twin.path), 1)
                    self._write(replace(result, path=twin.path, message=message), twin)
            self._access.notify()

    def close(self) -> None:
        """The thread with the paths writes nothing more when this returns."""
        self._stop.set()
        with self._access:
            pass

    def _is_wanted(self, source: SourceFile) -> bool:
        # What failed before is tried again: the disk, the decoder or its limits may be others now.
        if self._journal.done(source, retry=True):
            self.tally.done_before += 1
        elif source.path in self._due:
            pass  # it was named twice
        elif source.digest in self._twins:
            self._due[source.path] = source
            self._twins[source.digest].append(source)
        elif self._journal.copy(source):
            self.tally.copied += 1
        else:
            self._due[source.path] = source
            self._twins[source.digest] = []
            return True
        return False

    def _has_changed(self, source: SourceFile) -> bool:
        """Since it was taken, and is still on its way."""
        due = self._due.get(source.path)
        return due is not None and due.fingerprint != source.fingerprint

    def _write(self, result: Result, source: SourceFile | None) -> None:
        self._journal.write(result, source)
        self.tally.add(result)
        if isinstance(result, Failure):
            self._failed(result)


def settings_of(tagger: ClipTagger, request: TagRequest, *, logits: bool, precision: str) -> dict[str, str]:
    """What a record depends on besides its video. Devices, decoders and limits are left out: they may change in the
    middle of a library, and the record tells of them."""
    exits, windows = request.exits, request.windows
    names = "\n".join(tagger.labels.names).encode()
    return {
        "model": tagger.model.identity,
        "patch_size": str(tagger.model.patch_size),
        "views": str(tagger.spec.views),
        "labels": hashlib.sha256(names).hexdigest()[:16],
        "precision": precision,
        "decode": request.decode,
        "top_k": str(request.top_k),
        "min_score": str(tagger.min_score(request.min_score)),
        "logits": str(logits),
        "exits": _digest_of(exits),
        "max_gmacs": "none" if request.max_gmacs is None else str(request.max_gmacs),
        **({} if windows is None else {"window": str(windows.seconds), "stride": str(windows.stride)}),
    }


def _digest_of(exits: ExitRule | str | Path | None) -> str:
    if exits is None:
        return "none"
    content = Path(exits).read_bytes() if isinstance(exits, str | Path) else repr(exits).encode()
    return hashlib.sha256(content).hexdigest()[:16]
