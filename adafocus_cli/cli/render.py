"""`adafocus render`: draws a result into its video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import is_same
from adafocus_cli.errors import UsageError, VideoError
from adafocus_cli.requests import ModelRequest, TagRequest
from adafocus_cli.video.remote import is_remote

if TYPE_CHECKING:
    from adafocus_cli.schema import Record
    from adafocus_cli.tagger import ClipTagger

HELP = """Draw the looks of the model, its labels and their cost into a video.

The box moves from look to look, and the meter grows with each. Sound and frame times are kept."""

EXAMPLES = """[bold]Examples[/bold]

Tag a video and draw the result:
  [cyan]adafocus render clip.mp4 -o looked.mp4[/cyan]
Draw a result of an earlier run:
  [cyan]adafocus render clip.mp4 --results tags.jsonl -o looked.webm[/cyan]
An animated GIF, and a picture of each look:
  [cyan]adafocus render clip.mp4 -o looked.gif --frames looks/[/cyan]"""

Video = Annotated[str, typer.Argument(metavar="VIDEO", help="The video to draw on; it is not changed.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=options.OUTPUT,
        help="Write the video to FILE: .mp4, .webm or .gif.",
    ),
]
Frames = Annotated[
    Path | None,
    typer.Option(
        "--frames", metavar="DIR", rich_help_panel=options.OUTPUT, help="Write a picture of each look into DIR."
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        rich_help_panel=options.INPUT,
        help="Take the record of VIDEO from FILE, such as tags.jsonl, instead of tagging it.",
    ),
]


@options.with_shared_options
def render(
    video: Video,
    model: options.RenderModelOptions,
    request: options.RenderTagOptions,
    terminal: options.TerminalOptions,
    output: Output = None,
    frames: Frames = None,
    results: Results = None,
    overwrite: options.Overwrite = False,
) -> None:
    _check_outputs(video, output, frames, overwrite=overwrite)
    if results is not None and model.source is not None:
        raise UsageError("--results cannot be used with --model or --weights; give one or the other")

    from adafocus_cli.render import process

    with terminal.progress(into_stdout=False) as bar:
        record = _tag(video, model, request) if results is None else _record_in(results, video)
        process.render(
            video,
            record,
            output=output,
            folder=frames,
            limits=request.limits,
            progress=lambda done, total: bar.show(f"{done} of {total} frames", done=done, total=total),
        )
    terminal.note(" and ".join(str(target) for target in (output, frames) if target is not None))


def _check_outputs(video: str, output: Path | None, frames: Path | None, *, overwrite: bool) -> None:
    from adafocus_cli.render.process import kind_of

    if is_remote(video):
        raise UsageError(f"{video} is not a local file; copy it to this machine first")
    if output is None and frames is None:
        raise UsageError("nothing to write; give --output FILE for a video, --frames DIR for pictures, or both")
    if output is not None:
        kind_of(output)
        if is_same(output, video):
            raise UsageError(f"{output} is the input video; give another file")
        options.check_folder_of(output)
    for target in (output, frames):
        if target is not None and not overwrite and _is_taken(target):
            raise UsageError(f"{target} exists; give another one, or --overwrite to replace it")


def _is_taken(target: Path) -> bool:
    return any(target.iterdir()) if target.is_dir() else target.exists()


def _tag(video: str, model: ModelRequest, request: TagRequest) -> Record:
    from adafocus_cli.engine.local import tag_files
    from adafocus_cli.schema import Failure

    def load() -> ClipTagger:
        from adafocus_cli.tagger import ClipTagger

        return ClipTagger.of(model)

    (result,) = tag_files([video], load, replace(request, workers=1))
    if isinstance(result, Failure):
        raise VideoError(result.message, stage=result.stage)
    return result.to_dict()


def _record_in(results: Path, video: str) -> Record:
    """The last record of the video, under this path or another one that leads to the same file."""
    from adafocus_cli.output.journal import whole_records
    from adafocus_cli.schema import path_of

    options.check_results(results)
    found: Record | None = None
    for record in whole_records(results):
        if path_of(record) == video or is_same(Path(path_of(record)), video):
            found = record
    if found is None:
        raise UsageError(f"{results} has no record of {video}; tag it first, or leave out --results")
    return found
