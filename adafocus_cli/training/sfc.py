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
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import sha256_of
from adafocus_cli.library.store import find_model
from adafocus_cli.models import build, dense
from adafocus_cli.models.sfc import LONG, SFC, around
from adafocus_cli.training.settings import Settings, mix


def begin(settings: Settings, labels: tuple[str, ...]) -> SFC:
    """A new module in the network of the file after --init, which must know the very classes."""
    path = backbone_of(settings)
    given = checkpoint.load(path)
    if given.spec.family not in {family.name for family in dense.FAMILIES}:
        raise UsageError(
            f"--init {settings.init} is a model of {given.spec.family}; recipe sfc takes a network over whole clips "
            f"({', '.join(family.name for family in dense.FAMILIES)})"
        )
    known = given.about.labels if given.about else None
    if given.spec.classes != len(labels) or known not in (None, labels):
        raise UsageError(
            f"--init {settings.init} answers {given.spec.classes} classes and stays as it is, but {settings.data} has "
            f"{len(labels)}{' of other names' if given.spec.classes == len(labels) else ''}; give videos of its classes"
        )
    spec = around(
        given.spec,
        insertion=settings.insertion or str(SFC.published.insertion),
        compression=settings.compression or SFC.published.compression,
        frames=settings.frames or LONG,
    )
    torch.manual_seed(mix("weights", settings.seed))
    model = build(replace(spec, backbone=path.name, backbone_sha256=sha256_of(path)))
    assert isinstance(model, SFC), "the recipe's family"
    if model.compress is None:
        raise UsageError(f"--compression {spec.compression:g} keeps all of a clip, so there is nothing to learn")
    model.load_state_dict(dict(given.tensors), strict=False)
    return model


def backbone_of(settings: Settings) -> Path:
    return find_model(settings.init)


def lay_beside(backbone: Path, folder: Path) -> None:
    """The network's file, where the small one will be; as a second name of it, where that is possible."""
    target = folder / backbone.name
    if target.exists():
        return
    try:
        os.link(backbone, target)
    except OSError:
        try:
            shutil.copyfile(backbone, target)
        except OSError as error:
            raise AdaFocusError(f"cannot copy {backbone} to {folder}: {error.strerror}; make room") from error
