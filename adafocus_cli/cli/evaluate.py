"""`adafocus evaluate`: measures the accuracy and cost of a model on labelled videos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.terminal import Terminal, report_console, write_json
from adafocus_cli.errors import UsageError
from adafocus_cli.requests import TagRequest

if TYPE_CHECKING:
    from adafocus_cli.evaluation.data import Dataset
    from adafocus_cli.evaluation.report import EvaluationReport, EvaluationSetting
    from adafocus_cli.tagger import ClipTagger

HELP = """Measure accuracy and cost on labelled videos, and count which classes are confused.

For a published model, the first number is the metric of its paper: top-1, mAP over all labels of a video, or mAP over \
one label. Classes without videos and videos that fail are listed, and do not count as wrong.

A list has `path,label` rows, as CSV or TSV, or `name frames label` lines; a label is a class or its number, from 0. \
The scenes of a synthetic world (world:motion) are never part of its training clips."""

EXAMPLES = """[bold]Examples[/bold]

Videos sorted into folders by class:
  [cyan]adafocus evaluate videos/ -w model.pth --confusion matrix.png[/cyan]
A sample of a published split, on extracted frames:
  [cyan]adafocus evaluate val.txt --root frames/ --limit 500 -w model.pth[/cyan]
The clips that a training run kept back:
  [cyan]adafocus evaluate run/validation.csv -w run[/cyan]
A thousand scenes of the world that a model was trained on:
  [cyan]adafocus evaluate world:motion --limit 1000 -w run[/cyan]
Compare with patches at random places:
  [cyan]adafocus evaluate videos/ -w model.pth --policy random[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is evaluated · 130 interrupted"""

PolicyOption = Annotated[
    Literal["learned", "random", "random-frames", "centre", "full"],
    typer.Option(
        "--policy",
        metavar="NAME",
        rich_help_panel=options.MODEL,
        help="Choose patches as learned; or, with the same weights, at random, in random frames, in the centre, or "
        "full frames.",
    ),
]
ConfusionOption = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        metavar="FILE.png",
        rich_help_panel=options.OUTPUT,
        help="Also draw the confusion matrix.",
    ),
]


@options.with_shared_options
def evaluate(
    data: options.Data,
    model: options.ModelOptions,
    request: options.EvaluateTagOptions,
    terminal: options.TerminalOptions,
    root: options.Root = None,
    limit: options.Limit = None,
    policy: PolicyOption = "learned",
    seed: options.Seed = 0,
    format_: options.ReportFormatOption = "table",
    output: options.NumbersOutput = None,
    confusion: ConfusionOption = None,
) -> None:
    target = EvaluationOutput(format_, output, confusion, data=data)
    dataset, available = labelled.choose(data, root, limit, seed, terminal)

    from adafocus_cli.evaluation.policy_override import with_policy
    from adafocus_cli.evaluation.report import EvaluationSetting
    from adafocus_cli.tagger import ClipTagger

    tagger = with_policy(ClipTagger.of(model), policy, seed=seed)
    report, seconds = _evaluated(dataset, tagger, request, terminal)
    setting = EvaluationSetting(
        model=tagger.model,
        data=data,
        policy=policy,
        seed=seed,
        available=available,
        exits=None if request.exits is None else str(request.exits),
        max_gmacs=request.max_gmacs,
        decode=request.decode,
    )
    target.write(report, setting, seconds)
    labelled.end_with(report.failures, dataset, terminal)


def _evaluated(
    dataset: Dataset, tagger: ClipTagger, request: TagRequest, terminal: Terminal
) -> tuple[EvaluationReport, float]:
    """The report, and the seconds it took."""
    from adafocus_cli.evaluation.scoring import Scorer, paper_metric

    scorer = Scorer(
        dataset,
        tagger.labels,
        metric=paper_metric(tagger.model, tagger.labels),
        min_score=tagger.min_score(request.min_score),
    )
    started = time.monotonic()
    labelled.tag(dataset, tagger, request, terminal, take=scorer.add)
    report = scorer.report()
    assert report is not None, "at least one video was tagged"
    return report, time.monotonic() - started


class EvaluationOutput:
    """The output files, checked before any work is done."""

    def __init__(
        self, format_: options.ReportFormat, output: Path | None, confusion: Path | None, *, data: str
    ) -> None:
        self._format = format_
        self._output = output
        self._confusion = confusion
        if output is not None:
            labelled.check_writable(output, data)
        if output is not None and output == confusion:
            raise UsageError(f"{output} cannot hold both the numbers and the picture; give two files")
        if confusion is not None:
            labelled.check_picture(confusion, data, option="--confusion")

    def write(self, report: EvaluationReport, setting: EvaluationSetting, seconds: float) -> None:
        record = report.to_dict(setting, seconds=seconds)
        if self._output is not None:
            labelled.write_numbers(self._output, record)
        if self._confusion is not None:
            from adafocus_cli.evaluation.pictures import draw_confusion
            from adafocus_cli.files import replacing

            with replacing(self._confusion) as file:
                draw_confusion(report.confusion).save(file, "PNG")
        if self._format == "json":
            write_json(record)
        else:
            from adafocus_cli.evaluation.tables import evaluation_layout

            with report_console() as console:
                console.print(evaluation_layout(report, setting, seconds=seconds))
