"""A tagger with its own local engine, in a process of a cluster: asked for one video by several threads at a time.

What it is made of comes as bytes, so that machines need share no files but the videos. Knows nothing of Ray.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adafocus_cli import __version__
from adafocus_cli.engine.local import tag_as_they_come
from adafocus_cli.errors import AdaFocusError
from adafocus_cli.requests import ModelRequest, TagRequest
from adafocus_cli.schema import Failure, Result

if TYPE_CHECKING:
    from adafocus_cli.tagger import ClipTagger


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What makes a worker, but for the model's files: `model.source` is the name of one of them."""

    model: ModelRequest
    sha256: str
    request: TagRequest
    version: str = __version__


class Worker:
    """Has no tagger until it is started."""

    def __init__(self) -> None:
        self._paths: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._due: dict[str, Future[Result]] = {}
        self._broken: Exception | None = None

    def start(self, setup: Setup, files: Mapping[str, bytes]) -> None:
        """`files` are those of the model, by their names."""
        if setup.version != __version__:
            raise AdaFocusError(f"a machine of the cluster has adafocus {__version__}, this one {setup.version}")
        tagger = _tagger(setup, files)
        self._engine = threading.Thread(target=self._run, args=(tagger, setup), name="engine", daemon=True)
        self._engine.start()

    def tag(self, path: str) -> Result:
        """The result for one video; no path is asked for twice at a time."""
        self._due[path] = done = Future[Result]()
        self._paths.put(path)
        if self._broken:
            raise self._broken
        return done.result()

    def stop(self) -> None:
        """Returns when the engine has cleared up; nothing may be in flight."""
        self._paths.put(None)
        self._engine.join()

    def _run(self, tagger: ClipTagger, setup: Setup) -> None:
        try:
            paths = iter(self._paths.get, None)
            for result in tag_as_they_come(paths, tagger, setup.request):
                path = result.path if isinstance(result, Failure) else result.video.path
                self._due.pop(path).set_result(result)
        except Exception as error:
            self._broken = error
            for done in list(self._due.values()):
                done.set_exception(error)


def _tagger(setup: Setup, files: Mapping[str, bytes]) -> ClipTagger:
    from adafocus_cli.tagger import ClipTagger

    with tempfile.TemporaryDirectory(prefix="adafocus-", ignore_cleanup_errors=True) as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        tagger = ClipTagger.of(replace(setup.model, source=Path(folder, setup.model.name_or_file)))
        if tagger.model.sha256 != setup.sha256:
            raise AdaFocusError("the model that came to a machine of the cluster is not the one that was sent")
    return tagger
