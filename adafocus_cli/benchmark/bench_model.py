"""The model that is measured, from its file or with random weights of the right shapes, and the ways to run it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.benchmark.interleaved import TimedTask, in_one_part
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import CatalogueEntry
from adafocus_cli.library.store import ModelStore, find_model
from adafocus_cli.loop import Clip
from adafocus_cli.models import build, default_spec
from adafocus_cli.models.base import Family
from adafocus_cli.requests import ModelRequest
from adafocus_cli.spec import ModelSpec
from adafocus_cli.tagger import ClipTagger, clip_of, source_clip

_ANY_COUNT = 1 << 12  # frames of a video that is long enough for every plan


@dataclass(frozen=True, kw_only=True)
class BenchModel:
    """The file of a model, and whether its weights are random."""

    name: str
    path: Path
    patch_size: int | None = None
    random_weights: bool = False

    def family(self) -> Family:
        """The model without any runtime."""
        return checkpoint.load(self.path, patch_size=self.patch_size).build()

    def load(self, variant: ModelRequest) -> ClipTagger:
        """The model, run as a variant asks for."""
        return ClipTagger.of(replace(variant, source=self.path, patch_size=self.patch_size))


def find_bench_model(source: str, patch_size: int | None, folder: Path) -> BenchModel:
    """A model by file or name; one of the catalogue that is not installed gets random weights, in the folder."""
    entry = catalogue.packaged().find(source)
    if entry is None or ModelStore().has(source) or Path(source).is_file():
        return BenchModel(name=source, path=find_model(source), patch_size=patch_size)
    return with_random_weights(spec_of(entry, patch_size), source, folder)


def spec_of(entry: CatalogueEntry, patch_size: int | None) -> ModelSpec:
    """The spec that the published file would have."""
    labels = entry.label_set()
    spec = default_spec(entry.family, patch_size=patch_size or entry.patch_size)
    return ModelSpec.from_dict(asdict(spec) | entry.changes | ({"classes": len(labels)} if labels else {}))


def with_random_weights(spec: ModelSpec, name: str, folder: Path) -> BenchModel:
    """A model of these sizes; its random weights are always the same."""
    path = folder / f"{name}-{spec.patch_size}-{spec.glance_frames}-{spec.focus_frames}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        about = weights_file.About(spec=replace(spec, dataset=None), name=name)
        with path.open("wb") as file:
            weights_file.write(file, about, build(spec).state_dict())
    return BenchModel(name=name, path=path, random_weights=True)


def variant_name(tagger: ClipTagger) -> str:
    return f"{tagger.runtime.name}, {tagger.runtime.precision}"


def as_task(tagger: ClipTagger) -> TimedTask:
    """One batch, of as many clips as the runtime takes at a time."""
    clips = [noise_clip(tagger.family)] * tagger.runtime.lanes
    return TimedTask(variant_name(tagger), in_one_part(lambda: tagger.tag(clips)), len(clips))


def noise_clip(family: Family) -> Clip:
    """A decoded clip of noise, which takes as long as any other."""
    plan = family.plan(_ANY_COUNT)
    shape = (len(plan.frames), *family.spec.framing.shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return source_clip(noise, family) if family.looks_at_source else clip_of(noise, plan)
