from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import shared_folder
from tests.video.kinds import BY_NAME

ClipMaker = Callable[[str], Path]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipMaker:
    """Makes the clip of a kind, once for all processes that the tests run in."""
    folder, begun = shared_folder(tmp_path_factory, "kinds"), tmp_path_factory.mktemp("kinds")

    def make(name: str) -> Path:
        path = folder / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                BY_NAME[name].write(begun).replace(path)
        return path

    return make
