"""`adafocus calibrate`: fits thresholds that keep a model's mean cost within a budget, and measures the accuracy."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.terminal import Terminal, report_console, write_json
from adafocus_cli.errors import UsageError
from adafocus_cli.requests import TagRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from adafocus_cli.evaluation.calibration import AnswerCollector, Calibration, Calibrator, SkipCurves
    from adafocus_cli.evaluation.data import Dataset
    from adafocus_cli.schema import Failure
    from adafocus_cli.tagger import ClipTagger

SCHEMA = "adafocus-calibration/1"
HELP = """Fit thresholds for leaving videos early, one set for each budget, and measure the accuracy.

Half of the videos are for fitting, the others for checking. Use videos that the model was not trained on. \
The share of videos that leave at each exit follows the law of the model's authors, with the ratio that is best by the \
metric of their paper."""

EXAMPLES = """[bold]Examples[/bold]

Accuracy with 5, 10 and 20 GMACs per video:
  [cyan]adafocus calibrate videos/ --budgets 5,10,20 -w model.pth \\
    --picture curve.png[/cyan]
Write exits/exit-10.yaml, and use it:
  [cyan]adafocus calibrate videos/ --budgets 10 -w model.pth -o exits[/cyan]
  [cyan]adafocus classify clip.mp4 -w model.pth --exit exits/exit-10.yaml[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is used · 130 interrupted"""

Budgets = Annotated[
    str,
    typer.Option(
        "--budgets",
        metavar="N,N,…",
        rich_help_panel=options.EXITS,
        help="Mean cost of a video, in 10⁹ multiply-adds; one or more budgets.",
    ),
]
Group = Annotated[
    int,
    typer.Option(
        "--group",
        metavar="N",
        min=1,
        rich_help_panel=options.EXITS,
        help="Number of looks between exits: 1 as in the papers; more are faster on an accelerator.",
    ),
]
Law = Annotated[
    Literal["auto", "wide"],
    typer.Option(
        "--law",
        rich_help_panel=options.EXITS,
        help="Share of videos that leave at each exit: auto is the law of the model's authors in their range of "
        "ratios, wide goes beyond it.",
    ),
]
CriterionOption = Annotated[
    Literal["logit", "entropy"],
    typer.Option(
        "--criterion",
        rich_help_panel=options.EXITS,
        help="Measure of certainty: the largest logit, or the entropy of the softmax.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        rich_help_panel=options.OUTPUT,
        help="Write a file for --exit for each budget N: exit-N.yaml.",
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE.png", rich_help_panel=options.OUTPUT, help="Also draw accuracy over cost."),
]


@options.with_shared_options
def calibrate(
    data: options.Data,
    budgets: Budgets,
    model: options.CalibrateModelOptions,
    request: options.CalibrateTagOptions,
    terminal: options.TerminalOptions,
    root: options.Root = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    group: Group = 1,
    law: Law = "auto",
    criterion: CriterionOption = "logit",
    format_: options.ReportFormatOption = "table",
    output: Output = None,
    picture: Picture = None,
) -> None:
    wanted = _parsed(budgets)
    _check_outputs(output, picture, data)
    dataset, available = labelled.choose(data, root, limit, seed, terminal)

    from adafocus_cli.evaluation.calibration import AnswerCollector, Calibrator
    from adafocus_cli.evaluation.scoring import paper_metric
    from adafocus_cli.flops import meter_of
    from adafocus_cli.tagger import ClipTagger

    started = time.monotonic()
    tagger = ClipTagger.of(model)
    calibrator = Calibrator(tagger.family, meter_of(tagger.spec), group=group, budgets=wanted, law=law)
    for budget in wanted:
        if budget >= calibrator.full_gmacs:
            full = f"{calibrator.full_gmacs:.4g} GMACs, the cost of all looks"
            terminal.note(f"a budget of {budget:g} GMACs is not below {full}; nothing is skipped")
    metric = paper_metric(tagger.model, tagger.labels) or "top-1"

    def answered() -> tuple[AnswerCollector, tuple[Failure, ...]]:
        collector = AnswerCollector(
            dataset, tagger.labels.names, look_gmacs=calibrator.look_gmacs, criterion=criterion, metric=metric
        )
        return collector, _gather(collector, calibrator, dataset, tagger, request, terminal)

    collector, failures = answered()
    calibration = calibrator.calibrate(*collector.halves(seed))
    if tagger.family.skips:
        calibration = replace(calibration, apart=_apart(tagger, calibrator, collector, answered, seed, terminal))
    _note_budgets_without_a_law(calibration, law, terminal)
    found = CalibrationOutput(calibration, tagger, data, available, seed, law, failures, time.monotonic() - started)
    found.write(output, picture)
    found.show(format_)
    labelled.end_with(failures, dataset, terminal)


# How likely a look has to be that is taken, from the fewest looks to the most.
_CHANCES = (0.95, 0.8, 0.5, 0.2, 0.05)


def _apart(
    tagger: ClipTagger,
    calibrator: Calibrator,
    as_taught: AnswerCollector,
    answered: Callable[[], tuple[AnswerCollector, tuple[Failure, ...]]],
    seed: int,
    terminal: Terminal,
) -> SkipCurves:
    """Skipping without exits, more of it and less, and exits without skipping."""
    from adafocus_cli.models.shared import StepWise

    family = tagger.family
    assert isinstance(family, StepWise), "the families that skip"
    terminal.note(f"the model skips frames; for curves of it alone the videos are tagged {len(_CHANCES)} more times")
    levels = [math.log(chance / (1 - chance)) for chance in _CHANCES]
    taught = StepWise.skip_below
    try:
        collectors = []
        for level in (*levels, -math.inf):
            family.skip_below = level
            collectors.append(as_taught if level == taught else answered()[0])
    finally:
        family.skip_below = taught
    *skipping, none = (collector.halves(seed) for collector in collectors)
    return calibrator.apart([checking for _, checking in skipping], *none)


def _note_budgets_without_a_law(calibration: Calibration, law: str, terminal: Terminal) -> None:
    """Notes budgets below the costs of all laws, or far above them."""
    costs = [point.gmacs for point in calibration.fitted_laws]
    hint = "; --law wide reaches further" if law == "auto" else ""
    for choice in calibration.choices:
        if choice.ratio == 0:
            terminal.note(
                f"a budget of {choice.budget:g} GMACs is below the cheapest law, {min(costs):.4g} on the half for "
                f"fitting, so every video leaves at the first exit{hint}"
            )
        elif choice.ratio is not None and choice.budget > 1.05 * max(costs):
            terminal.note(
                f"a budget of {choice.budget:g} GMACs is above the costliest law, {max(costs):.4g} on the half for "
                f"fitting, so less is spent{hint}"
            )


def _parsed(budgets: str) -> list[float]:
    try:
        values = sorted({float(part) for part in budgets.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise UsageError(
            f"--budgets {budgets!r} is not a list of costs; give GMACs per video, above 0, such as 5,10,20"
        )
    return values


def _check_outputs(output: Path | None, picture: Path | None, data: str) -> None:
    """Before the work begins."""
    if output is not None and not os.access(output if output.is_dir() else output.parent, os.W_OK):
        raise UsageError(f"cannot write into {output}; give a folder that can be written, or one in such a folder")
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file; give a folder, which gets one file per budget")
    if picture is not None:
        labelled.check_picture(picture, data, option="--picture")


def _gather(
    collector: AnswerCollector,
    calibrator: Calibrator,
    dataset: Dataset,
    tagger: ClipTagger,
    request: TagRequest,
    terminal: Terminal,
) -> tuple[Failure, ...]:
    """In the same turns as later, though no video leaves: sums in another order would differ in the last digits."""
    from adafocus_cli.exits import ExitRule

    never = ExitRule(thresholds=calibrator.never, group=calibrator.group)
    return labelled.tag(dataset, tagger, replace(request, exits=never), terminal, take=collector.add)


@dataclass(frozen=True)
class CalibrationOutput:
    """A calibration and where it came from, written and printed."""

    calibration: Calibration
    tagger: ClipTagger
    data: str
    available: int
    seed: int
    law: str
    failures: tuple[Failure, ...]
    seconds: float

    def write(self, output: Path | None, picture: Path | None) -> None:
        from adafocus_cli.exits import write_thresholds
        from adafocus_cli.files import replacing

        if output is not None:
            output.mkdir(exist_ok=True)
            for choice in self.calibration.choices:
                with replacing(output / _file_name(choice.budget)) as file:
                    write_thresholds(
                        Path(file.name),
                        self.tagger.model,
                        choice.thresholds,
                        criterion=self.calibration.criterion,
                        group=self.calibration.group,
                    )
        if picture is not None:
            from adafocus_cli.evaluation.pictures import draw_curve

            with replacing(picture) as file:
                draw_curve(self.calibration).save(file, "PNG")

    def show(self, format_: options.ReportFormat) -> None:
        if format_ == "json":
            write_json(self._record())
            return
        from adafocus_cli.evaluation.tables import calibration_layout

        with report_console() as console:
            console.print(calibration_layout(self.calibration, self.tagger.model.name, self.data, self.failures))

    def _record(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": asdict(self.tagger.model),
            "data": self.data,
            "available": self.available,
            "seed": self.seed,
            "law": self.law,
            "videos": {
                "fitted_on": self.calibration.fitted_on,
                "checked_on": self.calibration.checked_on,
                "failed": len(self.failures),
            },
            **self.calibration.to_dict(),
            "seconds": round(self.seconds, 3),
            "failures": [failure.to_dict() for failure in self.failures],
        }


def _file_name(budget: float) -> str:
    return f"exit-{budget:.10g}.yaml"
