"""`adafocus flops`: counts what a video costs from the layers of a model, without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.terminal import report_console, write_json
from adafocus_cli.errors import UsageError
from adafocus_cli.output.texts import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from adafocus_cli.schema import Cost
    from adafocus_cli.spec import ModelSpec

PATCH_SIZES = (96, 128, 160, 192)
CONVENTION = (
    "GMACs are 10⁹ multiply-adds. Papers call them FLOPs; counted as two operations each, they are twice as many."
)

HELP = """Count what a video costs: multiply-adds by stage, and what whole frames would cost.

Counted from the layers, for a video that is not left early. Without a family or a model, all families are counted."""

EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus flops[/cyan]
  [cyan]adafocus flops --family adafocus-v1 --patch-size 128[/cyan]
  [cyan]adafocus flops --weights model.pth --format json[/cyan]"""

Family = Annotated[
    str | None, typer.Option("--family", metavar="NAME", help="A family of models, in its published sizes.")
]
Frames = Annotated[int | None, typer.Option("--frames", metavar="N", min=1, help="Number of looks, for --family.")]
Classes = Annotated[int | None, typer.Option("--classes", metavar="N", min=1, help="Number of classes, for --family.")]


@options.with_shared_options
def flops(
    model: options.FlopsModelOptions,
    terminal: options.VerboseOption,
    family: Family = None,
    frames: Frames = None,
    classes: Classes = None,
    format_: options.ReportFormatOption = "table",
) -> None:
    one_model = model.source is not None
    if family is not None and one_model:
        raise UsageError("--family cannot be used with --model or --weights; give one of them")
    if model.views is not None and family is None and not one_model:
        raise UsageError("--views is for whole-clip models; name one with --family, --model or --weights")
    if one_model and (frames is not None or classes is not None):
        raise UsageError("--frames and --classes need --family; a model has its own")

    if one_model:
        from adafocus_cli.tagger import ClipTagger

        if isinstance(model.source, Path):
            model = replace(model, source=options.check_weights(model.source))
        counted = [_count(ClipTagger.of(replace(model, device="cpu")).spec)]
    elif family is not None:
        counted = [_count(_sized(family, model.patch_size, frames, classes, model.views))]
    else:
        counted = _all_families(model.patch_size, frames, classes)
    _show(counted, format_, one_model=one_model or family is not None)


@dataclass(frozen=True)
class _CountedSpec:
    spec: ModelSpec
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        spec, cost = self.spec, self.cost
        return {
            "family": spec.family,
            "classes": spec.classes,
            "patch_size": spec.patch_size,
            "glance_frames": spec.glance_frames,
            "focus_frames": spec.focus_frames,
            "cost": cost.to_dict(),
            "gmacs_per_glance": round(cost.stages["glance"] / (spec.views * spec.glance_frames), 4),
            "gmacs_per_patch": round(cost.stages["focus"] / spec.focus_frames, 4),
            "ratio": round(cost.gmacs / cost.full_frame_gmacs, 4),
        }


def _count(spec: ModelSpec) -> _CountedSpec:
    from adafocus_cli.flops import cost_of

    return _CountedSpec(spec, cost_of(spec))


def _sized(
    family: str, patch_size: int | None, frames: int | None, classes: int | None, views: int | None = None
) -> ModelSpec:
    from adafocus_cli.models import default_spec, with_views

    spec = default_spec(family, patch_size=patch_size)
    if views is not None:
        spec = with_views(spec, views)
    if classes is not None:
        spec = replace(spec, classes=classes)
    return spec if frames is None else spec.with_frames(frames)


def _all_families(patch_size: int | None, frames: int | None, classes: int | None) -> list[_CountedSpec]:
    from adafocus_cli.models import FAMILIES

    patches = PATCH_SIZES if patch_size is None else (patch_size,)
    sizes = {name: patches if family.cuts_patches else (None,) for name, family in FAMILIES.items()}
    return [_count(_sized(family, size, frames, classes)) for family in FAMILIES for size in sizes[family]]


def _show(counted: list[_CountedSpec], format_: options.ReportFormat, *, one_model: bool) -> None:
    if format_ == "json":
        records = [entry.to_dict() for entry in counted]
        write_json(records[0] if one_model else records)
        return
    with report_console() as console:
        console.print(_by_stage(counted[0]) if one_model else _by_family(counted))
        console.print(f"\n{CONVENTION}", style="dim")


def _by_stage(counted: _CountedSpec) -> RenderableType:
    from rich.table import Table

    spec, cost = counted.spec, counted.cost
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    seen = f"patches of {spec.patch_size} px" if _cuts_patches(spec) else f"whole frames of {spec.frame_size} px"
    table.title = f"{spec.family}, {seen}, {spec.classes} classes"
    table.add_column("stage")
    table.add_column("GMACs", justify="right")
    table.add_column("")
    frames = spec.views * spec.glance_frames
    times = {"glance": f"{frames} frames × {cost.stages['glance'] / frames:.4f}"}
    if _cuts_patches(spec):
        times["focus"] = f"{spec.focus_frames} patches × {cost.stages['focus'] / spec.focus_frames:.4f}"
    for name, gmacs in cost.stages.items():
        table.add_row(name, f"{gmacs:.4f}", times.get(name, ""), style="cyan")
    table.add_row("total", f"{cost.gmacs:.4f}", "a video", style="bold")
    share = percent(cost.gmacs / cost.full_frame_gmacs, digits=0)
    table.add_row("whole frames", f"{cost.full_frame_gmacs:.4f}", f"so the total is {share} of them", style="dim")
    return table


def _cuts_patches(spec: ModelSpec) -> bool:
    from adafocus_cli.models import family_named

    return family_named(spec.family).cuts_patches


def _by_family(counted: list[_CountedSpec]) -> RenderableType:
    """One line a family, one column a patch size, and one for families that cut none."""
    from rich.table import Table

    sizes = sorted({entry.spec.patch_size for entry in counted if _cuts_patches(entry.spec)})
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    table.title = "GMACs a video, by side of the patch"
    for name in ("family", *(f"{size} px" for size in sizes), "no patches", "whole frames"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for family in dict.fromkeys(entry.spec.family for entry in counted):
        row = [entry for entry in counted if entry.spec.family == family]
        costs = [f"{entry.cost.gmacs:.2f}" for entry in sorted(row, key=lambda entry: entry.spec.patch_size)]
        costs = [*costs, ""] if _cuts_patches(row[0].spec) else [*[""] * len(sizes), *costs]
        table.add_row(f"[cyan]{family}[/cyan]", *costs, f"[dim]{row[0].cost.full_frame_gmacs:.2f}[/dim]")
    return table
