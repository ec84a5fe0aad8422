"""The output of `adafocus models`: the list, one model, and the states of installed ones; as tables and as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from adafocus_cli import labels as label_lists
from adafocus_cli.cli.terminal import report_console
from adafocus_cli.errors import counted, printable
from adafocus_cli.library.catalogue import INCLUDED as INCLUDED_MODELS
from adafocus_cli.output.texts import percent
from adafocus_cli.schema import gmacs_digits, in_gmacs
from adafocus_cli.spec import sees_whole_frames

if TYPE_CHECKING:
    from rich.console import Console

    from adafocus_cli.evaluation.quantisation import QuantisationReport
    from adafocus_cli.library.catalogue import Catalogue, CatalogueEntry
    from adafocus_cli.library.store import FileState, InstalledModel, ModelStore

INSTALLED = Text("✓ installed", style="green")
INCLUDED = Text("✓ included", style="green")
PULL = Text("↓ pull", style="cyan")
BY_HAND = Text("by hand", style="dim")
NOT_RELEASED = Text("not released", style="dim")

CONVENTION = (
    "Accuracy and cost as published. GMACs are 10⁹ multiply-adds a video without decoding; papers call them FLOPs. "
    "MB is the size of the weights; a published file may hold more."
)
NEXT_STEPS = "adafocus models show NAME: details · pull NAME: download · by hand: show NAME says how"

_MARGIN = 11

_STATES: Mapping[str, tuple[str, str]] = {
    "intact": ("✓ intact", "green"),
    "changed": ("✗ changed since it was installed; remove it and install it again", "red"),
    "missing": ("✗ not installed", "red"),
}


def list_record(entries: Catalogue, store: ModelStore) -> list[dict[str, Any]]:
    installed = store.installed()
    published = [{**_published(entry), "installed": store.has(entry.name)} for entry in entries.entries]
    own = [_installed_only(store, name) for name in installed if entries.find(name) is None]
    return [*published, *own]


def show_record(name: str, entries: Catalogue, store: ModelStore) -> dict[str, Any]:
    entry = _resolved(name, entries)
    described = _published(entry) if entry else _installed_only(store, name)
    record = store.record_of(name)
    labels = described["labels"]
    origin = asdict(label_lists.origin(labels)) if labels in label_lists.packaged_names() else None
    names = _label_names(name, entry, store)
    return {
        **described,
        "labels_origin": origin,
        "label_names": list(names) if names else None,
        "installed": store.has(name),
        "path": str(store.path_of(name)) if store.has(name) else None,
        "record": asdict(record) if record else None,
    }


def _label_names(name: str, entry: CatalogueEntry | None, store: ModelStore) -> tuple[str, ...] | None:
    """What the model's classes are called, by its list or its file; None if nobody knows before it is installed."""
    if entry and (listed := entry.label_set()):
        return listed.names
    if not store.has(name):
        return None
    from adafocus_cli.weights_file import read_about

    about = read_about(store.path_of(name))
    if about.labels is None and about.spec.dataset in label_lists.packaged_names():
        return label_lists.packaged(str(about.spec.dataset)).names
    return about.labels


def _resolved(name: str, entries: Catalogue) -> CatalogueEntry | None:
    entry = entries.find(name)
    return entry.resolved() if entry else None


def _published(entry: CatalogueEntry) -> dict[str, Any]:
    return {**asdict(entry), "spec": dict(entry.spec)}


def _installed_only(store: ModelStore, name: str) -> dict[str, Any]:
    record = store.record_of(name)
    known = {field: getattr(record, field, None) for field in ("family", "dataset", "patch_size", "labels")}
    unknown = dict.fromkeys(("metric", "accuracy", "gmacs", "purpose"))
    return {
        "name": name,
        **known,
        **unknown,
        "megabytes": round(record.bytes / 1e6, 1) if record else None,
        "installed": True,
    }


def print_list(entries: Catalogue, store: ModelStore) -> None:
    """Prints one table per data set."""
    records = list_record(entries, store)
    with report_console() as console:
        _print_purposes(console, records)
        for dataset in dict.fromkeys(record["dataset"] for record in records):
            members = [record for record in records if record["dataset"] == dataset]
            console.print(_heading(dataset))
            console.print(_members(members, name_width=max(len(record["name"]) for record in records)))
            console.print()
        console.print(Text(CONVENTION, style="dim"))
        console.print(Text(NEXT_STEPS, style="dim"))


def _print_purposes(console: Console, records: list[dict[str, Any]]) -> None:
    """Which model to take, for those who do not know them yet."""
    recommended = [record for record in records if record.get("purpose")]
    if not recommended:
        return
    console.print(Text("Recommended", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for record in recommended:
        name = Text(printable(record["name"]), style="cyan", overflow="fold")
        table.add_row(name, Text(printable(record["purpose"])), _status(record))
    console.print(table)
    console.print()


def _heading(dataset: str | None) -> Text:
    if dataset is None:
        return Text("Others", style="bold")
    if dataset not in label_lists.packaged_names():
        return Text(printable(dataset), style="bold")
    title = label_lists.origin(dataset).title.partition(",")[0]
    return Text.assemble((title, "bold"), (f"  {len(label_lists.packaged(dataset))} classes", "dim"))


def _members(records: list[dict[str, Any]], *, name_width: int) -> Table:
    metric = next((record["metric"] for record in records if record["metric"]), "acc.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("name", style="cyan", min_width=min(name_width, 26), overflow="fold")
    for title, width in (("patch", 5), (printable(str(metric)), 5), ("GMACs", 5), ("MB", 3)):
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    table.add_column("", no_wrap=True)
    for record in records:
        status = _status(record)
        table.add_row(
            printable(record["name"]),
            _or_dash(record["patch_size"]),
            _or_dash(record["accuracy"], "{:.1f}".format),
            _or_dash(record["gmacs"], gmacs_digits),
            _or_dash(record.get("megabytes"), "{:.0f}".format),
            status,
        )
    return table


def _status(record: dict[str, Any]) -> Text:
    if record["installed"]:
        return INCLUDED if record["name"] in INCLUDED_MODELS else INSTALLED
    if record.get("url") or record.get("torchvision"):
        return PULL
    return BY_HAND if record.get("page") else NOT_RELEASED


def _or_dash(value: float | None, write: Callable[[float], str] = str) -> Text:
    return Text("–", style="dim") if value is None else Text(write(value))


def print_model(name: str, entries: Catalogue, store: ModelStore) -> None:
    entry, record = _resolved(name, entries), store.record_of(name)
    rows = [*_entry_rows(entry), *_published_file_rows(entry)] if entry else _own_rows(store, name)
    with report_console() as console:
        console.print(Text(name, style="bold cyan"))
        names = _label_names(name, entry, store)
        listed = [("names", " · ".join(names))] if names else []
        for title, text in [*rows, *_installation_rows(name, entry, record, store), *listed]:
            console.print(_row(title, printable(text), console.width), soft_wrap=True)


def _row(title: str, text: str, width: int) -> Text:
    """Wrapped between words only, so that addresses and hashes can be copied."""
    margin = " " * _MARGIN
    lines = wrap(text, max(width - _MARGIN, 20), break_long_words=False, break_on_hyphens=False)
    return Text.assemble((title.ljust(_MARGIN), "dim"), f"\n{margin}".join(lines))


def _entry_rows(entry: CatalogueEntry) -> Iterable[tuple[str, str]]:
    yield "family", entry.family
    yield "data set", _dataset(entry.dataset)
    yield "patches", _patches(entry.patch_size, entry.family)
    glance, focus, candidates = (entry.spec.get(f"{kind}_frames") for kind in ("glance", "focus", "candidate"))
    if glance and focus:
        chosen = f", chosen among {candidates} frames" if candidates else ""
        yield "frames", f"{glance} for the glance, {focus} looks{chosen}"
    if entry.accuracy is not None:
        views = f", with {entry.views} views" if entry.views else ""
        yield "accuracy", f"{entry.accuracy:.1f} {entry.metric or ''}{views}"
    if entry.gmacs is not None:
        yield (
            "cost",
            f"{in_gmacs(entry.gmacs)} a {'view' if entry.views else 'video'} (the paper's GFLOPs), decoding excluded",
        )
    if entry.accuracy is None:
        yield "accuracy", "not published in a table"
    if entry.table:
        yield "source", entry.table
    yield from _label_rows(entry.labels or "those in the file")
    if entry.megabytes is not None:
        yield "size", f"{entry.megabytes:.0f} MB of weights"
    if entry.licence:
        yield "licence", entry.licence
    if entry.note:
        yield "note", entry.note


def _published_file_rows(entry: CatalogueEntry) -> Iterable[tuple[str, str]]:
    yield "file", entry.file
    if entry.url:
        yield "address", entry.url
    if entry.page:
        yield "page", entry.page
    if entry.sha256:
        yield "SHA-256", f"{entry.sha256} (of the published file, says the catalogue)"


def _own_rows(store: ModelStore, name: str) -> Iterable[tuple[str, str]]:
    record = store.record_of(name)
    if record is None:
        return
    yield "family", record.family
    yield "data set", _dataset(record.dataset)
    yield "patches", _patches(record.patch_size, record.family)
    yield "classes", str(record.classes)
    yield from _label_rows(record.labels)


def _patches(size: int | None, family: str) -> str:
    if size is not None:
        return f"{size} × {size} px"
    # A list of one's own may leave to the file how large they are.
    return "none, it uses whole frames" if sees_whole_frames(family) else "not given"


def _dataset(name: str | None) -> str:
    if name in label_lists.packaged_names():
        return f"{label_lists.origin(str(name)).title} ({name})"
    return name or "not known"


def _label_rows(labels: str | None) -> Iterable[tuple[str, str]]:
    if labels not in label_lists.packaged_names():
        yield "labels", labels or "none; classes are shown as numbers"
        return
    origin = label_lists.origin(str(labels))
    yield "labels", f"{labels}, {len(label_lists.packaged(str(labels)))} names, {origin.order}"
    yield "", f"certainty of the order: {origin.sureness}; {origin.reason}"


def _installation_rows(
    name: str, entry: CatalogueEntry | None, record: InstalledModel | None, store: ModelStore
) -> Iterable[tuple[str, str]]:
    if store.has(name):
        yield "installed", str(store.path_of(name))
        if record:
            yield "", f"{record.bytes / 1e6:.1f} MB, since {record.added[:10]}"
            yield "SHA-256", record.sha256
    elif entry:
        yield "installed", f"no; {entry.how_to_get}"
    if record:
        yield "made from", record.source
        yield "SHA-256", f"{record.source_sha256} (first seen {record.added[:10]})"


def print_states(states: Mapping[str, FileState]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, state in states.items():
        text, style = _STATES[state]
        if state != "intact" and name in INCLUDED_MODELS:
            text = "✗ changed since adafocus was installed; reinstall adafocus"
        table.add_row(Text(printable(name), style="cyan"), Text(text, style=style))
    with report_console() as console:
        console.print(table)


def print_quantisation(report: QuantisationReport) -> None:
    rows = [("videos", str(report.videos)), ("same first label", percent(report.same_first))]
    rows.append(("scores", f"differ by {report.score:.5f} in the mean"))
    if report.moved is not None:
        rows.append(("patches", f"{percent(report.moved)} elsewhere"))
    if report.accuracy is not None:
        rows.append(("top-1", " in fp32, ".join(map(percent, report.accuracy)) + " in int8"))
    for name, chosen in report.networks.items():
        kept = f", {' and '.join(chosen.kept)} in full precision" if chosen.kept else ""
        layers = f"{counted(len(chosen.ranges), 'layer')} in eight bits{kept}"
        rows.append((name, f"{layers}; its maps move by {percent(chosen.error)} of their spread"))
    for names, same in report.refused:
        rows.append(("not taken", f"{' and '.join(names)} in eight bits: same first label {percent(same)}"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for title, text in rows:
        table.add_row(Text(title, style="dim"), text)
    with report_console() as console:
        console.print(table)
