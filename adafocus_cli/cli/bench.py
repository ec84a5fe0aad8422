"""`adafocus bench`: how fast a model is on this machine, and where its time goes.

Parses, calls, shows and writes; knows nothing of how it is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.inputs import expand
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import UsageError

if TYPE_CHECKING:
    from adafocus_cli.benchmark.report import Report

HELP = """Say how fast a model is on this machine: by itself, decoding, and from file to answer.

Beside it, in the same run, what else one could take: the model as its authors run it, and other networks. A model \
that is not installed gets made-up weights, which does not change its speed. Without videos, one is made."""

EXAMPLES = """[bold]Examples[/bold]

Under a minute, with the usual model:
  [cyan]adafocus bench[/cyan]
A published model in two precisions, on videos of one's own:
  [cyan]adafocus bench videos/ -m v1-activitynet-p128 --precision fp32,bf16[/cyan]
Beside all other networks, each on 30 crops, too:
  [cyan]adafocus bench --baselines all --crops -o bench.json[/cyan]
What more frames, larger patches and longer videos cost:
  [cyan]adafocus bench -m v2-activitynet-p128-mbv2 --picture seconds.png[/cyan]"""

COMPARED = "Compared"

Videos = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEOS", help="Videos, folders of videos, or patterns such as '*.mp4'."),
]
Precisions = Annotated[
    str,
    typer.Option(
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        help="What the networks calculate with, one or more of auto, fp32, tf32, bf16 and fp16; auto is fp32.",
    ),
]
Runtimes = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="NAME,NAME,…",
        rich_help_panel=options.MODEL,
        help="What runs the networks, one or more of auto, torch and openvino.",
    ),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,…",
        rich_help_panel=COMPARED,
        show_default="resnet50,r2plus1d_18",
        help="Other networks: resnet50 on whole frames; of torchvision r2plus1d_18, s3d, mvit_v2_s, swin3d_t; all; "
        "none.",
    ),
]
Crops = Annotated[
    bool,
    typer.Option(
        "--crops",
        metavar="",
        rich_help_panel=COMPARED,
        help="Run those of torchvision on 30 crops of a video as well, as papers do; once, for it takes minutes.",
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, rich_help_panel=COMPARED, help="How often all take their turn; medians are shown."
    ),
]
Sweep = Annotated[
    bool,
    typer.Option(
        "--sweep",
        metavar="",
        rich_help_panel=COMPARED,
        help="Also vary the frames, the patch, the batch and the length of the video.",
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
Picture = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", rich_help_panel=options.OUTPUT, help="Draw what --sweep finds; implies it."),
]


def bench(
    context: typer.Context,
    videos: Videos = None,
    model: options.ModelName = None,
    weights: options.Weights = None,
    patch_size: options.PatchSize = None,
    device: options.Device = "auto",
    precision: Precisions = "auto",
    runtime: Runtimes = "auto",
    batch_size: options.BatchSize = None,
    baselines: Baselines = None,
    crops: Crops = False,
    rounds: Rounds = 5,
    sweep: Sweep = False,
    format_: options.ReportFormatOption = "table",
    output: Output = None,
    picture: Picture = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    terminal: Terminal = context.obj
    terminal.quiet, terminal.verbose = quiet, verbose
    precisions = _parsed("--precision", precision, get_args(options.Precision))
    runtimes = _parsed("--runtime", runtime, get_args(options.RuntimeName))
    source = options.chosen_model(model, weights)
    if output is not None:
        labelled.check_writable(output, source)
    if picture is not None:
        labelled.check_picture(picture, source, option="--picture")
    paths = tuple(expand(videos or (), warn=terminal.warn))
    if videos and not paths:
        raise UsageError("there is no video in what was given; give videos or folders of them, or nothing")

    from adafocus_cli.benchmark import baselines as others
    from adafocus_cli.benchmark.measure import Request, measure
    from adafocus_cli.benchmark.subject import Variant

    request = Request(
        source=source,
        patch_size=patch_size,
        variants=tuple(
            Variant(device=device, precision=precision, batch_size=batch_size, runtime=runtime)
            for precision in precisions
            for runtime in runtimes
        ),
        baselines=others.chosen(baselines),
        crops=crops,
        rounds=rounds,
        sweep=sweep or picture is not None,
        paths=paths,
    )
    if baselines is None and not others.has_torchvision():
        terminal.note("torchvision is missing, so fewer networks are compared; pip install 'adafocus-cli[bench]'")
    with terminal.showing_log("adafocus"), terminal.progress(into_stdout=False) as bar:
        report = measure(request, lambda text: bar.show(text, done=0, total=None))
    _write(report, output, picture)
    _show(report, format_)


def _parsed(option: str, given: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Each once."""
    names = tuple(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(f"{option} {name!r} is none; give one or more of {', '.join(known)}, with commas")
    return names


def _write(report: Report, output: Path | None, picture: Path | None) -> None:
    from adafocus_cli.files import replacing
    from adafocus_cli.output.json_records import dumps

    if output is not None:
        with replacing(output) as file:
            file.write((dumps(report.to_dict(), indent=2) + "\n").encode())
    if picture is not None:
        from adafocus_cli.benchmark.picture import draw

        with replacing(picture) as file:
            draw(report).save(file, "PNG")


def _show(report: Report, format_: options.ReportFormat) -> None:
    if format_ == "json":
        from adafocus_cli.output.json_records import dumps

        typer.echo(dumps(report.to_dict(), indent=2))
        return
    from rich.console import Console

    from adafocus_cli.benchmark.table import layout

    Console(highlight=False).print(layout(report))
