"""The model that is measured: from its file, or with made-up weights of the right shapes, which decide the speed.

The one place that says how a model is run: `Variant`. Knows nothing of what is timed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.benchmark.interleaved import Entrant, whole
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import Entry
from adafocus_cli.library.store import Store, find_model
from adafocus_cli.loop import Clip
from adafocus_cli.models import build, default_spec
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec
from adafocus_cli.tagger import Tagger, clip_of

_ANY_COUNT = 1 << 12  # frames of a video that is long enough for every plan


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to run a model."""

    device: str
    precision: str
    batch_size: int | None = None
    runtime: str = "auto"

    def load(self, subject: Subject) -> Tagger:
        return Tagger.load(
            subject.path,
            patch_size=subject.patch_size,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            runtime=self.runtime,
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model's file, and whether its weights mean anything."""

    name: str
    path: Path
    patch_size: int | None = None
    made_up: bool = False

    def family(self) -> Family:
        """The model itself, as it is written down, for whoever runs it in a way of his own."""
        return checkpoint.load(self.path, patch_size=self.patch_size).build()


def find(source: str, patch_size: int | None, folder: Path) -> Subject:
    """A file or a model by name; one of the catalogue that is not installed is made up, in the folder."""
    entry = catalogue.packaged().find(source)
    if entry is None or Store().has(source) or Path(source).is_file():
        return Subject(name=source, path=find_model(source), patch_size=patch_size)
    return made_up(spec_of(entry, patch_size), source, folder)


def spec_of(entry: Entry, patch_size: int | None) -> ModelSpec:
    """What a published file would tell of itself."""
    labels = entry.label_set()
    spec = default_spec(entry.family, patch_size=patch_size or entry.patch_size)
    return ModelSpec.from_dict(asdict(spec) | entry.changes | ({"classes": len(labels)} if labels else {}))


def made_up(spec: ModelSpec, name: str, folder: Path) -> Subject:
    """A model of these sizes, with weights that are always the same."""
    path = folder / f"{name}-{spec.patch_size}-{spec.glance_frames}-{spec.focus_frames}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        about = weights_file.About(spec=replace(spec, dataset=None), name=name)
        with path.open("wb") as file:
            weights_file.write(file, about, build(spec).state_dict())
    return Subject(name=name, path=path, made_up=True)


def name_of(tagger: Tagger) -> str:
    return f"adafocus ({tagger.runtime.name}), {tagger.runtime.precision}"


def as_entrant(tagger: Tagger) -> Entrant:
    """As many clips as it takes at a time."""
    clips = [noise(tagger.family)] * tagger.runtime.lanes
    return Entrant(name_of(tagger), whole(lambda: tagger.tag(clips)), len(clips))


def noise(family: Family) -> Clip:
    """A clip that is all there; to the speed it does not matter what is in it."""
    plan = family.plan(_ANY_COUNT)
    shape = (len(plan.frames), *family.spec.framing.shape)
    return clip_of(np.random.default_rng(0).integers(0, 256, shape, np.uint8), plan)
