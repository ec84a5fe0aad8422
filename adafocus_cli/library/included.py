"""The models that come with adafocus: their names, and where their files are.

Knows nothing of what is in the files; the packaged catalogue says which ones they are.
"""

from __future__ import annotations

from pathlib import Path

from adafocus_cli.errors import UsageError

NAMES = ("motion",)

_PACKAGE = Path(__file__).parents[1]
# An installed package has them inside, a copy of the repository beside it.
_FOLDERS = (_PACKAGE / "weights", _PACKAGE.parent / "weights")


def path_of(name: str) -> Path:
    """The file of a model of that name, whether it is there or not."""
    places = [folder / f"{name}.safetensors" for folder in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def check_replaceable(name: str) -> None:
    if name in NAMES:
        raise UsageError(f"{name} comes with adafocus, and can neither be replaced nor removed; choose another name")
