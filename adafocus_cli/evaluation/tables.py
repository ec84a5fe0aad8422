"""Evaluations and calibrations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adafocus_cli.errors import printable
from adafocus_cli.evaluation.calibration import Calibration, Outcome
from adafocus_cli.evaluation.report import ClassReport, EvaluationReport, EvaluationSetting, Metric
from adafocus_cli.output.texts import percent
from adafocus_cli.schema import Failure, share_of
from adafocus_cli.spec import sees_whole_frames

MOST_CLASSES = 25
_BAR_WIDTH, _MOST_LINES = 28, 16
_BAR, _HALF_BAR = "━", "╸"
ALL_LABELS: Metric = "mAP, all labels"
ONE_LABEL: Metric = "mAP, one label"
_WHERE = {
    "learned": "with the learned policy",
    "random": "with random patches",
    "random-frames": "with patches in random frames",
    "centre": "with patches in the centre",
    "full": "with whole frames",
}


def evaluation_layout(report: EvaluationReport, setting: EvaluationSetting, *, seconds: float) -> RenderableType:
    parts: list[RenderableType] = [_heading(report, setting), _indented(_summary(report, seconds))]
    if report.by_step:
        right = [(step.step, step.top1, percent(step.top1)) for step in report.by_step]
        parts += [_title("Accuracy after each step"), _indented(_bars(right))]
    if report.steps > 1 and not report.by_step:
        share = [(step, count / report.videos, f"{count}") for step, count in report.exits.items()]
        parts += [_title(f"Videos left after each of {report.steps} steps"), _indented(_bars(share))]
    parts += [_title(_classes_title(report.classes)), _indented(_classes(report.classes))]
    parts += _failed(report.failures)
    return Group(*parts)


def _heading(report: EvaluationReport, setting: EvaluationSetting) -> Text:
    text = Text(printable(setting.model.name), style="bold")
    where = _WHERE["full" if sees_whole_frames(setting.model.family) else setting.policy]
    text.append(f" on {printable(setting.data)}, {where}", style="not bold")
    return text


def _summary(report: EvaluationReport, seconds: float) -> Table:
    cost = report.cost
    share = share_of(cost.gmacs, cost.full_frame_gmacs)
    of_whole = "" if share is None else f", {percent(share, digits=0)} of whole frames"
    each = ", ".join(f"{name} {value:.2f}" for name, value in cost.seconds.items())
    grid = _grid()
    for name, value, note in _accuracies(report):
        grid.add_row(name, _strong(value), note)
    grid.add_row("cost", Text(f"{cost.gmacs:.2f}"), f"GMACs per video{of_whole}")
    grid.add_row("frames", Text(f"{cost.frames_decoded:.1f}"), "decoded per video")
    grid.add_row("time", Text(f"{seconds:.1f}"), f"seconds; per video: {each}")
    return grid


def _accuracies(report: EvaluationReport) -> list[tuple[str, float, str]]:
    """Name, value and explanation; what the model's paper prints comes first."""
    right = f"{round(report.top1 * report.videos)} of {report.videos} videos"
    if report.failures:
        right += f"; {len(report.failures)} that failed are left out"
    counted = f"as papers compute it, over {len(report.classes)} classes"
    if absent := report.classes_without_videos:
        counted = f"as papers compute it, over {len(report.classes)} of {len(report.classes) + absent} classes"
        counted += f": {absent} {'has' if absent == 1 else 'have'} no video"
    rows = [("top-1", report.top1, right), ("top-5", report.top5, ""), (ALL_LABELS, report.map_published, counted)]
    if report.several_labels or report.metric == ONE_LABEL:
        several = f"the first of each video; {report.several_labels} of {report.videos} have several"
        rows.append((ONE_LABEL, report.map_one_label, several))
    rows.append(("mAP", report.map_scikit_learn, "all labels, as scikit-learn's average_precision_score"))
    paper = [(name, value, f"the paper's metric; {note}") for name, value, note in rows if name == report.metric]
    return paper + [row for row in rows if row[0] != report.metric]


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    return grid


def _strong(share: float) -> Text:
    return Text(percent(share), style="bold green")


def _bars(rows: Sequence[tuple[int, float, str]]) -> Table:
    """One line per step; many steps in two columns."""
    if len(rows) <= _MOST_LINES:
        return _bar_column(rows, _BAR_WIDTH)
    half = (len(rows) + 1) // 2
    grid = Table.grid(padding=(0, 4, 0, 0))
    grid.add_row(*(_bar_column(part, _BAR_WIDTH * 2 // 3) for part in (rows[:half], rows[half:])))
    return grid


def _bar_column(rows: Sequence[tuple[int, float, str]], width: int) -> Table:
    """Steps are counted from 1."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for step, share, text in rows:
        halves = round(2 * width * share)
        grid.add_row(f"{step + 1}", Text(_BAR * (halves // 2) + _HALF_BAR * (halves % 2), style="cyan"), text)
    return grid


def _classes_title(classes: Sequence[ClassReport]) -> str:
    if len(classes) <= MOST_CLASSES:
        return "Classes, the weakest first"
    return f"The {MOST_CLASSES} weakest of {len(classes)} classes; -o FILE lists all"


def _classes(classes: Sequence[ClassReport]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    # Long names wrap: cut, "camera pans left" would look like "camera pans right".
    table.add_column("class", max_width=30)
    for name in ("videos", "top-1", "AP"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("most often confused with", style="dim")
    weakest = sorted(classes, key=lambda entry: (entry.top1, entry.ap_published, entry.index))
    for entry in weakest[:MOST_CLASSES]:
        wrong = f"{entry.taken_for_videos} × {entry.taken_for}" if entry.taken_for is not None else ""
        numbers = (f"{entry.videos}", percent(entry.top1), percent(entry.ap_published))
        table.add_row(_name(entry.label), *numbers, _name(wrong))
    return table


def _name(text: str) -> Text:
    return Text(printable(text), overflow="fold")


def calibration_layout(
    calibration: Calibration, model: str, data: str, failures: Sequence[Failure] = ()
) -> RenderableType:
    heading = Text(printable(model), style="bold")
    heading.append(f" on {printable(data)}", style="not bold")
    halves = (
        f"fitted on {calibration.fitted_on} and checked on {calibration.checked_on} other videos, "
        f"where chance moves top-1 by ± {100 * calibration.margin:.1f} points; chosen by {_chosen_by(calibration)}"
    )
    return Group(
        heading,
        _indented(Text(halves, style="dim")),
        Text("\nBudgets", style="bold"),
        _indented(_budget_table(calibration)),
        Text("\nVideos left after a step, %", style="bold"),
        _indented(_exit_table(calibration)),
        *_apart(calibration),
        *_failed(failures),
    )


def _chosen_by(calibration: Calibration) -> str:
    if calibration.metric == "top-1":
        return calibration.metric
    return f"{calibration.metric}, over the {calibration.classes_checked} of {calibration.classes} classes with a video"


def _budget_table(calibration: Calibration) -> Table:
    """One line per budget, and one for nothing skipped."""
    table = _columns("budget", "GMACs", "top-1", "mAP", "same step for all", "top-1", "mAP")
    for choice in calibration.choices:
        step = choice.same_step.left[0][0] + 1
        instead = f"{step} of {calibration.steps} · {choice.same_step.gmacs:.2f}"
        table.add_row(
            f"{choice.budget:g}",
            f"{choice.checked.gmacs:.2f}",
            *_outcome_accuracies(choice.checked, calibration.metric, style="bold green"),
            Text(instead, style="dim"),
            *_outcome_accuracies(choice.same_step, calibration.metric, style="dim"),
        )
    full = _outcome_accuracies(calibration.full, calibration.metric, style="bold")
    table.add_row("none", f"{calibration.full.gmacs:.2f}", *full, style="dim")
    return table


def _outcome_accuracies(outcome: Outcome, metric: Metric, *, style: str) -> tuple[Text, Text]:
    mean_average_precision = outcome.mean_average_precision if metric == "top-1" else outcome.accuracy
    top1, precision = (percent(share) for share in (outcome.top1, mean_average_precision))
    return Text(top1, style=style), Text(precision, style=style)


def _exit_table(calibration: Calibration) -> Table:
    """One line per step after which videos leave, one column per budget."""
    left = [dict(choice.checked.left) for choice in calibration.choices]
    table = _columns("step", *(f"{choice.budget:g}" for choice in calibration.choices))
    for step in sorted({step for counts in left for step in counts}):
        shares = [100 * counts.get(step, 0) / calibration.checked_on for counts in left]
        table.add_row(f"{step + 1}", *(f"{share:.1f}" if share else "·" for share in shares))
    return table


def _apart(calibration: Calibration) -> list[RenderableType]:
    """Of a model that skips frames."""
    if calibration.apart is None:
        return []
    table = _columns("GMACs", calibration.metric)
    for point in calibration.apart.skipping:
        table.add_row(f"{point.gmacs:.2f}", f"{100 * point.accuracy:.1f} %")
    return [Text("\nSkipping without exits, more and less of it", style="bold"), _indented(table)]


def _columns(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _failed(failures: Sequence[Failure]) -> list[RenderableType]:
    """A heading, and a line per video with its path and message. Nothing if none failed."""
    if not failures:
        return []
    lines = []
    for failure in failures:
        path, message = printable(failure.path), printable(failure.message)
        lines.append(Text(message if message.startswith(path) else f"{path}: {message}"))
    return [_title(f"{len(failures)} failed", style="bold red"), _indented(Group(*lines))]


def _title(text: str, *, style: str = "bold") -> Text:
    return Text(f"\n{text}", style=style)


def _indented(block: RenderableType) -> Padding:
    return Padding(block, (0, 0, 0, 2))
