"""The folder of a run: its journal, the checkpoint to resume from, and the files of the model.

Files are replaced only when the new one is complete, and the checkpoint comes last: whenever a run ends, the folder is
that of a whole epoch. Later lines of the journal are dropped when the run is resumed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from adafocus_cli import weights_file
from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.library.store import RUN_BEST, RUN_LAST, RUN_MODEL, find_model
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.recipes import QUICK, Resources, TrainingSettings
from adafocus_cli.weights_file import About

CHECKPOINT, JOURNAL, VALIDATION = "last.pt", "log.jsonl", "validation.csv"
BEST, LAST, FINAL = RUN_BEST, RUN_LAST, RUN_MODEL
OWN_FILES = (CHECKPOINT, JOURNAL, VALIDATION, BEST, LAST, FINAL)
_FORMAT = "adafocus-training/1"


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What stays the same during a run."""

    settings: TrainingSettings
    spec: ModelSpec
    labels: tuple[str, ...]
    clips: Mapping[str, int]
    """How many there are for training and for validation."""
    command: str
    resources: Resources = field(default_factory=Resources)
    """Those that it was started with, or was resumed with."""
    pieces: tuple[int, ...] = ()
    """Into how many each stage cuts its batches, so that they fit into memory; empty: none is cut."""

    def pieces_of(self, stage: int) -> int:
        return self.pieces[stage] if self.pieces else 1


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A line of the journal."""

    stage: str
    epoch: int
    lr: float
    rates: Mapping[str, float]
    """Learning rates by part; `lr` is the stage's."""
    loss: float
    accuracy: float
    gradient_norm: float | None
    """Of all gradients together, before they are clipped: the mean over the steps; None: none could be held."""
    measures: Mapping[str, float]
    val_loss: float | None
    """None, as what follows, in an epoch that is not judged."""
    val_accuracy: float | None
    val_map: float | None
    """The mean average precision over all labels, where videos have several."""
    waiting: float
    """The share of the time of its steps in which they waited for clips."""
    seconds: float
    unreadable: tuple[str, ...]
    """Videos that could not be read, found in this epoch."""

    @property
    def score(self) -> float | None:
        """By which the best epoch is chosen."""
        return self.val_accuracy if self.val_map is None else self.val_map


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How far a run has got: the stage and its epochs, the best of them, and the videos that cannot be read."""

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

    # Start and resume.

    def begin(self, run: TrainingRun, validation: Dataset | None) -> None:
        """Writes the settings, and the list of the validation clips; a synthetic world has none."""
        if (self.path / CHECKPOINT).exists() and not self._may_begin_again(run):
            raise UsageError(
                f"{self.path} has a run already; resume it with --resume {self.path}, or give another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / JOURNAL).write_text(_line(asdict(run)), "utf-8")
            if validation is not None:
                with (self.path / VALIDATION).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    validation.write(file)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}; give another folder after -o") from error

    def _may_begin_again(self, run: TrainingRun) -> bool:
        """The quick recipe may, with more clips or fewer: what it has seen of them is kept."""
        return run.settings.recipe == QUICK and self.read()[0].settings.recipe == QUICK

    def copy_backbone(self, settings: TrainingSettings, spec: ModelSpec) -> None:
        """Puts the file of the network beside the small one that the run will write; linked, where that is possible."""
        backbone, target = find_model(settings.init), self.path / str(spec.backbone)
        if target.exists():
            if sha256_of(target) != spec.backbone_sha256:
                raise UsageError(f"{target} exists and is not {backbone}; give another folder after -o")
            return
        try:
            os.link(backbone, target)
        except OSError:
            try:
                shutil.copyfile(backbone, target)
            except OSError as error:
                raise AdaFocusError(f"cannot copy {backbone} to {self.path}: {error.strerror}; make room") from error

    def read(self) -> tuple[TrainingRun, RunProgress, dict[str, Any]]:
        """A run that was interrupted: the run, its progress, and the state of its learner."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            raise UsageError(f"there is no run in {self.path} (no {CHECKPOINT}); start one with -o instead")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT:
                raise AdaFocusError(f"{path} is of another version of adafocus; start a new run")
            run, progress = content["run"], RunProgress(**content["position"])
            run["settings"] = TrainingSettings(**run["settings"])
            run["resources"] = Resources(**run.get("resources", {}))
            run["spec"] = ModelSpec.from_dict(run["spec"])
            run["labels"] = tuple(run["labels"])
            run["pieces"] = tuple(run.get("pieces", ()))
            return TrainingRun(**run), progress, content["learning"]
        except (KeyError, TypeError, ValueError, EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise AdaFocusError(
                f"{path} is damaged; start a new run, with --init {BEST} if that file is intact"
            ) from error

    def truncate_journal(self, progress: RunProgress) -> None:
        """Drops the lines after the checkpoint, whose epochs are trained again."""
        path = self.path / JOURNAL
        lines = path.read_text("utf-8").splitlines(keepends=True)
        with replacing(path) as file:
            file.write("".join(lines[: 1 + progress.lines]).encode())

    # After every epoch.

    def log_epoch(self, epoch: Epoch) -> None:
        self.log(asdict(epoch))

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds a line to the journal."""
        with (self.path / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(_line(values))

    def save_checkpoint(self, run: TrainingRun, progress: RunProgress, learning: Mapping[str, Any]) -> None:
        content = {"format": _FORMAT, "run": _plain(run), "position": _plain(progress), "learning": dict(learning)}
        self._write(CHECKPOINT, lambda file: torch.save(content, file))

    def write_model(self, name: str, run: TrainingRun, model: Family, progress: RunProgress, epoch: Epoch) -> None:
        """A file for --weights that says how it was trained."""
        tensors = model.state_dict()
        if run.spec.backbone is not None:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("net.")}
        facts = {"stage": epoch.stage, "epochs": progress.epochs, "accuracy": epoch.val_accuracy}
        if epoch.val_map is not None:
            facts["map"] = epoch.val_map
        self.write_weights(name, run, tensors, facts)

    def write_weights(
        self, name: str, run: TrainingRun, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """A file of these tensors that says how they were learnt, and `facts` of how well."""
        settings = run.settings
        provenance = {
            "command": run.command,
            "recipe": settings.recipe,
            "seed": settings.seed,
            "data": {"source": settings.data, "classes": len(run.labels), **run.clips},
            **facts,
        }
        about = About(
            spec=run.spec,
            name=self.path.resolve().name,
            labels=run.labels,
            labels_source="training",
            training=json.dumps(provenance),
        )
        self._write(name, lambda file: weights_file.write(file, about, tensors))

    def write_table(self, name: str, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A CSV file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([heading, *rows])
        self._write(name, lambda file: file.write(text.getvalue().encode()))

    def finish(self) -> Path:
        """Copies the best model of the last stage to the final name."""
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
                f"cannot write {self.path / name}: {error.strerror or error}; make room, then resume with "
                f"--resume {self.path}"
            ) from error


def _plain(values: TrainingRun | RunProgress) -> dict[str, Any]:
    """Plain values, which the restricted unpickler reads."""
    return dict(json.loads(json.dumps(asdict(values))))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
