"""Puts models into the store: from a download or a file, strictly loaded before they are kept.

Knows nothing of terminals; whoever calls shows the progress.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from adafocus_cli.library import download, included
from adafocus_cli.library.catalogue import Entry
from adafocus_cli.library.conversion import convert
from adafocus_cli.library.download import Progress
from adafocus_cli.library.store import Record, Store
from adafocus_cli.models import family_named


def pull(store: Store, entry: Entry, *, accept_changed: bool = False, on_progress: Progress) -> Record:
    """Downloads and installs a published model; a download that broke off is continued."""
    included.check_replaceable(entry.name)
    if entry.url is None:
        raise ModelError(f"{entry.name} is not at an address that can be downloaded from; {entry.by_hand}")
    with store.exclusively(entry.name):
        file = store.download_of(entry)
        with store.writable():
            file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file():  # else only its installation was interrupted
            download.fetch(entry.url, file, on_progress=on_progress, otherwise=entry.by_hand)
        try:
            record = _install(store, file, entry.name, entry, accept_changed=accept_changed, url=entry.url)
        except ModelError:
            store.forget_download(entry.name)
            raise
        store.forget_download(entry.name)
        return record


def add(
    store: Store,
    source: Path,
    name: str,
    entry: Entry | None,
    *,
    patch_size: int | None = None,
    labels: str | None = None,
    accept_changed: bool = False,
) -> Record:
    """Installs a checkpoint file under a name; `entry` is what a catalogue says of that name."""
    with store.exclusively(name):
        return _install(
            store, source, name, entry, patch_size=patch_size, labels=labels, accept_changed=accept_changed, url=None
        )


def _install(
    store: Store,
    source: Path,
    name: str,
    entry: Entry | None,
    *,
    patch_size: int | None = None,
    labels: str | None = None,
    accept_changed: bool,
    url: str | None,
) -> Record:
    sha256 = _hash_of(source)
    if entry is not None:
        store.check_first_sight(entry, sha256, accept_changed=accept_changed)
    converted = convert(source, name=name, entry=entry, patch_size=patch_size, labels=labels, source_sha256=sha256)
    about = converted.about
    record = Record(
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
