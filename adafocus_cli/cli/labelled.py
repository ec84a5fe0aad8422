"""Labelled videos for `evaluate`, `calibrate` and `train`: reads them, tags them, writes their numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from adafocus_cli.cli import options
from adafocus_cli.cli.inputs import expand_listed, is_video_name
from adafocus_cli.cli.terminal import Terminal
from adafocus_cli.errors import AdaFocusError, UsageError, counted
from adafocus_cli.requests import TagRequest

if TYPE_CHECKING:
    from adafocus_cli.evaluation.data import Dataset
    from adafocus_cli.schema import Failure, Result
    from adafocus_cli.tagger import ClipTagger


def read(data: str, root: Path | None, terminal: Terminal) -> Dataset:
    from adafocus_cli.evaluation.data import Finder
    from adafocus_cli.evaluation.data import read as read_data

    finder = Finder(walk=lambda folder: expand_listed([folder], warn=terminal.warn), is_video=is_video_name)
    return read_data(data, finder=finder, root=root)


def choose(data: str, root: Path | None, limit: int | None, seed: int, terminal: Terminal) -> tuple[Dataset, int]:
    """The samples to tag, and how many there are in all; of a synthetic world, both are what was asked for."""
    from adafocus_cli.evaluation.frames import SCENES, is_scene, scenes

    if is_scene(data):
        if root is not None:
            raise UsageError(f"--root is for lists, and {data} is a synthetic world; leave it out")
        dataset = scenes(data, SCENES if limit is None else limit, seed)
        return dataset, len(dataset)
    everything = read(data, root, terminal)
    return everything if limit is None else everything.limited(limit, seed), len(everything)


def with_or_without_labels(data: str, limit: int | None, terminal: Terminal) -> tuple[Dataset, bool]:
    """The videos of a folder, a list or a synthetic world, and whether each has a label; of a folder, that is the name
    of the folder in it that the video is in."""
    top = Path(data)
    if not top.is_dir():
        return choose(data, None, limit, 0, terminal)[0], True
    from adafocus_cli.evaluation.data import Dataset, Sample

    videos = tuple(expand_listed([data], warn=terminal.warn))
    if not videos:
        raise UsageError(f"there are no videos in {data}; give a folder of videos, or a list")
    folders = [Path(video).relative_to(top).parts[:-1] for video in videos]
    samples = (Sample(video, folder[0] if folder else "") for video, folder in zip(videos, folders, strict=True))
    dataset = Dataset(tuple(samples), data)
    return dataset if limit is None else dataset.limited(limit, 0), all(folders)


def tag(
    dataset: Dataset,
    tagger: ClipTagger,
    request: TagRequest,
    terminal: Terminal,
    *,
    take: Callable[[int, Result], None],
) -> tuple[Failure, ...]:
    """Gives every result to `take`, with the index of its sample, and returns the failures; if all fail, raises."""
    from adafocus_cli.evaluation.frames import tag_samples
    from adafocus_cli.schema import Failure

    failed: dict[int, Failure] = {}
    with (
        terminal.showing_log("adafocus"),
        terminal.progress(into_stdout=False) as bar,
        closing(tag_samples(dataset.samples, tagger, request)) as results,
    ):
        for done, (index, result) in enumerate(results, 1):
            if isinstance(result, Failure):
                failed[index] = result
            take(index, result)
            bar.update(done=done, total=len(dataset), failed=len(failed))
    failures = tuple(failed[index] for index in sorted(failed))
    if len(failures) == len(dataset):
        videos = counted(len(dataset), "video")
        raise AdaFocusError(f"none of {videos} could be tagged; the first: {failures[0].message}")
    return failures


def end_with(failures: tuple[Failure, ...], dataset: Dataset, terminal: Terminal) -> None:
    """Exits with the status for some failures, if there are any."""
    if failures:
        videos = counted(len(dataset), "video")
        terminal.note(f"{len(failures)} of {videos} could not be tagged and are not in the numbers")
        raise typer.Exit(options.SOME_FAILED)


def check_writable(path: Path, data: str) -> None:
    if is_video_name(path.name) or path.resolve() == Path(data).resolve():
        raise UsageError(f"{path} is an input or has the name of a video, and would be overwritten; give another file")
    if path.is_dir() or str(path) == "-" or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write to {path}; give a file in a folder that exists and can be written")


def write_numbers(path: Path, value: Any) -> None:
    from adafocus_cli.files import replacing
    from adafocus_cli.output.writers import dumps

    with replacing(path) as file:
        file.write((dumps(value, indent=2) + "\n").encode())


def check_picture(path: Path, data: str, *, option: str) -> None:
    check_writable(path, data)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{option} writes a PNG picture, and {path} does not end in .png; give FILE.png")
