"""A few short videos of two classes, and the sizes of a model that learns from them in a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from adafocus_cli.cli.app import run
from tests.clips import numbered_clip

SIZES = """
    --init scratch --glance mobilenet_v2:0.1@64 --focus resnet18:0.125@32 --frame-size 64 --frames 3 --policy-channels 8
    --policy-width 16 --classifier-width 16 --device cpu --threads 1 --workers 0 --batch-size 4
""".split()  # noqa: SIM905 - as it is typed
X3D = "--glance x3d_s:0.125@64 --focus x3d_s:0.125@32 --focus-frames 3".split()  # noqa: SIM905
"""For the recipe that has no other networks."""
WORLD = ["world:motion", "--clips-per-epoch", "8", "--val-clips", "4"]


def make_videos(top: Path) -> Path:
    """Four of each class."""
    for label, first in (("high", 2048), ("low", 0)):
        (top / label).mkdir(parents=True)
        for i in range(4):
            numbered_clip(top / label / f"{i}.mp4", frames=4 + i, first_number=first + 20 * i, size=(96, 80))
    return top


@pytest.fixture(scope="session")
def made_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def videos(made_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`videos/high` and `videos/low` with four videos each, in the current folder."""
    shutil.copytree(made_videos, tmp_path / "videos")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "videos"


@pytest.fixture
def train() -> Callable[..., int]:
    """Runs `adafocus train` with a tiny model; the exit status."""

    def call(*arguments: Any, then: Sequence[str] = ()) -> int:
        networks = X3D if "uni-x3d" in arguments else []
        return run(["train", *SIZES, *networks, *map(str, arguments), *then])

    return call
