"""`adafocus bench`: measures how fast a model is on this machine, and where its time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.inputs import expand
from adafocus_cli.cli.terminal import report_console, write_json
from adafocus_cli.errors import UsageError
from adafocus_cli.requests import Precision, RuntimeName

if TYPE_CHECKING:
    from adafocus_cli.benchmark.report import BenchReport

_Name = TypeVar("_Name", bound=str)

HELP = """Measure how fast a model is here: by runtime and precision, by stage, decoding, and from file to labels.

A model that is not installed gets random weights, as fast as any. Without VIDEOS, one is made."""

EXAMPLES = """[bold]Examples[/bold]

The default model, in all that this machine has:
  [cyan]adafocus bench[/cyan]
A published model in two precisions, on your own videos:
  [cyan]adafocus bench videos/ -m v1-activitynet-p128 --precision fp32,bf16[/cyan]"""

Videos = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEOS", help="Videos, folders of videos, or patterns such as '*.mp4'."),
]
Precisions = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        show_default="all at hand",
        help="Some of fp32, tf32, bf16, fp16 and int8.",
    ),
]
Runtimes = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        show_default="all at hand",
        help="Some of torch and openvino.",
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        metavar="N",
        min=1,
        rich_help_panel=options.MODEL,
        help="How often everything runs; the results are medians.",
    ),
]


@options.with_shared_options
def bench(
    model: options.BenchModelOptions,
    terminal: options.TerminalOptions,
    videos: Videos = None,
    precision: Precisions = None,
    runtime: Runtimes = None,
    rounds: Rounds = 5,
    format_: options.ReportFormatOption = "table",
    output: options.NumbersOutput = None,
) -> None:
    precisions = _parsed("--precision", precision, get_args(Precision))
    runtimes = _parsed("--runtime", runtime, get_args(RuntimeName))
    if output is not None:
        labelled.check_writable(output, str(model.name_or_file))
    paths = tuple(expand(videos or (), warn=terminal.warn))
    if videos and not paths:
        raise UsageError("no videos found; give videos, folders of videos, or nothing")

    from adafocus_cli.benchmark.measure import BenchRequest, measure

    request = BenchRequest(model=model, precisions=precisions, runtimes=runtimes, rounds=rounds, paths=paths)
    with terminal.showing_log("adafocus"), terminal.progress(into_stdout=False) as bar:
        report = measure(request, lambda text: bar.show(text, done=0, total=None))
    if output is not None:
        labelled.write_numbers(output, report.to_dict())
    _show(report, format_)


def _parsed(option: str, given: str | None, known: tuple[_Name, ...]) -> tuple[_Name, ...]:
    """The names of a comma-separated list, each once."""
    names = dict.fromkeys(given.split(",")) if given is not None else {}
    by_name: dict[str, _Name] = {name: name for name in known}
    for name in names:
        if name not in known:
            raise UsageError(
                f"{option} {name!r} is not known; give one or more of {', '.join(known)}, separated by commas"
            )
    return tuple(by_name[name] for name in names)


def _show(report: BenchReport, format_: options.ReportFormat) -> None:
    if format_ == "json":
        write_json(report.to_dict())
        return
    from adafocus_cli.benchmark.report import layout

    with report_console() as console:
        console.print(layout(report))
