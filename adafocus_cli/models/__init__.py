"""The families of models, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import cast

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec


class LazyFamilies(Mapping[str, type[Family]]):
    """Families by name; the module of each is imported when it is asked for."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        self._classes = classes

    def __getitem__(self, name: str) -> type[Family]:
        module, _, of_class = self._classes[name].rpartition(".")
        return cast("type[Family]", getattr(import_module(f"{__name__}.{module}"), of_class))

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes


FAMILIES = LazyFamilies(
    {
        "adafocus-v1": "v1.AdaFocusV1",
        "adafocus-v1-tsm": "v1_tsm.AdaFocusV1TSM",
        "adafocus-v2": "v2.AdaFocusV2",
        "adafocus-v2-tsm": "v2_tsm.AdaFocusV2TSM",
        "uni-adafocus": "uni.UniAdaFocus",
        "uni-adafocus-tsm": "uni_tsm.UniAdaFocusTSM",
        "uni-adafocus-x3d": "uni_x3d.UniAdaFocusX3D",
        "slow-r50": "dense.SlowR50",
        "i3d-r50": "dense.I3DR50",
        "x3d-s": "dense.X3DS",
        "x3d-m": "dense.X3DM",
        "x3d-l": "dense.X3DL",
        "r3d-18": "dense.R3D18",
        "mc3-18": "dense.MC318",
        "r2plus1d-18": "dense.R2Plus1D18",
        "s3d": "dense.S3D",
        "sfc": "sfc.SFC",
        "evidence": "evidence.EvidenceGuided",
        "taught": "taught.Taught",
        "taught-looks": "taught.TaughtToLook",
    }
)


def build(spec: ModelSpec) -> Family:
    """The model of a spec, with weights that mean nothing yet."""
    return family_named(spec.family)(spec).eval()


def default_spec(family: str, *, patch_size: int | None = None) -> ModelSpec:
    """The published sizes of a family."""
    spec = family_named(family).published
    return spec if patch_size is None else with_patches(spec, patch_size)


def with_patches(spec: ModelSpec, size: int) -> ModelSpec:
    """Patches of that size, in a family that cuts any."""
    if not family_named(spec.family).cuts_patches:
        raise UsageError(f"{spec.family} sees whole frames, so it has no patches of {size} px; leave --patch-size out")
    return spec.with_patch_size(size)


def with_views(spec: ModelSpec, views: int) -> ModelSpec:
    """So many views of a video, in a family that has them."""
    possible = family_named(spec.family).views
    if len(possible) == 1:
        named = ", ".join(name for name, family in FAMILIES.items() if len(family.views) > 1)
        raise UsageError(f"{spec.family} sees every video once, not in {views} views; leave --views to {named}")
    if views not in possible:
        *first, last = map(str, possible)
        raise UsageError(f"{views} views are not possible; give {', '.join(first)} or {last}")
    return replace(spec, views=views)


def family_named(name: str) -> type[Family]:
    if name not in FAMILIES:
        raise UsageError(f"no model family {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
