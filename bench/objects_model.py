"""Writes the file of the model `objects`: `python bench/objects_model.py weights/objects.safetensors`.

It holds no numbers of networks, which come as pip packages; only what the model is and which packages it takes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from adafocus_cli import weights_file
from adafocus_cli.files import sha256_of
from adafocus_cli.models.evidence import EvidenceGuided
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.weights_packages import PACKAGES

# Below this score there is no label: so that of blurred backgrounds at most a fifth gets one.
MIN_SCORE = 0.25
WINDOW_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    with output.open("wb") as file:
        weights_file.write(file, weights_file.About(spec=spec(), name="objects", version="0.1.0"), {})
    print(f"{output}: sha256 {sha256_of(output)}")


def spec() -> ModelSpec:
    usual = EvidenceGuided.published
    glance, focus = (_from_package(network) for network in (usual.glance, usual.focus))
    return replace(usual, glance=glance, focus=focus, min_score=MIN_SCORE, window_seconds=WINDOW_SECONDS)


def _from_package(network: Network) -> Network:
    return replace(network, package_sha256=PACKAGES[network.arch].sha256)


if __name__ == "__main__":
    main()
