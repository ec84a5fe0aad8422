"""Small models in files, and labelled clips in folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adafocus_cli.weights_file import About, write
from tests.cli.conftest import adafocus  # noqa: F401 (a fixture)
from tests.clips import numbered_clip
from tests.tiny import tiny_model

NAMES = ("Archery", "Belly dancing", "Canoeing", "Disc dog", "Elliptical trainer", "Futsal", "Grooming a horse")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models as small as these are quicker so: threads would wait for one another, on a busy machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that name no runtime: OpenVINO would compile the same small models for each of them."""
    monkeypatch.setenv("ADAFOCUS_RUNTIME", "torch")


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a tiny model of a family, with names for its classes."""
    folder = tmp_path_factory.mktemp("weights")

    def path_of(family: str) -> Path:
        path = folder / f"{family}.safetensors"
        if not path.exists():
            model = tiny_model(family)
            with path.open("wb") as file:
                write(file, About(spec=model.spec, name=f"tiny-{family}", labels=NAMES), model.state_dict())
        return path

    return path_of


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes: of two, three and three clips."""
    top = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(["archery", "disc_dog", "Futsal"] * 2 + ["disc_dog", "Futsal"]):
        (top / name).mkdir(exist_ok=True)
        numbered_clip(top / name / f"{number}.mp4", frames=18 + number, first_number=300 * number)
    return top
