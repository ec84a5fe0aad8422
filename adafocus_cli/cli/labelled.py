"""Labelled videos as commands take them: the options that name them, how they are read, and a model's pass over them.

Knows nothing of what is made of the answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import expand_listed, is_video_name
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.requests import TagRequest

if TYPE_CHECKING:
    from adafocus_cli.evaluation.data import Dataset
    from adafocus_cli.schema import Failure, Result
    from adafocus_cli.tagger import ClipTagger

Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder of class folders, a list, or world:NAME, a made-up world.")
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        rich_help_panel=options.INPUT,
        help="Where the videos of a list are, or folders of their frames as images; without it, beside the list.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=options.INPUT,
        help="Only a sample of N videos, each class with its share; of a made-up world, how many scenes.",
        show_default="all; 500 scenes",
    ),
]


def read(data: str, root: Path | None, terminal: Terminal) -> Dataset:
    from adafocus_cli.evaluation.data import Finder
    from adafocus_cli.evaluation.data import read as read_data

    finder = Finder(walk=lambda folder: expand_listed([folder], warn=terminal.warn), is_video=is_video_name)
    return read_data(data, finder=finder, root=root)


def choose(data: str, root: Path | None, limit: int | None, seed: int, terminal: Terminal) -> tuple[Dataset, int]:
    """What is to be tagged, and of how many it is a sample. A world has scenes without end: all that are asked for."""
    from adafocus_cli.evaluation.scenes import COUNT, is_scene, scenes

    if is_scene(data):
        if root is not None:
            raise UsageError(f"--root says where the videos of a list are, but {data} is made up; leave it out")
        made_up = scenes(data, COUNT if limit is None else limit, seed)
        return made_up, len(made_up)
    everything = read(data, root, terminal)
    return everything if limit is None else everything.limited(limit, seed), len(everything)


def tag(
    dataset: Dataset,
    tagger: ClipTagger,
    request: TagRequest,
    terminal: Terminal,
    *,
    take: Callable[[int, Result], None],
) -> tuple[Failure, ...]:
    """Gives every result to `take`, with the place of its sample; the failures. None tagged is an error."""
    from adafocus_cli.evaluation.frames import tag_samples
    from adafocus_cli.schema import Failure

    failed: dict[int, Failure] = {}
    with (
        terminal.showing_log("adafocus"),
        terminal.progress(into_stdout=False) as bar,
        closing(tag_samples(dataset.samples, tagger, request)) as results,
    ):
        for done, (place, result) in enumerate(results, 1):
            if isinstance(result, Failure):
                failed[place] = result
            take(place, result)
            bar.update(done=done, total=len(dataset), failed=len(failed))
    failures = tuple(failed[place] for place in sorted(failed))
    if len(failures) == len(dataset):
        raise AdaFocusError(f"none of the {len(dataset)} videos could be tagged; the first: {failures[0].message}")
    return failures


def end_with(failures: tuple[Failure, ...], dataset: Dataset, terminal: Terminal) -> None:
    """The exit status tells that the numbers are not over all videos."""
    if failures:
        terminal.note(f"{len(failures)} of {len(dataset)} videos could not be tagged; the numbers are over the others")
        raise typer.Exit(options.SOME_FAILED)


def check_writable(path: Path, data: str) -> None:
    if is_video_name(path.name) or path.resolve() == Path(data).resolve():
        raise UsageError(f"{path} is an input or named like one, and would be lost; give another output file")
    if path.is_dir() or str(path) == "-" or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write to {path}; give a file in a folder that exists and can be written to")


def check_picture(path: Path, data: str, *, option: str) -> None:
    check_writable(path, data)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{option} draws a PNG picture, but {path} is not called so; name it FILE.png")
