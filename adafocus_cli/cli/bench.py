"""`adafocus bench`: measures how fast a model is on this machine, and where its time goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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

HELP = """Measure how fast a model is on this machine: the model alone, decoding, and all of it, from file to labels.

In the same run it is compared with the code of its authors and with other networks. A model that is not \
installed gets random weights, which do not change its speed. Without VIDEOS, a test video is made."""

EXAMPLES = """[bold]Examples[/bold]

In under a minute, with the default model:
  [cyan]adafocus bench[/cyan]
A published model in two precisions, on your own videos:
  [cyan]adafocus bench videos/ -m v1-activitynet-p128 --precision fp32,bf16[/cyan]
Compared with all other networks, also on 30 crops:
  [cyan]adafocus bench --baselines all --crops -o bench.json[/cyan]
What more frames, larger patches and longer videos cost:
  [cyan]adafocus bench -m v2-activitynet-p128-mbv2 --picture seconds.png[/cyan]"""

Videos = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEOS", help="Videos, folders of videos, or patterns such as '*.mp4'."),
]
Precisions = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        help="Number formats of the networks: one or more of auto, fp32, tf32, bf16 and fp16; auto is fp32.",
    ),
]
Runtimes = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        help="Runtimes of the networks: one or more of auto, torch and openvino.",
    ),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        metavar="NAME,NAME,…",
        rich_help_panel=options.COMPARED,
        show_default="resnet50,r2plus1d_18",
        help="Other networks: resnet50 on whole frames; from torchvision r2plus1d_18, s3d, mvit_v2_s, swin3d_t; all; "
        "none.",
    ),
]
Crops = Annotated[
    bool,
    typer.Option(
        "--crops",
        metavar="",
        rich_help_panel=options.COMPARED,
        help="Also run those from torchvision on 30 crops of a video, as papers do; only once, as it takes minutes.",
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        metavar="N",
        min=1,
        rich_help_panel=options.COMPARED,
        help="Number of rounds; in each, everything runs once. The results are medians.",
    ),
]
Sweep = Annotated[
    bool,
    typer.Option(
        "--sweep",
        metavar="",
        rich_help_panel=options.COMPARED,
        help="Also vary the frames, the patch, the batch and the length of the video.",
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE.png",
        rich_help_panel=options.OUTPUT,
        help="Draw the results of --sweep, which it implies.",
    ),
]


@options.with_shared_options
def bench(
    model: options.BenchModelOptions,
    terminal: options.TerminalOptions,
    videos: Videos = None,
    precision: Precisions = "auto",
    runtime: Runtimes = "auto",
    baselines: Baselines = None,
    crops: Crops = False,
    rounds: Rounds = 5,
    sweep: Sweep = False,
    format_: options.ReportFormatOption = "table",
    output: options.NumbersOutput = None,
    picture: Picture = None,
) -> None:
    precisions = _parsed("--precision", precision, get_args(Precision))
    runtimes = _parsed("--runtime", runtime, get_args(RuntimeName))
    source = str(model.name_or_file)
    if output is not None:
        labelled.check_writable(output, source)
    if picture is not None:
        labelled.check_picture(picture, source, option="--picture")
    paths = tuple(expand(videos or (), warn=terminal.warn))
    if videos and not paths:
        raise UsageError("no videos found; give videos, folders of videos, or nothing")

    from adafocus_cli.benchmark import reference
    from adafocus_cli.benchmark.measure import BenchRequest, measure

    request = BenchRequest(
        source=source,
        patch_size=model.patch_size,
        variants=tuple(
            replace(model, precision=precision, runtime=runtime) for precision in precisions for runtime in runtimes
        ),
        baselines=reference.chosen(baselines),
        crops=crops,
        rounds=rounds,
        sweep=sweep or picture is not None,
        paths=paths,
    )
    if baselines is None and not reference.has_torchvision():
        terminal.note("torchvision is not installed, so fewer networks are compared; pip install 'adafocus-cli[bench]'")
    with terminal.showing_log("adafocus"), terminal.progress(into_stdout=False) as bar:
        report = measure(request, lambda text: bar.show(text, done=0, total=None))
    _write(report, output, picture)
    _show(report, format_)


def _parsed(option: str, given: str, known: tuple[_Name, ...]) -> tuple[_Name, ...]:
    """The names of a comma-separated list, each once."""
    names = dict.fromkeys(given.split(","))
    by_name: dict[str, _Name] = {name: name for name in known}
    for name in names:
        if name not in known:
            raise UsageError(
                f"{option} {name!r} is not known; give one or more of {', '.join(known)}, separated by commas"
            )
    return tuple(by_name[name] for name in names)


def _write(report: BenchReport, output: Path | None, picture: Path | None) -> None:
    from adafocus_cli.files import replacing
    from adafocus_cli.output.writers import dumps

    if output is not None:
        with replacing(output) as file:
            file.write((dumps(report.to_dict(), indent=2) + "\n").encode())
    if picture is not None:
        from adafocus_cli.benchmark.report import draw

        with replacing(picture) as file:
            draw(report).save(file, "PNG")


def _show(report: BenchReport, format_: options.ReportFormat) -> None:
    if format_ == "json":
        write_json(report.to_dict())
        return
    from adafocus_cli.benchmark.report import layout

    with report_console() as console:
        console.print(layout(report))
