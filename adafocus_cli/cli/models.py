"""`adafocus models`: lists, installs, checks and converts models."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adafocus_cli.cli import labelled, options
from adafocus_cli.cli.command import CommandLine
from adafocus_cli.cli.terminal import write_json
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.requests import ModelRequest, TagRequest

if TYPE_CHECKING:
    from adafocus_cli.cli.terminal import Terminal
    from adafocus_cli.library.catalogue import Catalogue
    from adafocus_cli.library.download import Progress
    from adafocus_cli.library.store import InstalledModel, ModelStore
    from adafocus_cli.schema import Failure, Result
    from adafocus_cli.tagger import ClipTagger

NOTHING_INTACT = 1
SOME_CHANGED = 3

HELP = """List, download, check and convert models.

Use an installed model by its name: adafocus classify --model NAME"""

EXAMPLES = """[bold]Examples[/bold]

All models, and which are installed:
  [cyan]adafocus models list[/cyan]
Download and check a published model:
  [cyan]adafocus models pull v2-activitynet-p128-mbv2[/cyan]
Choose ranges for eight bits from your own videos, and use them:
  [cyan]adafocus models quantize objects --videos videos/ -o objects8.safetensors[/cyan]
  [cyan]adafocus classify video.mp4 -w objects8.safetensors --precision int8[/cyan]
Install one that only a browser can download, or your own:
  [cyan]adafocus models add 128s3_checkpoint.pth.tar --name v1-activitynet-p128[/cyan]

Models are stored in [cyan]ADAFOCUS_HOME[/cyan], or in the user's data folder."""

app = CommandLine(help=HELP, epilog=EXAMPLES)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a model.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAMES", help="Models to check.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A published checkpoint, or a file that convert wrote.")]
CatalogueOption = Annotated[
    str | None,
    typer.Option("--catalogue", metavar="FILE|URL", help="Also use the catalogue of models in FILE."),
]
AcceptChanged = Annotated[
    bool,
    typer.Option("--accept-changed", metavar="", help="Accept a file that has changed since it was first installed."),
]
NewName = Annotated[str, typer.Option("--name", metavar="NAME", help="Name for the installed model.")]
NameInside = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="Name to store in the file; a name of the catalogue also adds its data."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The safetensors file to write.")]
SeenVideos = Annotated[
    str, typer.Option("--videos", metavar="DATA", help="Folder of videos, list of them, or world:motion.")
]
All = Annotated[bool, typer.Option("--all", metavar="", help="Check all installed models.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


@app.command("list", help="List the published models and the installed ones.")
@options.with_shared_options
def list_(
    terminal: options.VerboseOption,
    catalogue: CatalogueOption = None,
    format_: options.ReportFormatOption = "table",
) -> None:
    from adafocus_cli.cli.models_view import list_record, print_list
    from adafocus_cli.library.store import ModelStore

    entries, store = _catalogue(catalogue), ModelStore()
    if format_ == "json":
        write_json(list_record(entries, store))
    else:
        print_list(entries, store)


@app.command(help="Show a model: accuracy, cost, files, labels, and how certain their order is.")
@options.with_shared_options
def show(
    name: Name,
    terminal: options.VerboseOption,
    catalogue: CatalogueOption = None,
    format_: options.ReportFormatOption = "table",
) -> None:
    from adafocus_cli.cli.models_view import print_model, show_record
    from adafocus_cli.library.store import ModelStore

    entries, store = _catalogue(catalogue), ModelStore()
    _check_known(name, entries, store)
    if format_ == "json":
        write_json(show_record(name, entries, store))
    else:
        print_model(name, entries, store)


@app.command(help="Download, check and install a published model. An interrupted download is resumed.")
@options.with_shared_options
def pull(
    name: Name,
    terminal: options.TerminalOptions,
    catalogue: CatalogueOption = None,
    accept_changed: AcceptChanged = False,
) -> None:
    from adafocus_cli.library.store import ModelStore

    entry, store = _catalogue(catalogue)[name], ModelStore()
    if not accept_changed and store.has(name) and store.state_of(name) == "intact":
        terminal.note(f"{name} is already installed and intact")
        return
    if entry.url is not None:
        terminal.detail(f"downloading {entry.url}")
    from adafocus_cli.library import install

    with _download_bar(terminal, entry.file) as on_progress:
        record = install.pull(store, entry, accept_changed=accept_changed, on_progress=on_progress)
    _note_installed(terminal, store, record)


@app.command(help="Install a checkpoint file under a name.")
@options.with_shared_options
def add(
    file: File,
    name: NewName,
    terminal: options.TerminalOptions,
    patch_size: options.PatchSize = None,
    labels: options.Labels = None,
    catalogue: CatalogueOption = None,
    accept_changed: AcceptChanged = False,
) -> None:
    from adafocus_cli.library.catalogue import check_name, check_replaceable
    from adafocus_cli.library.store import ModelStore

    check_replaceable(name)
    source = _existing(file)
    entry, store = _catalogue(catalogue).find(check_name(name)), ModelStore()
    if store.has(name) and not accept_changed and store.state_of(name) == "intact":
        raise ModelError(f"{name} is already installed; remove it first: adafocus models remove {name}")
    from adafocus_cli.library import install

    record = install.add(
        store, source, name, entry, patch_size=patch_size, labels=labels, accept_changed=accept_changed
    )
    _note_installed(terminal, store, record)


@app.command(help="Check that installed models have not changed.")
@options.with_shared_options
def verify(
    terminal: options.VerboseOption,
    names: Names = None,
    all_: All = False,
    format_: options.ReportFormatOption = "table",
) -> None:
    from adafocus_cli.cli.models_view import print_states
    from adafocus_cli.library.catalogue import INCLUDED
    from adafocus_cli.library.store import ModelStore

    store = ModelStore()
    if all_ == bool(names):
        raise UsageError("give names of models to verify, or --all")
    for name in names or ():
        if store.record_of(name) is None:
            _check_known(name, _catalogue(None), store)
    states = {name: store.state_of(name) for name in names or (*INCLUDED, *store.installed())}
    if format_ == "json":
        write_json([{"name": name, "state": state} for name, state in states.items()])
    else:
        print_states(states)
    bad = [name for name, state in states.items() if state != "intact"]
    if bad:
        raise typer.Exit(SOME_CHANGED if len(bad) < len(states) else NOTHING_INTACT)


@app.command(help="Convert a checkpoint to one safetensors file that describes itself and loads faster.")
@options.with_shared_options
def convert(
    file: File,
    output: Output,
    terminal: options.TerminalOptions,
    name: NameInside = None,
    patch_size: options.PatchSize = None,
    labels: options.Labels = None,
    catalogue: CatalogueOption = None,
) -> None:
    source = _existing(file)
    _check_safetensors(output)
    from adafocus_cli.library.catalogue import check_name
    from adafocus_cli.library.install import convert_file
    from adafocus_cli.models import family_named

    entry = _catalogue(catalogue).find(check_name(name)) if name else None
    about = convert_file(source, output, name=name, entry=entry, patch_size=patch_size, labels=labels)
    spec = about.spec
    seen = "patches" if family_named(spec.family).cuts_patches else "whole frames"
    terminal.note(f"wrote {output}: {spec.family}, {spec.classes} classes, {seen} of {spec.patch_size} px")


QUANTIZE = """Choose ranges for --precision int8 from your own videos, and write a model file that has them.

The model runs over the videos in full precision and in eight bits; what that changes is printed, and decides which of \
its two networks are rounded. Where folders or a list give labels, so is the accuracy."""
QUANTIZE_EXAMPLES = """[bold]Examples[/bold]

  [cyan]adafocus models quantize objects --videos examples/ -o objects8.safetensors[/cyan]
  [cyan]adafocus models quantize mine.pth --videos videos.csv --limit 50 -o mine8.safetensors -f json[/cyan]"""


@app.command(help=QUANTIZE, epilog=QUANTIZE_EXAMPLES)
@options.with_shared_options
def quantize(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a model, or its file.")],
    videos: SeenVideos,
    output: Output,
    terminal: options.TerminalOptions,
    patch_size: options.PatchSize = None,
    labels: options.Labels = None,
    limit: options.Limit = None,
    format_: options.ReportFormatOption = "table",
) -> None:
    _check_safetensors(output)
    labelled.check_writable(output, videos)
    if find_spec("openvino") is None:
        raise UsageError('models quantize needs a library: pip install "adafocus-cli[openvino]"')
    from adafocus_cli.cli.models_view import print_quantisation
    from adafocus_cli.evaluation.quantisation import quantise_model

    request = ModelRequest(source=name, patch_size=patch_size, labels=labels)
    dataset, are_labelled = labelled.with_or_without_labels(videos, limit, terminal)

    failures: tuple[Failure, ...] = ()

    def tag(tagger: ClipTagger) -> dict[int, Result]:
        nonlocal failures
        results: dict[int, Result] = {}
        failures = labelled.tag(dataset, tagger, TagRequest(), terminal, take=results.__setitem__)
        return results

    report = quantise_model(request, dataset, output, tag, labelled=are_labelled)
    terminal.note(f"wrote {output}; use it with -w {output} --precision int8")
    if format_ == "json":
        write_json(report.to_dict())
    else:
        print_quantisation(report)
    labelled.end_with(failures, dataset, terminal)


@app.command(help="Remove an installed model. The hash of a published file is kept.")
@options.with_shared_options
def remove(name: Name, terminal: options.TerminalOptions) -> None:
    from adafocus_cli.library import catalogue
    from adafocus_cli.library.store import ModelStore

    catalogue.check_replaceable(name)
    entries, store = catalogue.packaged(), ModelStore()
    if not store.has(name):
        _check_known(name, entries, store)
        with store.exclusively(name):
            if not store.forget_download(name):
                raise ModelError(f"{name} is not installed; there is nothing to remove")
        terminal.note(f"removed the download of {name}")
        return
    with store.exclusively(name):
        record = store.record_of(name)
        published = entries.find(name) is not None or (record is not None and record.url is not None)
        store.remove(name, keep_record=published)
    terminal.note(f"removed {name}")


def _catalogue(source: str | None) -> Catalogue:
    """The packaged catalogue, with another one before it."""
    from adafocus_cli.library import catalogue

    packaged = catalogue.packaged()
    return packaged if source is None else catalogue.read(source).before(packaged)


def _check_safetensors(output: Path) -> None:
    if output.suffix != ".safetensors":
        raise UsageError(f"{output} is not a safetensors file; give a name that ends in .safetensors")


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ModelError(f"there is no file {file}; check the path")
    return file


def _check_known(name: str, entries: Catalogue, store: ModelStore) -> None:
    from adafocus_cli.library.catalogue import unknown

    if entries.find(name) is None and name not in store.installed():
        raise unknown(name, [*store.installed(), *entries.by_name])


def _note_installed(terminal: Terminal, store: ModelStore, record: InstalledModel) -> None:
    terminal.note(f"{record.name} is installed; use it with --model {record.name}")
    terminal.detail(f"file {store.path_of(record.name)}, SHA-256 of the original {record.source_sha256}")


@contextmanager
def _download_bar(terminal: Terminal, title: str) -> Iterator[Progress]:
    """A progress bar of a download, on a terminal."""
    if terminal.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def show_progress(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield show_progress
