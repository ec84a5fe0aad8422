"""The families of models, by name."""

from __future__ import annotations

from dataclasses import replace

from adafocus_cli.errors import UsageError
from adafocus_cli.models import dense
from adafocus_cli.models.base import Family
from adafocus_cli.models.evidence import EvidenceGuided
from adafocus_cli.models.sfc import SFC
from adafocus_cli.models.uni import UniAdaFocus
from adafocus_cli.models.uni_tsm import UniAdaFocusTSM
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v1_tsm import AdaFocusV1TSM
from adafocus_cli.models.v2 import AdaFocusV2
from adafocus_cli.models.v2_tsm import AdaFocusV2TSM
from adafocus_cli.spec import VIEWS, ModelSpec

FAMILIES: dict[str, type[Family]] = {
    family.name: family
    for family in (
        *(AdaFocusV1, AdaFocusV1TSM, AdaFocusV2, AdaFocusV2TSM, UniAdaFocus, UniAdaFocusTSM),
        *dense.FAMILIES,
        SFC,
        EvidenceGuided,
    )
}


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
    if not issubclass(family_named(spec.family), dense.Dense):
        named = ", ".join(family.name for family in dense.FAMILIES)
        raise UsageError(f"{spec.family} sees every video once, not in {views} views; leave --views to {named}")
    if views not in VIEWS:
        raise UsageError(f"{views} views are not known; {', '.join(map(str, VIEWS))} are")
    return replace(spec, views=views)


def family_named(name: str) -> type[Family]:
    if name not in FAMILIES:
        raise UsageError(f"no model family {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
