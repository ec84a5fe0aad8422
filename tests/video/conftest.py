from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.kinds import BY_NAME

ClipMaker = Callable[[str], Path]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipMaker:
    """Makes the clip of a kind, once."""
    folder = tmp_path_factory.mktemp("kinds")
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = BY_NAME[name].write(folder)
        return made[name]

    return make
