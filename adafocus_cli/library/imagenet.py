"""Public ImageNet weights of the backbones: torchvision's, downloaded once, and those that come as pip packages.

Knows nothing of what is in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from adafocus_cli.library import download
from adafocus_cli.library.store import ModelStore
from adafocus_cli.weights_packages import PACKAGES, installed

# Of the kind that the papers began with; a name ends with the beginning of its SHA-256.
_TORCHVISION = "https://download.pytorch.org/models/"
_FILES: Mapping[str, str] = {
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
}


ARCHS = (*_FILES, *PACKAGES)
"""The networks that there are weights of, all of width 1."""


def path_of(arch: str, say: Callable[[str], None]) -> Path:
    """The file with a network's weights; `say` is told of a download."""
    return installed(arch) if arch in PACKAGES else _downloaded(_FILES[arch], say)


def _downloaded(file: str, say: Callable[[str], None]) -> Path:
    """torchvision's file, downloaded once."""
    store = ModelStore()
    path = store.home / "imagenet" / file
    if not path.is_file():
        with store.writable():
            path.parent.mkdir(parents=True, exist_ok=True)
        say(f"downloading {_TORCHVISION}{file}")
        download.fetch(_TORCHVISION + file, path, otherwise="give --init scratch, or a file with --init FILE")
        if not sha256_of(path).startswith(path.stem.rpartition("-")[2]):
            path.unlink()
            raise ModelError(f"{_TORCHVISION}{file} does not have the expected SHA-256; try again")
    return path
