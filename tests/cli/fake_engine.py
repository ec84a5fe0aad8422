"""An engine that tags nothing: `python -m tests.cli.fake_engine classify …` is `adafocus` with it.

It reads paths ahead and closes as the real one, which it shares that with; only children and models are made up.

A path with "broken" in it fails, one with "slow" takes long, one with "crash" is a mistake of ours, one with "film" is
tagged in windows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from adafocus_cli.engine import local
from adafocus_cli.engine.decoding import Decoding, Opened, VideoInFlight
from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Result
from adafocus_cli.video.process import VideoProcess
from tests.output.made_up import failed, in_windows, tagged


class _MadeUp(Decoding):
    """Reads paths, hands them to threads and closes as it does with children, which it has none of."""

    def __init__(self, request: TagRequest, engine: FakeEngine) -> None:
        super().__init__(request)
        self._engine = engine

    def __enter__(self) -> _MadeUp:
        return self

    def _begin(self, video: VideoInFlight) -> bool:
        self._engine.paths.append(video.path)
        return super()._begin(video)

    def _open(self, video: VideoInFlight, process: VideoProcess) -> None:
        if "slow" in video.path:
            self._closing.wait(60)
        if "crash" in video.path:
            return self._give(Opened(video, ZeroDivisionError("a mistake")))
        made = in_windows if "film" in video.path else tagged
        result = (
            failed(video.path, f"{video.path}: the file is cut off; download it again")
            if "broken" in video.path
            else made(video.path)
        )
        return self._give(Opened(video, result))  # type: ignore[arg-type] # in the place of a clip

    def close(self) -> None:
        super().close()
        self._engine.closed = True
        if self._engine.loud:
            print("engine closed", file=sys.stderr)


@dataclass
class FakeEngine:
    """What it was asked, for tests to look at."""

    request: TagRequest | None = None
    load: Callable[[], Any] | None = None
    paths: list[str] = field(default_factory=list)
    closed: bool = False
    loud: bool = False

    def tag_files(
        self, paths: Iterable[str], load: Callable[[], Any], request: TagRequest, *, watch: Any = None
    ) -> Iterator[Result]:
        self.request, self.load = request, load
        with _MadeUp(request, self) as decoding:
            decoding.start(paths)
            yield from local._in_order(self._results(decoding))

    def _results(self, decoding: Decoding) -> Iterator[tuple[int, Result]]:
        while opened := decoding.next_opened(wait=True):
            if isinstance(opened.clip, BaseException):
                raise opened.clip
            yield opened.video.index, opened.clip  # type: ignore[misc]

    def as_module(self) -> ModuleType:
        module = ModuleType("adafocus_cli.engine.local")
        module.tag_files = self.tag_files  # type: ignore[attr-defined]
        return module


if __name__ == "__main__":
    sys.modules["adafocus_cli.engine.local"] = FakeEngine(loud=True).as_module()
    from adafocus_cli.__main__ import main

    main()
