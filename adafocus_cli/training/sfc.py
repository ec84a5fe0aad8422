"""Where a run of recipe `sfc` begins: a new module in a network that stays as it is, and that network's file.

What the run writes is small, and is used beside that file.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from adafocus_cli import checkpoint
from adafocus_cli import labels as label_lists
from adafocus_cli.checkpoint import Checkpoint
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import sha256_of
from adafocus_cli.library.store import find_model
from adafocus_cli.models import build, dense
from adafocus_cli.models.sfc import LONG, SFC, around
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.run_folder import OWN_FILES
from adafocus_cli.training.settings import IMAGENET, SCRATCH, Settings, mix

# Options that say how a network is made.
_OF_NETWORKS = (
    *("glance", "focus", "glance_weights", "focus_weights"),
    *("focus_frames", "frame_size", "policy_channels", "policy_width", "classifier_width", "dropout"),
)


def begin(settings: Settings, labels: tuple[str, ...]) -> SFC:
    """A new module in the network of the file after --init, which must know the very classes."""
    for name in _OF_NETWORKS:
        if getattr(settings, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is not for recipe sfc, whose network stays as it is; leave it out")
    networks = ", ".join(family.name for family in dense.FAMILIES)
    if settings.init in (SCRATCH, IMAGENET):
        raise UsageError(f"recipe sfc needs a network over whole clips; give one after --init: of {networks}")
    path = find_model(settings.init)
    given = checkpoint.load(path)
    if given.spec.family not in {family.name for family in dense.FAMILIES}:
        raise UsageError(
            f"--init {settings.init} is a model of {given.spec.family}; recipe sfc takes a network over whole clips "
            f"({networks})"
        )
    known = _names_of(given)
    if given.spec.classes != len(labels) or known not in (None, labels):
        differ = " with other names or in another order" if given.spec.classes == len(labels) else ""
        raise UsageError(
            f"--init {settings.init} answers {given.spec.classes} classes and stays as it is, but {settings.data} has "
            f"{len(labels)}{differ}; name all of its classes, in its order, with --labels"
        )
    spec = around(
        given.spec,
        insertion=settings.insertion or str(SFC.published.insertion),
        compression=settings.compression or SFC.published.compression,
        frames=settings.frames or LONG,
    )
    torch.manual_seed(mix("weights", settings.seed))
    beside = f"network-{path.name}" if path.name in OWN_FILES else path.name
    model = build(replace(spec, backbone=beside, backbone_sha256=sha256_of(path)))
    assert isinstance(model, SFC), "the recipe's family"
    if model.compress is None:
        raise UsageError(f"--compression {spec.compression:g} keeps all of a clip, so there is nothing to learn")
    model.load_state_dict(dict(given.tensors), strict=False)
    return model


def _names_of(given: Checkpoint) -> tuple[str, ...] | None:
    if given.about is not None:
        return given.about.labels
    dataset = given.spec.dataset
    return label_lists.packaged(dataset).names if dataset in label_lists.packaged_names() else None


def lay_beside(settings: Settings, spec: ModelSpec, folder: Path) -> None:
    """The network's file, where the small one will be; as a second name of it, where that is possible."""
    backbone, target = find_model(settings.init), folder / str(spec.backbone)
    if target.exists():
        if sha256_of(target) != spec.backbone_sha256:
            raise UsageError(f"{target} is there already and is not {backbone}; give another folder after -o")
        return
    try:
        os.link(backbone, target)
    except OSError:
        try:
            shutil.copyfile(backbone, target)
        except OSError as error:
            raise AdaFocusError(f"cannot copy {backbone} to {folder}: {error.strerror}; make room") from error
