"""Results as CSV: one row per video, and, in a file of its own, one row per patch.

Knows nothing of terminals. Text that a spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from adafocus_cli.output.base import View, Writer
from adafocus_cli.output.escape import cell
from adafocus_cli.output.sink import Sink
from adafocus_cli.schema import Failure, Result, VideoResult

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
        lines = [_line(row) for row in rows]
        if self._header_due:
            lines.insert(0, _line(self.columns))
            self._header_due = False
        if lines:
            self.sink.write("".join(lines))

    def close(self) -> None:
        self.write_rows([])


class CsvWriter(_RowWriter):
    columns = VIDEO_COLUMNS

    def write(self, result: Result) -> None:
        values = _failed(result) if isinstance(result, Failure) else _tagged(result)
        self.write_rows([[values.get(column) for column in self.columns]])


class TrajectoryWriter(_RowWriter):
    columns = PATCH_COLUMNS

    def write(self, result: Result) -> None:
        if isinstance(result, VideoResult):
            path = result.video.path
            self.write_rows(
                [path, p.step, p.frame, round(p.time, 3), *(round(v, 2) for v in p.box)] for p in result.trajectory
            )


def _line(row: Sequence[Cell]) -> str:
    text = io.StringIO()
    # Only with its usual line ending does `csv` quote a name with a lone carriage return.
    csv.writer(text).writerow([cell(value) if isinstance(value, str) else value for value in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _tagged(result: VideoResult) -> dict[str, Cell]:
    video, best = result.video, next(iter(result.labels), None)
    cost = result.cost.to_dict()
    return {
        "path": video.path,
        "status": result.status,
        "label": best.label if best else None,
        "score": round(best.score, 6) if best else None,
        "labels": "|".join(f"{_listed(tag.label)}:{tag.score:.6g}" for tag in result.labels),
        "gmacs": cost["gmacs"],
        "full_frame_gmacs": cost["full_frame_gmacs"],
        "exit_step": result.exit.step,
        "exit_of": result.exit.of,
        "width": video.width,
        "height": video.height,
        "fps": None if video.fps is None else round(video.fps, 4),
        "frames": video.frames,
        "duration": None if video.duration is None else round(video.duration, 4),
        "codec": video.codec,
        "decoder": video.decoder,
        "frames_decoded": result.frames_decoded,
        "frames_replaced": video.frames_replaced,
        "packets_damaged": video.packets_damaged,
        "patches": len(result.trajectory),
        "seconds": round(sum(result.runtime.seconds.values()), 4),
        "model": result.model.name,
        "patch_size": result.model.patch_size,
    }


def _listed(label: str) -> str:
    """A name inside a list that `|` separates."""
    return label.replace("|", "\\|")


def _failed(failure: Failure) -> dict[str, Cell]:
    return {
        "path": failure.path,
        "status": failure.status,
        "error_stage": failure.stage,
        "error_type": failure.type,
        "error_message": failure.message,
    }
