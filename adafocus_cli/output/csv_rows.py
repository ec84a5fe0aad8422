"""Results as CSV: one row per video, and, in a file of its own, one row per patch.

Knows nothing of terminals. Text that a spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from adafocus_cli.output.base import View, Writer
from adafocus_cli.output.escape import cell
from adafocus_cli.output.sink import Sink
from adafocus_cli.schema import Result, VideoResult

Cell = str | int | float | None

VIDEO_COLUMNS = (
    *("path", "status", "label", "score", "labels"),
    *("gmacs", "full_frame_gmacs", "exit_step", "exit_of"),
    *("width", "height", "fps", "frames", "duration", "codec", "decoder"),
    *("frames_decoded", "frames_replaced", "packets_damaged", "patches", "seconds", "model", "patch_size"),
    *("error_stage", "error_type", "error_message"),
)
PATCH_COLUMNS = ("path", "step", "frame", "time", "left", "top", "right", "bottom")


class _RowWriter(Writer):
    columns: Sequence[str]

    def __init__(self, sink: Sink, view: View) -> None:
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
