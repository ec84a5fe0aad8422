"""Models of every family that are small enough to run in milliseconds, with random weights that are always the same."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cache

import torch

from adafocus_cli.api import Tagger
from adafocus_cli.labels import LabelSet
from adafocus_cli.models import FAMILIES, build, default_spec
from adafocus_cli.models.base import Family
from adafocus_cli.runtime.pytorch import TorchRuntime
from adafocus_cli.schema import ModelInfo
from adafocus_cli.spec import ModelSpec, Network

CLASSES = 7
LOOKING = tuple(name for name, family in FAMILIES.items() if family.cuts_patches)
"""The families that cut patches out of frames."""
IN_FRAME = tuple(name for name in LOOKING if not FAMILIES[name].looks_at_source)
"""Those that cut them out of the frames that were glanced at."""

OF_TORCHVISION = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")


def tiny_spec(family: str) -> ModelSpec:
    spec = replace(default_spec(family), classes=CLASSES)
    if family not in LOOKING:
        spec = replace(spec, short_side=None)
        if spec.glance.arch in OF_TORCHVISION:  # which has one width only
            network = Network(spec.glance.arch, 32)
            return replace(spec, frame_size=32, glance_frames=8, focus_frames=8, glance=network, focus=network)
        network = Network(spec.glance.arch, 64, width=0.125)
        return replace(spec, frame_size=64, glance=network, focus=network)
    return replace(
        spec,
        frame_size=64,
        frame_area=None if spec.frame_area is None else 160 * 96,
        glance=Network("x3d_s", 64, width=0.125) if "x3d" in family else Network("mobilenet_v2", 64, width=0.1),
        focus=Network("x3d_s", 32, width=0.125) if "x3d" in family else Network("resnet18", 32, width=0.125),
        smallest_patch=32,
        policy_channels=8,
        policy_width=16,
        classifier_width=32,
    )


def tiny_tagger(family: str, *, lanes: int = 1, skips: bool = False) -> Tagger:
    """Its model is that of all others of its kind, for it takes long to make: change it by `monkeypatch` only."""
    runtime = copy(_made_runtime(family, skips))
    runtime.lanes = lanes
    info = ModelInfo(name=f"tiny {family}", family=family, dataset=None, sha256="0" * 64, patch_size=32)
    torch.manual_seed(0)  # so that what a test draws next does not depend on which came before
    return Tagger(runtime, LabelSet(tuple(f"class {i}" for i in range(CLASSES)), "numbers"), lambda: info)


@cache
def _made_runtime(family: str, skips: bool) -> TorchRuntime:
    return TorchRuntime(tiny_model(family, skips=skips), device="cpu")


def tiny_model(family: str, *, views: int = 1, skips: bool = False) -> Family:
    """Weights spread so widely that different clips get different answers."""
    torch.manual_seed(0)
    model = build(replace(tiny_spec(family), views=views, skips=skips))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.fill_(0.25)
        elif name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
    return model
