"""The families of models, by name."""

from __future__ import annotations

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.models.uni import UniAdaFocus
from adafocus_cli.models.uni_tsm import UniAdaFocusTSM
from adafocus_cli.models.v1 import AdaFocusV1
from adafocus_cli.models.v1_tsm import AdaFocusV1TSM
from adafocus_cli.models.v2 import AdaFocusV2
from adafocus_cli.models.v2_tsm import AdaFocusV2TSM
from adafocus_cli.spec import ModelSpec

FAMILIES: dict[str, type[Family]] = {
    family.name: family
    for family in (AdaFocusV1, AdaFocusV1TSM, AdaFocusV2, AdaFocusV2TSM, UniAdaFocus, UniAdaFocusTSM)
}


def build(spec: ModelSpec) -> Family:
    """The model of a spec, with weights that mean nothing yet."""
    return family_named(spec.family)(spec).eval()


def default_spec(family: str, *, patch_size: int | None = None) -> ModelSpec:
    """The published sizes of a family."""
    spec = family_named(family).published
    return spec if patch_size is None else spec.with_patch_size(patch_size)


def family_named(name: str) -> type[Family]:
    if name not in FAMILIES:
        raise UsageError(f"no model family {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
