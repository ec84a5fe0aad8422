"""A run from its settings to the file of a model: begins one, or goes on with one that was broken off.

Knows nothing of terminals; whoever calls shows what happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adafocus_cli.engine.decoding import default_workers
from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.runtime.pytorch import PRECISIONS, resolve_device, resolve_precision
from adafocus_cli.training import start
from adafocus_cli.training.clips import FrameCache
from adafocus_cli.training.data import Data, ReadDataset, clips_of, find
from adafocus_cli.training.fit import Fit, View
from adafocus_cli.training.folder import FINAL, Position, Run, RunFolder
from adafocus_cli.training.loading import Loader
from adafocus_cli.training.settings import Resources, Settings
from adafocus_cli.training.sfc import lay_beside
from adafocus_cli.training.start import Say
from adafocus_cli.training.team import Team


@dataclass(frozen=True, kw_only=True)
class Outcome:
    model: Path
    position: Position
    """The best epoch of the last stage, and the videos that could not be read."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a run takes place, and who looks on."""

    folder: Path
    resources: Resources
    view: View
    read: ReadDataset
    say: Say


def begin(settings: Settings, around: Surroundings, *, command: str) -> Outcome:
    """A new run in a folder."""
    team = Team.of_environment()
    settings = settings.on(team.size)
    epochs = ", ".join(f"{stage.epochs} × {stage.name}" for stage in settings.stages)
    data = find(settings, around.read)
    with _machine(settings, around.resources, team) as device:
        with team.first_goes_first():  # others find what it has downloaded
            model = start.begin(settings, data.labels, around.say)
        run = Run(settings=settings, spec=model.spec, labels=data.labels, clips=data.clips, command=command)
        if team.first:
            RunFolder(around.folder).begin(run)
            if run.spec.backbone is not None:
                lay_beside(settings, run.spec, around.folder)
        clips = f"{len(data.training)} clips to learn from, {len(data.validation)} to judge by"
        around.say(f"{model.name} on {device}: {len(data.labels)} classes, {clips}; {epochs}")
        return _fit(run, model, data, around, team, device)


def go_on(asked: Mapping[str, Any], around: Surroundings) -> Outcome:
    """A run that was broken off; `asked` are settings that were given again."""
    team = Team.of_environment()
    run, position, learning = RunFolder(around.folder).read()
    run.settings.agreed({**asked, "processes": team.size}, around.folder)
    data = find(run.settings, around.read)
    if data.labels != run.labels or data.clips != dict(run.clips):
        raise UsageError(
            f"{run.settings.data} has changed since the run in {around.folder} began; begin another with -o"
        )
    with _machine(run.settings, around.resources, team) as device:
        if team.first:
            RunFolder(around.folder).cut_journal(position)
        model = start.empty(run.spec, run.settings)
        return _fit(run, model, data, around, team, device, position, learning)


def _fit(
    run: Run,
    model: Family,
    data: Data,
    around: Surroundings,
    team: Team,
    device: torch.device,
    position: Position = Position(),  # noqa: B008 - it is frozen
    learning: Mapping[str, Any] | None = None,
) -> Outcome:
    settings, workers = run.settings, around.resources.workers
    training, validation, caches = clips_of(
        data, run.spec, settings, around.resources, cache=around.folder / f".frames-{team.rank}"
    )
    with (
        _there(caches),
        Loader(
            training,
            validation,
            seed=settings.seed,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            workers=default_workers() if workers is None else workers,
            rank=team.rank,
            size=team.size,
        ) as loader,
    ):
        fit = Fit(
            run=run,
            model=model.to(device),
            loader=loader,
            folder=RunFolder(around.folder),
            view=around.view,
            team=team,
            device=device,
            precision=_number_format(settings.precision, device),
            check=data.check,
            position=position,
            learning=learning,
        )
        return Outcome(model=around.folder / FINAL, position=fit.train())


@contextmanager
def _machine(settings: Settings, resources: Resources, team: Team) -> Iterator[torch.device]:
    """The device of this process, for the time of a run."""
    device = team.device(resolve_device(resources.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    # The same seed gives the same curve; the networks see one size of batch, so little is lost by it. torch's default
    # would be tf32 where fp32 is asked for.
    tf32 = settings.precision == "tf32"
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
        team.together(device),
    ):
        yield device


@contextmanager
def _there(caches: list[FrameCache]) -> Iterator[None]:
    """They take room on the disk no longer than the run lasts."""
    try:
        for cache in caches:
            cache.create()
        yield
    finally:
        for cache in caches:
            cache.remove()


def _number_format(precision: str, device: torch.device) -> torch.dtype | None:
    """None: full precision. An accelerator takes half of it where nothing is said."""
    if precision == "auto" and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    name = resolve_precision(precision, device)
    return None if PRECISIONS[name] == torch.float32 else PRECISIONS[name]
