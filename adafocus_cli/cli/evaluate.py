"""`adafocus evaluate`: how good a model is on videos whose classes are known.

Parses, calls and shows; knows nothing of how a video is tagged or an answer judged.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import UsageError
from adafocus_cli.requests import TagRequest

if TYPE_CHECKING:
    from adafocus_cli.evaluation.data import Dataset
    from adafocus_cli.evaluation.report import Report, Setting
    from adafocus_cli.tagger import ClipTagger

HELP = """Say how good a model is on labelled videos, what that cost, and what it takes for what.

For a published model, the first number is the one that its paper prints, by name: top-1, or mAP over all labels \
of a video or over one. Classes without a video and videos that fail are counted, not taken for wrong.

A list has `path,label` rows, as CSV or TSV, or `name frames label` lines; a label is a class or its number, from 0. \
The scenes of a made-up world (world:motion) are none that training shows."""

EXAMPLES = """[bold]Examples[/bold]

Videos sorted into folders by class:
  [cyan]adafocus evaluate videos/ -w model.pth --confusion matrix.png[/cyan]
A sample of a published split, on extracted frames:
  [cyan]adafocus evaluate val.txt --root frames/ --limit 500 -w model.pth[/cyan]
A thousand scenes of the world that it was taught:
  [cyan]adafocus evaluate world:motion --limit 1000 -w run/model.safetensors[/cyan]
What the learned places are worth:
  [cyan]adafocus evaluate videos/ -w model.pth --policy random[/cyan]

[bold]Exit status[/bold]

0 all tagged · 1 nothing could be done · 2 wrong usage
3 some videos failed, the rest is evaluated · 130 interrupted"""

PolicyOption = Annotated[
    Literal["learned", "random", "centre", "full"],
    typer.Option(
        "--policy",
        metavar="NAME",
        rich_help_panel=options.MODEL,
        help="Where the careful looks go: learned; or, with the same weights, random, centre, or full for all of "
        "every frame.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=options.MODEL,
        help="For --policy random, for --limit, and for which scenes of a made-up world.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Also write all numbers to FILE, as JSON.",
    ),
]
ConfusionOption = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        metavar="FILE.png",
        rich_help_panel=options.OUTPUT,
        help="Also draw what was taken for what.",
    ),
]


@options.with_shared_options
def evaluate(
    data: labelled.Data,
    model: options.ModelOptions,
    request: options.EvaluateTagOptions,
    terminal: options.TerminalOptions,
    root: labelled.Root = None,
    limit: labelled.Limit = None,
    policy: PolicyOption = "learned",
    seed: Seed = 0,
    format_: options.ReportFormatOption = "table",
    output: Output = None,
    confusion: ConfusionOption = None,
) -> None:
    target = _Target(format_, output, confusion, data=data)
    dataset, available = labelled.choose(data, root, limit, seed, terminal)

    from adafocus_cli.evaluation.looking import looking
    from adafocus_cli.evaluation.report import Setting
    from adafocus_cli.tagger import ClipTagger

    tagger = looking(ClipTagger.of(model), policy, seed=seed)
    report, seconds = _judged(dataset, tagger, request, terminal)
    setting = Setting(
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


def _judged(dataset: Dataset, tagger: ClipTagger, request: TagRequest, terminal: Terminal) -> tuple[Report, float]:
    """The report, and how many seconds it took."""
    from adafocus_cli.evaluation.judge import Judge
    from adafocus_cli.evaluation.metrics import paper_metric

    judge = Judge(
        dataset,
        tagger.labels,
        metric=paper_metric(tagger.model, tagger.labels),
        min_score=tagger.min_score(request.min_score),
    )
    started = time.monotonic()
    labelled.tag(dataset, tagger, request, terminal, take=judge.add)
    report = judge.report()
    assert report is not None, "at least one video was tagged"
    return report, time.monotonic() - started


class _Target:
    """Where the report goes, checked before the work begins."""

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

    def write(self, report: Report, setting: Setting, seconds: float) -> None:
        from adafocus_cli.files import replacing
        from adafocus_cli.output.writers import dumps

        record = dumps(report.to_dict(setting, seconds=seconds), indent=2) + "\n"
        if self._output is not None:
            with replacing(self._output) as file:
                file.write(record.encode("utf-8", "backslashreplace"))
        if self._confusion is not None:
            from adafocus_cli.evaluation.picture import draw

            with replacing(self._confusion) as file:
                draw(report.confusion).save(file, "PNG")
        if self._format == "json":
            typer.echo(record, nl=False)
        else:
            from rich.console import Console

            from adafocus_cli.evaluation.table import layout

            Console(highlight=False).print(layout(report, setting, seconds=seconds))
