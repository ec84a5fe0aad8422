"""A browser for the page, and a film to play in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import NO_BROWSER

SIZE, FPS, SECONDS = (160, 96), 10, 4


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import Error, sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"{NO_BROWSER}: {error.message.splitlines()[0]}")
        yield running
        running.close()


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey, lighter with every second: nothing in it has the colour of the box. Any Chromium plays it."""
    path = tmp_path_factory.mktemp("films") / "grey film.webm"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libvpx", rate=FPS, options={"deadline": "realtime", "g": "5"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(FPS * SECONDS):
            picture = np.full((SIZE[1], SIZE[0], 3), 60 + 40 * (number // FPS), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path
