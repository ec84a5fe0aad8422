"""How results leave: as JSON, JSON lines or CSV, into a file or standard output, always in whole pieces.

A writer takes results one at a time, and each is out before the next. Text that a spreadsheet would take for a formula
gets an apostrophe in front. The table for people is in table.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from adafocus_cli.errors import AdaFocusError, OutputClosedError, UsageError
from adafocus_cli.output.texts import cell
from adafocus_cli.schema import Result, VideoResult


class Sink:
    """Writes pieces of text, each in one go, so that a reader never sees half a record.

    A file is emptied by the first piece, not by opening it: a run that fails before it has anything to say keeps
    what an earlier one wrote. If a piece does not fit on the disk, the file is as it was before that piece.
    """

    def __init__(self, stream: BinaryIO, *, name: str, can_rewind: bool = False, is_terminal: bool = False) -> None:
        self.name = name
        self.is_terminal = is_terminal
        self.can_rewind = can_rewind
        self._stream = stream
        self._fresh = True
        self._gone = False
        self._end = 0
        self._ending = b""

    @classmethod
    def stdout(cls) -> Sink:
        return cls(sys.stdout.buffer, name="standard output", is_terminal=sys.stdout.isatty())

    @classmethod
    def file(cls, path: Path) -> Sink:
        try:
            regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise UsageError(
                f"cannot write to {path}: {error.strerror}; give a file in a folder that exists, or - for "
                "standard output"
            ) from error
        return cls(io.FileIO(descriptor, "w"), name=str(path), can_rewind=regular)

    @property
    def is_untouched_file(self) -> bool:
        return self.can_rewind and self._fresh

    def write(self, text: str | bytes, *, ending: str = "") -> None:
        """Writes all of it at once. `ending` completes a file that can be rewound; the next piece replaces it."""
        if self._gone:
            return
        content = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
        left = "what was written before it is complete"
        try:
            if not self.can_rewind:
                left = "the output may end in half a record"
                _write_all(self._stream, content)
                return
            if self._fresh:
                left = "the file is as it was"
                self._make_way(content + ending.encode())
                left = "what was written before it is complete"
            self._replace_ending(content, ending.encode())
        except BrokenPipeError as error:
            self._gone = True
            raise OutputClosedError from error
        except OSError as error:
            self._gone = True
            if self.can_rewind and not self._restore():
                left = "the file may end in half a record"
            raise AdaFocusError(f"cannot write to {self.name}: {error.strerror}; {left}") from error

    def _make_way(self, content: bytes) -> None:
        """Empties the file, once it is known that there is room for the first piece: it fits behind what is there."""
        if size := os.fstat(self._stream.fileno()).st_size:
            self._end = size
            self._replace_ending(content, b"")
            self._end = 0
        self._stream.truncate(0)
        self._fresh = False

    def _replace_ending(self, content: bytes, ending: bytes) -> None:
        self._stream.seek(self._end)
        _write_all(self._stream, content + ending)
        self._end += len(content)
        self._ending = ending

    def _restore(self) -> bool:
        """The file as it was before the piece that failed; whether that could be done."""
        try:
            self._stream.seek(self._end)
            _write_all(self._stream, self._ending)
            self._stream.truncate(self._end + len(self._ending))
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._stream is not getattr(sys.stdout, "buffer", None):
            with suppress(OSError):
                self._stream.close()

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take a part of what it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


@dataclass(frozen=True, kw_only=True)
class WriterOptions:
    """What a reader wants to see of each result."""

    logits: bool = False
    min_score: float | None = None
    steps: bool = False


class Writer(ABC):
    """Writes results to a sink. Closing it completes the output, also of a run that was cut short."""

    def __init__(self, sink: Sink, view: WriterOptions) -> None:
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


# Inside JSON these may stand as they are, but terminals obey them and line readers break at them.
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)}
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which strict readers refuse
_ARRAY_END = "\n]\n"


def dumps(record: Any, *, indent: int | None = None) -> str:
    """JSON that any reader takes: no NaN or infinity (they become null), no raw control characters, no half ones."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        text = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False, indent=indent)
    return _SURROGATE.sub(_spelled_out, text.translate(_ESCAPED))


def _spelled_out(surrogate: re.Match[str]) -> str:
    return f"\\\\u{ord(surrogate[0]):04x}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLinesWriter(Writer):
    """One object a line."""

    def write(self, result: Result) -> None:
        self.sink.write(dumps(result.to_dict(logits=self.view.logits)) + "\n")


class JsonWriter(Writer):
    """One array. A file is a valid array after every video; a pipe, from the moment the writer is closed."""

    _before = "[\n"

    def write(self, result: Result) -> None:
        self.sink.write(f"{self._before}{dumps(result.to_dict(logits=self.view.logits))}", ending=_ARRAY_END)
        self._before = ",\n"

    def close(self) -> None:
        if self._before == "[\n":
            self.sink.write("[]\n")
        elif not self.sink.can_rewind:
            self.sink.write(_ARRAY_END)


Cell = str | int | float | None

VIDEO_COLUMNS = (
    *("path", "status", "label", "score", "labels"),
    *("gmacs", "full_frame_gmacs", "exit_step", "exit_of"),
    *("width", "height", "fps", "frames", "duration", "codec", "decoder"),
    *("frames_decoded", "frames_replaced", "packets_damaged", "patches", "seconds", "model", "patch_size"),
    *("error_stage", "error_type", "error_message"),
)
PATCH_COLUMNS = ("path", "step", "frame", "time", "left", "top", "right", "bottom")
SEGMENT_COLUMNS = ("path", "start", "end", "label", "index", "score")


class _RowWriter(Writer):
    columns: Sequence[str]

    def __init__(self, sink: Sink, view: WriterOptions) -> None:
        super().__init__(sink, view)
        self._header_due = True

    def write_rows(self, rows: Iterable[Sequence[Cell]]) -> None:
        """All rows of one video in one piece."""
        lines = [line_of(row) for row in rows]
        if self._header_due:
            lines.insert(0, line_of(self.columns))
            self._header_due = False
        if lines:
            self.sink.write("".join(lines))

    def close(self) -> None:
        self.write_rows([])


class CsvWriter(_RowWriter):
    columns = VIDEO_COLUMNS

    def write(self, result: Result) -> None:
        values = row_of(result.to_dict())
        self.write_rows([[values.get(column) for column in self.columns]])


class TrajectoryWriter(_RowWriter):
    columns = PATCH_COLUMNS

    def write(self, result: Result) -> None:
        if isinstance(result, VideoResult):
            path = result.video.path
            self.write_rows(
                [path, p.step, p.frame, round(p.time, 3), *(round(v, 2) for v in p.box)] for p in result.trajectory
            )


class SegmentWriter(_RowWriter):
    columns = SEGMENT_COLUMNS

    def write(self, result: Result) -> None:
        self.write_rows(segment_rows(result.to_dict()))


def segment_rows(record: dict[str, Any]) -> Iterator[Sequence[Cell]]:
    """From when to when which label holds, for a video in windows; by the columns of `SEGMENT_COLUMNS`."""
    for segment in record.get("segments") or ():
        yield [record["video"]["path"], *(segment[name] for name in SEGMENT_COLUMNS[1:])]


def line_of(row: Sequence[Cell]) -> str:
    text = io.StringIO()
    # Only with its usual line ending does `csv` quote a name with a lone carriage return.
    csv.writer(text).writerow([cell(value) if isinstance(value, str) else value for value in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def row_of(record: dict[str, Any]) -> dict[str, Cell]:
    """The flat view of a record, by column."""
    row = {"path": record["video"]["path"], "status": record["status"]}
    if record["status"] == "error":
        return row | {f"error_{name}": record["error"][name] for name in ("stage", "type", "message")}
    video, model, labels = record["video"], record["model"], record["labels"]
    best = labels[0] if labels else {"label": None, "score": None}
    return {
        **row,
        **{name: video[name] for name in VIDEO_COLUMNS if name in video},
        "label": best["label"],
        "score": best["score"],
        "labels": "|".join(f"{_listed(tag['label'])}:{_number(tag['score'])}" for tag in labels),
        "gmacs": record["cost"]["gmacs"],
        "full_frame_gmacs": record["cost"]["full_frame_gmacs"],
        "exit_step": record["exit"]["step"],
        "exit_of": record["exit"]["of"],
        "frames_decoded": record["frames_decoded"],
        "patches": len(record["trajectory"]),
        "seconds": round(sum(record["runtime"]["seconds"].values()), 4),
        "model": model["name"],
        "patch_size": model["patch_size"],
    }


def _listed(label: str) -> str:
    """A name inside a list that `|` separates."""
    return label.replace("|", "\\|")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
