"""The parent's side of rendering: a child process does everything with pixels. Output appears when it is complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import replacing
from adafocus_cli.schema import Record
from adafocus_cli.video.limits import Limits, check_file
from adafocus_cli.video.process import VideoProcess

KINDS = {".mp4": "mp4", ".m4v": "mp4", ".webm": "webm", ".gif": "gif"}

Progress = Callable[[int, int], None]


class OutputError(AdaFocusError):
    """The output of a render cannot be written."""


def kind_of(output: Path) -> str:
    """The format of an output file, from its name."""
    kind = KINDS.get(output.suffix.lower())
    if kind is None:
        raise UsageError(f"{output} does not have a known format; give a name that ends in .mp4, .webm or .gif")
    return kind


def render(
    path: str,
    record: Record,
    *,
    output: Path | None = None,
    folder: Path | None = None,
    limits: Limits | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Draws a record into its video: as a video, as pictures of its looks in a folder, or both."""
    check_file(path, path)
    if record.get("status") != "ok":
        reason = record.get("error", {}).get("message", "it has no result")
        raise UsageError(f"the record of {path} is a failure: {reason}")
    with ExitStack() as stack:
        film, target = None, folder
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            target = output
            if output is not None:
                film = stack.enter_context(replacing(output)).name
        except OSError as error:
            raise UsageError(f"cannot write to {target}: {error.strerror}; give another place") from None
        job = {
            "record": record,
            "film": film and _absolute(film),
            "kind": output and kind_of(output),
            "folder": folder and _absolute(folder),
            "output": str(output),
        }
        renderer = _Renderer(limits=limits)
        stack.callback(renderer.close)
        renderer.run(path, job, progress)


class _Renderer(VideoProcess):
    _command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "adafocus_cli.render.server")

    def run(self, path: str, job: dict[str, Any], progress: Progress) -> None:
        state, _ = self._ask("open", path, "pyav", {"job": job})
        while not state["over"]:
            state, _ = self._ask("go_on", path, "pyav", {})
            progress(state["done"], state["total"])

    def _raise_reported(self, header: dict[str, Any], do: str) -> None:
        own = {kind.__name__: kind for kind in (OutputError, UsageError)}.get(str(header.get("type")))
        if own is not None:
            raise own(str(header["error"]))
        super()._raise_reported(header, do)


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (Path.absolute keeps `..`)
