"""An engine that tags nothing: `python -m tests.cli.fake_engine classify …` is `adafocus` with it.

A path with "broken" in it fails, one with "slow" takes long, one with "crash" is a mistake of ours, one with "film" is
tagged in windows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from adafocus_cli.requests import TagRequest
from adafocus_cli.schema import Result
from tests.output.made_up import failed, in_windows, tagged


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
        try:
            for path in paths:
                self.paths.append(path)
                if "slow" in path:
                    time.sleep(60)
                if "crash" in path:
                    raise ZeroDivisionError("a mistake")
                yield (
                    failed(path, f"{path}: the file is cut off; download it again")
                    if "broken" in path
                    else (in_windows if "film" in path else tagged)(path)
                )
        finally:
            self.closed = True
            if self.loud:
                print("engine closed", file=sys.stderr)

    def as_module(self) -> ModuleType:
        module = ModuleType("adafocus_cli.engine.local")
        module.tag_files = self.tag_files  # type: ignore[attr-defined]
        return module


if __name__ == "__main__":
    sys.modules["adafocus_cli.engine.local"] = FakeEngine(loud=True).as_module()
    from adafocus_cli.__main__ import main

    main()
