"""What a run leaves in its folder: a journal, a checkpoint to go on from, and files of the model.

Every file takes its place only when all of it is written, and the checkpoint comes last: whatever ends a run, the
folder is that of some epoch, and what is later in the journal is cut off when the run goes on.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from adafocus_cli import weights_file
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.library.store import find_model
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.recipes import Settings
from adafocus_cli.weights_file import About

CHECKPOINT, JOURNAL = "last.pt", "log.jsonl"
BEST, LAST, FINAL = "best.safetensors", "last.safetensors", "model.safetensors"
OWN_FILES = (CHECKPOINT, JOURNAL, BEST, LAST, FINAL)
_FORMAT = "adafocus-training/1"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What does not change from the beginning to the end of a run."""

    settings: Settings
    spec: ModelSpec
    labels: tuple[str, ...]
    clips: Mapping[str, int]
    """How many there are to learn from, and to be judged by."""
    command: str


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A line of the journal."""

    stage: str
    epoch: int
    lr: float
    loss: float
    accuracy: float
    measures: Mapping[str, float]
    val_loss: float
    val_accuracy: float
    seconds: float
    unreadable: tuple[str, ...]
    """Videos that were found so in this epoch."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a run has come: so many epochs of a stage, the best of them, and the videos that cannot be read."""

    stage: int = 0
    epochs: int = 0
    best: float = -1.0
    best_loss: float = 0.0
    best_epoch: int = 0
    lines: int = 0
    """Of the journal, without its heading."""
    unreadable: Mapping[str, str] = field(default_factory=dict)


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    # A new run, and one that goes on.

    def begin(self, run: Run) -> None:
        if (self.path / CHECKPOINT).exists():
            raise UsageError(
                f"{self.path} has a run already; go on with it by --resume {self.path}, or give another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / JOURNAL).write_text(_line(asdict(run)), "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}; give another folder after -o") from error

    def copy_backbone(self, settings: Settings, spec: ModelSpec) -> None:
        """Puts the file of the network beside the small one that the run will write; linked, where that is possible."""
        backbone, target = find_model(settings.init), self.path / str(spec.backbone)
        if target.exists():
            if sha256_of(target) != spec.backbone_sha256:
                raise UsageError(f"{target} is there already and is not {backbone}; give another folder after -o")
            return
        try:
            os.link(backbone, target)
        except OSError:
            try:
                shutil.copyfile(backbone, target)
            except OSError as error:
                raise AdaFocusError(f"cannot copy {backbone} to {self.path}: {error.strerror}; make room") from error

    def read(self) -> tuple[Run, Position, dict[str, Any]]:
        """A run that was broken off: the last part is what `keep` was given of the learner."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            raise UsageError(f"there is no run in {self.path}, for it has no {CHECKPOINT}; begin one with -o instead")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT:
                raise AdaFocusError(f"{path} is of another version of adafocus; begin a new run")
            run, position = content["run"], Position(**content["position"])
            run["settings"] = Settings(**run["settings"])
            run["spec"] = ModelSpec.from_dict(run["spec"])
            run["labels"] = tuple(run["labels"])
            return Run(**run), position, content["learning"]
        except (KeyError, TypeError, ValueError, EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise AdaFocusError(f"{path} is damaged; begin a new run, from {BEST} with --init if it is good") from error

    def cut_journal(self, position: Position) -> None:
        """What came after the checkpoint comes again."""
        path = self.path / JOURNAL
        lines = path.read_text("utf-8").splitlines(keepends=True)
        with replacing(path) as file:
            file.write("".join(lines[: 1 + position.lines]).encode())

    # After every epoch.

    def note(self, epoch: Epoch) -> None:
        with (self.path / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(_line(asdict(epoch)))

    def keep(self, run: Run, position: Position, learning: Mapping[str, Any]) -> None:
        content = {"format": _FORMAT, "run": _plain(run), "position": _plain(position), "learning": dict(learning)}
        self._write(CHECKPOINT, lambda file: torch.save(content, file))

    def write_model(self, name: str, run: Run, model: Family, position: Position, epoch: Epoch) -> None:
        """A file that every command takes after --weights; it says how it came about."""
        settings = run.settings
        story = {
            "command": run.command,
            "recipe": settings.recipe,
            "seed": settings.seed,
            "data": {"source": settings.data, "classes": len(run.labels), **run.clips},
            "stage": epoch.stage,
            "epochs": position.epochs,
            "accuracy": epoch.val_accuracy,
        }
        about = About(
            spec=run.spec,
            name=self.path.resolve().name,
            labels=run.labels,
            labels_source="training",
            training=json.dumps(story),
        )
        tensors = model.state_dict()
        if run.spec.backbone is not None:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("net.")}
        self._write(name, lambda file: weights_file.write(file, about, tensors))

    def finish(self) -> Path:
        """The best model of the last stage is the result."""
        final = self.path / FINAL
        with (self.path / BEST).open("rb") as best, replacing(final) as file:
            shutil.copyfileobj(best, file)
        return final

    def _write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        try:
            with replacing(self.path / name) as file:
                write(file)
        except OSError as error:
            raise AdaFocusError(
                f"cannot write {self.path / name}: {error.strerror or error}; make room, then go on with "
                f"--resume {self.path}"
            ) from error


def _plain(thing: Run | Position) -> dict[str, Any]:
    """As the restricted unpickler reads it."""
    return dict(json.loads(json.dumps(asdict(thing))))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
