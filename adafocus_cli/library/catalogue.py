"""The catalogue: models that were published or come with adafocus, and where to get them.

Read from the package, or from a file or URL of the same form. Files may only come from HTTPS addresses, or from plain
HTTP on this machine.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from adafocus_cli import labels as label_lists
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.library import is_safe
from adafocus_cli.spec import ModelSpec
from adafocus_cli.weights_packages import torchvision_weights

INCLUDED = ("objects", "motion")

_PACKAGE = Path(__file__).parents[1]
# Inside an installed package, or beside it in a copy of the repository.
_FOLDERS = (_PACKAGE / "weights", _PACKAGE.parent / "weights")


def included_path(name: str) -> Path:
    """The file of an included model, whether it exists or not."""
    paths = [folder / f"{name}.safetensors" for folder in _FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])


def check_replaceable(name: str) -> None:
    if name in INCLUDED:
        raise UsageError(f"{name} comes with adafocus, and can neither be replaced nor removed; choose another name")


_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPEC_FIELDS = {f.name for f in fields(ModelSpec)} - {"family", "dataset"}
_NOT_TEXTS = {"spec", "patch_size", "accuracy", "views", "gmacs", "megabytes"}


def check_name(name: str) -> str:
    """A model's name becomes a file's name, so it must be harmless on every system."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"{name!r} cannot be a model's name; use up to 64 of a–z, 0–9, '-', '_' and '.', "
            "starting with a letter or digit"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One published checkpoint. `gmacs` is what its table prints as GFLOPs; None: not published."""

    name: str
    family: str
    file: str = ""
    patch_size: int | None = None
    dataset: str | None = None
    labels: str | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    accuracy: float | None = None
    views: int | None = None
    """With how many the accuracy is; `gmacs` are of one."""
    gmacs: float | None = None
    megabytes: float | None = None
    """Of its weights."""
    purpose: str | None = None
    """What it is recommended for, if it is."""
    table: str | None = None
    url: str | None = None
    page: str | None = None
    sha256: str | None = None
    torchvision: str | None = None
    """The member of its enums that knows file, address and classes instead; `resolved` asks it."""
    licence: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for name in (f.name for f in fields(self) if f.name not in _NOT_TEXTS):
            if not isinstance(getattr(self, name), str | None):
                raise ModelError(f"model {self.name}: {name} is {getattr(self, name)!r}; a string is expected")
        for name in ("accuracy", "views", "gmacs", "megabytes", "patch_size"):
            if not isinstance(getattr(self, name), float | int | None):
                raise ModelError(f"model {self.name}: {name} is {getattr(self, name)!r}; a number is expected")
        if not isinstance(self.spec, Mapping) or not self.spec.keys() <= _SPEC_FIELDS:
            raise ModelError(f"model {self.name}: spec can only have {', '.join(sorted(_SPEC_FIELDS))}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ModelError(f"model {self.name}: sha256 {self.sha256!r} is not 64 hexadecimal digits")
        unnamed = ("..",) if self.torchvision else ("", "..")
        if self.file in unnamed or self.file != Path(self.file).name or self.file.startswith("-"):
            raise ModelError(f"model {self.name}: file {self.file!r} is not the plain name of a file")
        for name in ("url", "page"):
            _check_address(self.name, getattr(self, name))

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the model's spec that its tensors do not determine."""
        return {**self.spec, "family": self.family, "dataset": self.dataset}

    def resolved(self) -> CatalogueEntry:
        """With the file and address of torchvision's weights. Only who needs them waits for its import."""
        if self.torchvision is None:
            return self
        weights = torchvision_weights(self.torchvision)
        return replace(self, file=weights.file, url=weights.url)

    def label_set(self) -> label_lists.LabelSet | None:
        if self.torchvision is not None:
            return label_lists.LabelSet(torchvision_weights(self.torchvision).classes, self.labels or self.torchvision)
        if self.labels is None:
            return None
        if self.labels in label_lists.packaged_names():
            return label_lists.packaged(self.labels)
        return label_lists.read(self.labels)

    @property
    def add_command(self) -> str:
        return f"adafocus models add {shlex.quote(self.file)} --name {self.name}"

    @property
    def how_to_get(self) -> str:
        """How to get the model, as the end of a sentence."""
        if self.name in INCLUDED:
            return "it comes with adafocus, so reinstall adafocus"
        if self.url or self.torchvision:
            return f"get it with: adafocus models pull {self.name}"
        return self.by_hand

    @property
    def by_hand(self) -> str:
        if self.page is None:
            return f"no address of {self.file} is known; if you have such a file, run: {self.add_command}"
        return f"download {self.file} from {self.page} with a browser, then run: {self.add_command}"


def _check_address(name: str, address: str | None) -> None:
    if address is not None and not is_safe(address):
        raise ModelError(f"model {name}: {address!r} is not an address that starts with https://")


@dataclass(frozen=True)
class Catalogue:
    entries: tuple[CatalogueEntry, ...]

    @cached_property
    def by_name(self) -> Mapping[str, CatalogueEntry]:
        return {entry.name: entry for entry in self.entries}

    def find(self, name: str) -> CatalogueEntry | None:
        return self.by_name.get(name)

    def before(self, other: Catalogue) -> Catalogue:
        """Both catalogues; for the same name, this one's entry."""
        return Catalogue((*self.entries, *(entry for entry in other.entries if entry.name not in self.by_name)))

    def __getitem__(self, name: str) -> CatalogueEntry:
        """The entry of that name, or an error with similar names."""
        if name not in self.by_name:
            raise unknown(name, self.by_name)
        return self.by_name[name]


def unknown(name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name.lower(), sorted(set(known)), n=3, cutoff=0.5)
    hint = f"similar: {', '.join(near)}; `adafocus models list` shows all" if near else "see `adafocus models list`"
    return UsageError(f"there is no model {name!r}; {hint}")


def packaged() -> Catalogue:
    """The catalogue that comes with the package."""
    text = (resources.files("adafocus_cli") / "data" / "catalogue.yaml").read_text("utf-8")
    return parse(text, "the packaged catalogue")


def read(source: str) -> Catalogue:
    """A catalogue in a file or at an https address."""
    if "://" in source:
        from adafocus_cli.library import download

        return parse(download.read_text(source), source)
    try:
        text = Path(source).read_text("utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read catalogue {source}: {error.strerror}; give a YAML file or an https address"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"catalogue {source} is not UTF-8 text; save it as UTF-8") from error
    return parse(text, source, folder=Path(source).parent)


def parse(text: str, source: str, *, folder: Path | None = None) -> Catalogue:
    """`folder` is the folder of the catalogue, for label lists that it names by path."""
    try:
        root = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-99-99
        raise ModelError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    groups = root.get("groups") if isinstance(root, Mapping) else None
    if not isinstance(groups, list):
        raise ModelError(f"{source} is not a catalogue; a YAML file with `groups:` of `models:` is expected")
    entries = [_entry(values, folder) for group in groups for values in _members(group, source)]
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"{source} lists {twice} twice; names must be unique")
    return Catalogue(tuple(entries))


# The C parser is ten times faster, where there is one.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _members(group: object, source: str) -> list[dict[str, Any]]:
    """The models of a group, each with the fields of the group."""
    models = group.get("models") if isinstance(group, Mapping) else None
    if not isinstance(group, Mapping) or not isinstance(models, list):
        raise ModelError(f"{source} has a group without `models:`; a list of models is expected there")
    shared = {key: value for key, value in group.items() if key != "models"}
    if not all(isinstance(model, Mapping) for model in models):
        raise ModelError(f"{source} has a model that is not a mapping; `name:`, `file:` and so on are expected")
    return [{**shared, **model} for model in models]


def _entry(values: dict[str, Any], folder: Path | None) -> CatalogueEntry:
    name = values.get("name")
    needed = {"name", "family", "torchvision" if values.get("torchvision") else "file"}
    if not needed <= values.keys() or not isinstance(name, str):
        raise ModelError(f"model {name!r} of the catalogue needs at least {', '.join(sorted(needed))}")
    strange = sorted(set(map(str, values)) - {f.name for f in fields(CatalogueEntry)})
    if strange:
        raise ModelError(f"model {name} has an unknown field {strange[0]!r}; check the spelling")
    labels = values.get("labels")
    if folder is not None and isinstance(labels, str) and labels not in label_lists.packaged_names():
        values["labels"] = str(folder / labels)
    return CatalogueEntry(**values)
