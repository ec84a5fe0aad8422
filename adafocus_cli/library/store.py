"""The folder of installed models: their files, what is recorded about them, and how a name becomes a file.

The folder is ADAFOCUS_HOME, else in the user's data folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import platformdirs

from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.files import HashingFile, disk_full, replacing, sha256_of, try_lock
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import INCLUDED, CatalogueEntry, check_name, included_path

HOME_VARIABLE = "ADAFOCUS_HOME"
SUFFIX = ".safetensors"

RUN_MODEL, RUN_BEST, RUN_LAST = "model.safetensors", "best.safetensors", "last.safetensors"
"""In the folder of a training run: its model, and until it has ended the best so far."""

_FILE_ENDINGS = (".safetensors", ".pth", ".tar", ".pt", ".pyth", ".bin", ".ckpt")

FileState = Literal["intact", "changed", "missing"]


@dataclass(frozen=True, kw_only=True)
class InstalledModel:
    """The record of an installed model, with the hashes of our file and of the original."""

    name: str
    source: str
    source_sha256: str
    url: str | None
    added: str
    family: str
    dataset: str | None
    labels: str | None
    classes: int
    patch_size: int | None
    """None: the family uses whole frames."""
    sha256: str = ""
    bytes: int = 0


class ModelStore:
    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self.models = self.home / "models"
        self.downloads = self.home / "downloads"

    def path_of(self, name: str) -> Path:
        return included_path(name) if name in INCLUDED else self.models / (check_name(name) + SUFFIX)

    def record_of(self, name: str) -> InstalledModel | None:
        """The record of a model, which may have been removed since."""
        path = self._record_path(name)
        try:
            return InstalledModel(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}; make it readable or remove it") from error
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path} is damaged; remove it and add the model {name} again") from error

    def download_of(self, entry: CatalogueEntry) -> Path:
        return self.downloads / entry.name / entry.file

    def has(self, name: str) -> bool:
        return os.path.isfile(self.path_of(name))  # noqa: PTH113 - Path's own fails where the folder cannot be read

    def installed(self) -> list[str]:
        """The installed models, without the included ones."""
        if not self.models.is_dir():
            return []
        return sorted(path.name.removesuffix(SUFFIX) for path in self.models.glob(f"[!.]*{SUFFIX}"))

    def name_of(self, identity: str) -> str | None:
        """The included or installed model whose file, or that of its source, has this SHA-256."""
        for name in INCLUDED:
            if catalogue.packaged()[name].sha256 == identity:
                return name
        for name in self.installed():
            record = self.record_of(name)
            if record is not None and identity in (record.source_sha256, record.sha256):
                return name
        return None

    def state_of(self, name: str) -> FileState:
        """Whether a model's file is unchanged since its installation; reads all of it."""
        expected, path = self._expected_hash(name), self.path_of(name)
        if expected is None or not self.has(name):
            return "missing"
        try:
            same = sha256_of(path) == expected
        except OSError as error:
            raise ModelError(
                f"cannot read {path}: {error.strerror}; make it readable, or add the model again"
            ) from error
        return "intact" if same else "changed"

    def _expected_hash(self, name: str) -> str | None:
        if name in INCLUDED:
            return catalogue.packaged()[name].sha256
        record = self.record_of(name)
        return record.sha256 if record else None

    def check_first_sight(self, entry: CatalogueEntry, sha256: str, *, accept_changed: bool = False) -> None:
        """Refuses a published file that has changed since it was first installed."""
        if entry.sha256 is not None and sha256 != entry.sha256:
            raise ModelError(
                f"{entry.file} is not the file of the catalogue: its SHA-256 is {sha256}, the catalogue has "
                f"{entry.sha256}; get it from a source you trust"
            )
        known = self.record_of(entry.name)
        if known is not None and known.source_sha256 != sha256 and not accept_changed:
            raise ModelError(
                f"the file of {entry.name} has changed since {known.added[:10]}: its SHA-256 was "
                f"{known.source_sha256}, now it is {sha256}; if you know why, add --accept-changed"
            )

    def put(self, write: Callable[[HashingFile], None], record: InstalledModel) -> InstalledModel:
        """Installs what `write` writes; adds its hash and length to the record."""
        with self.writable():
            with replacing(self.path_of(record.name)) as file:
                hashing = HashingFile(file)
                write(hashing)
            record = replace(record, sha256=hashing.sha256, bytes=hashing.size)
            with replacing(self._record_path(record.name)) as file:
                file.write(json.dumps(asdict(record), indent=2).encode() + b"\n")
        return record

    def forget_download(self, name: str) -> bool:
        """Removes the download of a model, complete or partial; returns whether there was one."""
        folder = self.downloads / check_name(name)
        there = folder.is_dir()
        with self.writable():
            if there:
                shutil.rmtree(folder)
        return there

    def remove(self, name: str, *, keep_record: bool) -> None:
        """Removes a model; its record may stay, so that a changed file is noticed later."""
        self.forget_download(name)
        with self.writable():
            self.path_of(name).unlink()
            if not keep_record:
                self._record_path(name).unlink(missing_ok=True)

    @contextmanager
    def exclusively(self, name: str) -> Iterator[None]:
        """Only one process at a time installs or removes a model of this name."""
        path = self.home / "locks" / check_name(name)
        with self.writable():
            for folder in (path.parent, self.models):
                folder.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        with file:
            if not try_lock(file.fileno()):
                raise ModelError(f"{name} is being installed or removed by another process; wait for it")
            yield

    def _record_path(self, name: str) -> Path:
        return self.models / f"{check_name(name)}.json"

    @contextmanager
    def writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot write below {self.home}: {error.strerror}; set {HOME_VARIABLE} to a writable folder"
            raise ModelError(disk_full(error, self.home) or reason) from error


def default_home() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - Path's own fails where there is no home
    return platformdirs.user_data_path("adafocus", appauthor=False)


def find_model(model: str | Path) -> Path:
    """The file of a model by path, run folder or name, or an error that says how to get it."""
    path, name = Path(model), str(model)
    if path.is_file():
        return path
    if (isinstance(model, Path) or _is_path(name)) and (of_run := model_of_run(path)):
        return of_run
    if _is_path(name):
        raise UsageError(f"no model file {name!r}; check the path, or give a name that `adafocus models list` shows")
    store = ModelStore()
    try:
        check_name(name)
    except UsageError:
        raise catalogue.unknown(name, _all_names(store)) from None
    if store.has(name):
        return store.path_of(name)
    entry = catalogue.packaged().find(name)
    if entry is None:
        raise catalogue.unknown(name, _all_names(store))
    raise ModelError(f"model {name} is not installed; {entry.how_to_get}")


def model_of_run(folder: Path) -> Path | None:
    """The model in the folder of a training run, if it is one."""
    return next((folder / name for name in (RUN_MODEL, RUN_BEST, RUN_LAST) if (folder / name).is_file()), None)


def _is_path(name: str) -> bool:
    return any(mark in name for mark in ("/", os.sep)) or name.lower().endswith(_FILE_ENDINGS)


def _all_names(store: ModelStore) -> list[str]:
    return [*store.installed(), *catalogue.packaged().by_name]
