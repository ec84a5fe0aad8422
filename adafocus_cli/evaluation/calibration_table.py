"""A calibration for people at a terminal. Knows nothing of how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.evaluation.calibration_report import Calibration, Outcome
from adafocus_cli.evaluation.metrics import Metric
from adafocus_cli.evaluation.table import failed
from adafocus_cli.output.escape import printable
from adafocus_cli.schema import Failure


def layout(calibration: Calibration, model: str, data: str, failures: Sequence[Failure] = ()) -> RenderableType:
    heading = Text(printable(model), style="bold")
    heading.append(f" on {printable(data)}", style="not bold")
    halves = (
        f"fitted on {calibration.fitted_on} and checked on {calibration.checked_on} other videos, "
        f"where chance moves top-1 by ± {100 * calibration.margin:.1f} points; chosen by {_chosen_by(calibration)}"
    )
    return Group(
        heading,
        _indented(Text(halves, style="dim")),
        Text("\nWhat a budget gets", style="bold"),
        _indented(_results(calibration)),
        Text("\nVideos left after a step, %", style="bold"),
        _indented(_exits(calibration)),
        *failed(failures),
    )


def _chosen_by(calibration: Calibration) -> str:
    if calibration.metric == "top-1":
        return calibration.metric
    return f"{calibration.metric}, over the {calibration.classes_checked} of {calibration.classes} classes with a video"


def _results(calibration: Calibration) -> Table:
    """One line a budget, and one for nothing skipped."""
    table = _table("budget", "GMACs", "top-1", "mAP", "same step for all", "top-1", "mAP")
    for choice in calibration.choices:
        step = choice.same_step.left[0][0] + 1
        instead = f"{step} of {calibration.steps} · {choice.same_step.gmacs:.2f}"
        table.add_row(
            f"{choice.budget:g}",
            f"{choice.checked.gmacs:.2f}",
            *_accuracies(choice.checked, calibration.metric, style="bold green"),
            Text(instead, style="dim"),
            *_accuracies(choice.same_step, calibration.metric, style="dim"),
        )
    full = _accuracies(calibration.full, calibration.metric, style="bold")
    table.add_row("none", f"{calibration.full.gmacs:.2f}", *full, style="dim")
    return table


def _accuracies(outcome: Outcome, metric: Metric, *, style: str) -> tuple[Text, Text]:
    mean_average_precision = outcome.mean_average_precision if metric == "top-1" else outcome.accuracy
    top1, precision = (f"{100 * share:.1f} %" for share in (outcome.top1, mean_average_precision))
    return Text(top1, style=style), Text(precision, style=style)


def _exits(calibration: Calibration) -> Table:
    """One line a step after which a video is left, one column a budget."""
    left = [dict(choice.checked.left) for choice in calibration.choices]
    table = _table("step", *(f"{choice.budget:g}" for choice in calibration.choices))
    for step in sorted({step for counts in left for step in counts}):
        shares = [100 * counts.get(step, 0) / calibration.checked_on for counts in left]
        table.add_row(f"{step + 1}", *(f"{share:.1f}" if share else "·" for share in shares))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _indented(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 0, 2))
