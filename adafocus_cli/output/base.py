"""What a writer is: results go in one at a time and are out before the next.

Knows nothing of formats; they are in the modules beside this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType

from adafocus_cli.output.sink import Sink
from adafocus_cli.schema import Result


@dataclass(frozen=True, kw_only=True)
class View:
    """What a reader wants to see of each result."""

    logits: bool = False
    min_score: float = 0.0
    steps: bool = False


class Writer(ABC):
    """Writes results to a sink. Closing it completes the output, also of a run that was cut short."""

    def __init__(self, sink: Sink, view: View) -> None:
        self.sink = sink
        self.view = view

    @abstractmethod
    def write(self, result: Result) -> None: ...

    def close(self) -> None:  # noqa: B027 — most formats need no ending
        """Writes what the format needs at its end."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that failed before its first result leaves the file of an earlier one as it was.
        if not (error and isinstance(error, Exception) and self.sink.is_untouched_file):
            self.close()
