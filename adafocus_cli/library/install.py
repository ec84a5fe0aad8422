"""Converts checkpoint files into our own format, and installs models from a download or a file.

Every checkpoint is strictly loaded before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from torch import Tensor

from adafocus_cli import checkpoint, weights_file
from adafocus_cli import labels as label_lists
from adafocus_cli.checkpoint import Checkpoint
from adafocus_cli.errors import ModelError
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.labels import LabelSet
from adafocus_cli.library import download
from adafocus_cli.library.catalogue import CatalogueEntry, check_replaceable
from adafocus_cli.library.download import Progress
from adafocus_cli.library.store import InstalledModel, ModelStore
from adafocus_cli.models import family_named
from adafocus_cli.spec import ModelSpec
from adafocus_cli.weights_file import About, Writable
from adafocus_cli.weights_packages import torchvision_weights


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our own format, ready to be written."""

    about: About
    tensors: Mapping[str, Tensor]

    def write(self, file: Writable) -> None:
        weights_file.write(file, self.about, self.tensors)


def convert(
    source: Path,
    *,
    name: str | None = None,
    entry: CatalogueEntry | None = None,
    patch_size: int | None = None,
    labels: str | None = None,
    source_sha256: str,
) -> Converted:
    """Loads a checkpoint for our own format; `entry` is the catalogue's entry of this file."""
    if entry is not None:
        patch_size = _agreed_patch_size(source, entry, patch_size)
        _check_frames(source, entry)
    loaded = checkpoint.load(source, patch_size=patch_size, changes=entry.changes if entry else None)
    names = _labels(labels, entry, loaded)
    spec = _with_dataset(loaded.spec, labels)
    first = loaded.about  # a file of our own keeps its first source, so that it stays the same model
    about = About(
        spec=spec,
        name=name,
        labels=names.names if names else None,
        labels_source=names.source if names else None,
        source=first.source if first and first.source_sha256 else source.name,
        training=first.training if first else None,
        source_sha256=(first and first.source_sha256) or source_sha256,
    )
    return Converted(about, loaded.stored)


def convert_file(
    source: Path,
    target: Path,
    *,
    name: str | None = None,
    entry: CatalogueEntry | None = None,
    patch_size: int | None = None,
    labels: str | None = None,
) -> About:
    """Converts `source` to `target`, which appears only when it is complete."""
    converted = convert(
        source, name=name, entry=entry, patch_size=patch_size, labels=labels, source_sha256=sha256_of(source)
    )
    try:
        with replacing(target) as file:
            converted.write(file)
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror}; give another file after --output") from error
    return converted.about


def _agreed_patch_size(source: Path, entry: CatalogueEntry, asked: int | None) -> int | None:
    """The catalogue's patch size; a file or an option with another one means another model."""
    for size, who in ((asked, "--patch-size is"), (checkpoint.patch_size_in(source), f"{source.name} is of")):
        if size and entry.patch_size and size != entry.patch_size:
            raise ModelError(
                f"{entry.name} has patches of {entry.patch_size} pixels, but {who} {size}; "
                "give the file of that model, or a name that is not in the catalogue"
            )
    return entry.patch_size or asked


def _check_frames(source: Path, entry: CatalogueEntry) -> None:
    in_file = checkpoint.frames_in(source)
    expected = entry.spec.get("glance_frames"), entry.spec.get("focus_frames")
    if in_file and entry.family == "uni-adafocus-tsm" and in_file != expected:
        raise ModelError(
            f"{entry.name} looks at {expected[1]} frames, {source.name} at {in_file[1]}; give the file of that model"
        )


def _labels(asked: str | None, entry: CatalogueEntry | None, loaded: Checkpoint) -> LabelSet | None:
    """The labels asked for, else the catalogue's, else the file's own, else its data set's."""
    spec = loaded.spec
    if asked is not None:
        return label_lists.resolve(asked, dataset=None, classes=spec.classes)
    names = entry.label_set() if entry else None
    names = names or (loaded.about.label_set if loaded.about else None)
    if names is None and spec.dataset in label_lists.packaged_names():
        names = label_lists.packaged(str(spec.dataset))
    return names.checked(spec.classes) if names else None


def _with_dataset(spec: ModelSpec, labels: str | None) -> ModelSpec:
    """Asking for the labels of a data set also names the data set."""
    if spec.dataset is None and labels in label_lists.packaged_names() and not Path(str(labels)).exists():
        return replace(spec, dataset=labels)
    return spec


def pull(
    store: ModelStore, entry: CatalogueEntry, *, accept_changed: bool = False, on_progress: Progress
) -> InstalledModel:
    """Downloads and installs a published model; an interrupted download is resumed."""
    check_replaceable(entry.name)
    entry = entry.resolved()
    if entry.url is None:
        raise ModelError(f"{entry.name} can only be downloaded with a browser; {entry.by_hand}")
    with store.exclusively(entry.name):
        file = store.download_of(entry)
        with store.writable():
            file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file():  # else only the installation was interrupted
            sha256 = torchvision_weights(entry.torchvision).sha256 if entry.torchvision else None
            download.fetch(entry.url, file, on_progress=on_progress, sha256=sha256, otherwise=entry.by_hand)
        try:
            record = _install(store, file, entry.name, entry, accept_changed=accept_changed, url=entry.url)
        except ModelError:
            store.forget_download(entry.name)
            raise
        store.forget_download(entry.name)
        return record


def add(
    store: ModelStore,
    source: Path,
    name: str,
    entry: CatalogueEntry | None,
    *,
    patch_size: int | None = None,
    labels: str | None = None,
    accept_changed: bool = False,
) -> InstalledModel:
    """Installs a checkpoint file under a name; `entry` is the catalogue's entry of that name."""
    with store.exclusively(name):
        return _install(
            store, source, name, entry, patch_size=patch_size, labels=labels, accept_changed=accept_changed, url=None
        )


def _install(
    store: ModelStore,
    source: Path,
    name: str,
    entry: CatalogueEntry | None,
    *,
    patch_size: int | None = None,
    labels: str | None = None,
    accept_changed: bool,
    url: str | None,
) -> InstalledModel:
    sha256 = _hash_of(source)
    if entry is not None:
        store.check_first_sight(entry, sha256, accept_changed=accept_changed)
    converted = convert(source, name=name, entry=entry, patch_size=patch_size, labels=labels, source_sha256=sha256)
    about = converted.about
    record = InstalledModel(
        name=name,
        source=source.name,
        source_sha256=sha256,
        url=url,
        added=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        family=about.spec.family,
        dataset=about.spec.dataset,
        labels=about.labels_source,
        classes=about.spec.classes,
        patch_size=about.spec.patch_size if family_named(about.spec.family).cuts_patches else None,
    )
    return store.put(converted.write, record)


def _hash_of(source: Path) -> str:
    try:
        return sha256_of(source)
    except OSError as error:
        raise ModelError(f"cannot read {source}: {error.strerror}; check the path") from error
