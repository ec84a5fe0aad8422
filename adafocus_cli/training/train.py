"""Starts a run or resumes one: from settings to the file of a model.

Knows nothing of terminals; the caller's observer shows the progress.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from adafocus_cli.errors import UsageError
from adafocus_cli.evaluation.frames import WORLD
from adafocus_cli.models.base import Family
from adafocus_cli.requests import default_workers
from adafocus_cli.runtime.pytorch import PRECISIONS, resolve_device, resolve_precision
from adafocus_cli.training import initial_model, quick
from adafocus_cli.training.clips import Loader
from adafocus_cli.training.data import ReadDataset, TrainingData, clip_sets, find_data
from adafocus_cli.training.fit import Fit, ProcessGroup, TrainingObserver
from adafocus_cli.training.frame_cache import FrameCache
from adafocus_cli.training.initial_model import Notify
from adafocus_cli.training.memory import Fitting, Room
from adafocus_cli.training.recipes import AUTO, QUICK, Resources, TrainingSettings
from adafocus_cli.training.run_folder import FINAL, RunFolder, RunProgress, TrainingRun

PUBLISHED = "v2-tsm"
"""The recipe where the quick one is not taken and none is named."""
_FRAMES = "frames"  # the folder of a run's own cache
_MANY = 100  # clips of every class, from which on training networks is worth its time on a GPU


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    model: Path
    progress: RunProgress
    """The best epoch of the last stage, and the videos that could not be read."""
    several_labels: bool = False
    """Whether the best epoch is that of the best mean average precision."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The folder and the machine of a run, and what the caller supplies."""

    folder: Path
    resources: Resources
    observer: TrainingObserver
    read: ReadDataset
    notify: Notify
    curves: bool = False
    """Whether the observer writes curves, by --tensorboard."""


def begin(settings: TrainingSettings, context: RunContext, *, command: str) -> TrainingOutcome:
    """Starts a new run in a folder."""
    processes = ProcessGroup.from_environment()
    context = replace(context, read=cache(context.read))  # it warns of what it leaves out
    settings = _with_recipe(settings, context)
    if settings.recipe == QUICK:
        return _begin_quick(settings, context, processes, command)
    settings = settings.on(processes.size)
    epochs = ", ".join(f"{stage.epochs} × {stage.name}" for stage in settings.stages)
    data = find_data(settings, context.read)
    _warn_of_groups(data, context)
    with _device_of_run(settings, context.resources, processes) as device:
        with processes.first_before_others():  # the others find what it has downloaded
            model = initial_model.begin(settings, data.labels, context.notify)
        pieces = _pieces(model, settings, context, processes, device)
        run = TrainingRun(
            settings=settings,
            spec=model.spec,
            labels=data.labels,
            clips=data.clips,
            command=command,
            resources=context.resources,
            pieces=pieces,
        )
        with processes.first_before_others():  # which write into its folder
            if processes.first:
                RunFolder(context.folder).begin(run, data.validation.dataset)
                if run.spec.backbone is not None:
                    RunFolder(context.folder).copy_backbone(settings, run.spec)
        clips = f"{len(data.training)} clips for training, {len(data.validation)} for validation"
        context.notify(f"{model.name} on {device}: {len(data.labels)} classes, {clips}; {epochs}")
        return _fit(run, model, data, context, processes, device)


def resume(asked: Mapping[str, Any], context: RunContext) -> TrainingOutcome:
    """Resumes a run that was interrupted; `asked` are options that were given again."""
    processes = ProcessGroup.from_environment()
    run, progress, learning = RunFolder(context.folder).read()
    started_by = run.settings.processes
    if started_by != processes.size:
        count = "1 process" if started_by == 1 else f"{started_by} processes"
        raise UsageError(
            f"the run in {context.folder} was started by {count}, not {processes.size}; resume it with "
            f"{how_to_resume(context.folder, started_by)}"
        )
    run.settings.check_unchanged(asked, context.folder)
    run = replace(run, resources=run.resources.with_values(asked))
    context = replace(context, resources=run.resources)
    run.settings.check_options(_of_the_machine(run.settings, context))
    data = find_data(run.settings, context.read)
    if data.labels != run.labels or data.clips != dict(run.clips):
        raise UsageError(
            f"{run.settings.data} has changed since the run in {context.folder} was started; start another one with -o"
        )
    if run.settings.recipe == QUICK:
        RunFolder(context.folder).truncate_journal(RunProgress())
        return _teach(run, data, context)
    with _device_of_run(run.settings, context.resources, processes) as device:
        if processes.first:
            RunFolder(context.folder).truncate_journal(progress)
        model = initial_model.empty(run.spec, run.settings)
        run = replace(run, pieces=_pieces(model, run.settings, context, processes, device, run.pieces))
        return _fit(run, model, data, context, processes, device, progress, learning)


def how_to_resume(folder: Path, processes: int) -> str:
    """The command for a run of so many processes."""
    command = "adafocus" if processes == 1 else f"torchrun --nproc-per-node {processes} -m adafocus_cli"
    return f"{command} train --resume {folder}"


def _with_recipe(settings: TrainingSettings, context: RunContext) -> TrainingSettings:
    """Without a recipe: the quick one, unless a GPU and 100 clips a class are there, or its options are not its own."""
    if settings.recipe == AUTO:
        settings = replace(settings, recipe=PUBLISHED if _suits_published(settings, context) else QUICK)
    settings.check_options(_of_the_machine(settings, context))
    return settings


def _of_the_machine(settings: TrainingSettings, context: RunContext) -> tuple[str, ...]:
    """Options that only recipes with epochs have, and that choose none: minutes would become days unasked."""
    resources = context.resources
    given = {
        "memory": resources.memory,
        "frame-cache": resources.frame_cache,
        "cache-gb": resources.cache_gb,
        "threads": settings.threads,
        "tensorboard": context.curves or None,
    }
    return tuple(name for name, value in given.items() if value is not None)


def _suits_published(settings: TrainingSettings, context: RunContext) -> bool:
    """Reads the data only where no option decides."""
    if settings.folds is not None or settings.tune:
        return False
    if settings.of_published_recipes or settings.data.startswith(WORLD):
        return True
    if resolve_device(context.resources.device).type != "cuda":
        return False
    dataset = context.read(settings.data, None if settings.root is None else Path(settings.root))
    return min(Counter(sample.label for sample in dataset.samples).values()) >= _MANY


def _begin_quick(
    settings: TrainingSettings, context: RunContext, processes: ProcessGroup, command: str
) -> TrainingOutcome:
    if processes.size > 1:
        raise UsageError("recipe quick runs in one process; start it without torchrun")
    data = find_data(settings, context.read)
    _warn_of_groups(data, context)
    spec = quick.spec_for(len(data.labels), looks=True)
    run = TrainingRun(
        settings=settings,
        spec=spec,
        labels=data.labels,
        clips=data.clips,
        command=command,
        resources=context.resources,
    )
    folder = RunFolder(context.folder)
    folder.begin(run, data.validation.dataset if len(data.validation) else None)
    folder.save_checkpoint(run, RunProgress(), {})
    clips = len(data.training) + len(data.validation)
    tuned = "a network that is tuned where that pays" if settings.tune else "networks that stay as they are"
    time = quick.about_time(clips, tune=settings.tune)
    context.notify(
        f"recipe quick: {len(data.labels)} classes, {len(data.training)} clips; {tuned}, "
        f"{time} for clips not seen before, or four times that if all are of 720p and more"
    )
    return _teach(run, data, context)


def _teach(run: TrainingRun, data: TrainingData, context: RunContext) -> TrainingOutcome:
    taught = quick.QuickRun(
        run=run,
        data=data,
        folder=RunFolder(context.folder),
        resources=context.resources,
        observer=context.observer,
        notify=context.notify,
    )
    return TrainingOutcome(model=context.folder / FINAL, progress=taught.teach())


def _warn_of_groups(data: TrainingData, context: RunContext) -> None:
    if data.in_both:
        context.notify(
            f"warning: clips of {data.in_both[0]!r} ({len(data.in_both)} groups in all) are in both training and "
            "validation, which makes the accuracy look better than it is; separate them with --val, or take --folds"
        )


def _fit(
    run: TrainingRun,
    model: Family,
    data: TrainingData,
    context: RunContext,
    processes: ProcessGroup,
    device: torch.device,
    progress: RunProgress = RunProgress(),  # noqa: B008 - it is frozen
    learning: Mapping[str, Any] | None = None,
) -> TrainingOutcome:
    settings = run.settings
    with _frame_cache(data, context, processes) as cache:
        training, validation = clip_sets(data, run.spec, settings, context.resources, cache)
        with Loader(
            training,
            validation,
            seed=settings.seed,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            workers=_workers(context.resources),
            rank=processes.rank,
            size=processes.size,
        ) as loader:
            fit = Fit(
                run=run,
                model=model,
                loader=loader,
                folder=RunFolder(context.folder),
                observer=context.observer,
                processes=processes,
                device=device,
                precision=_autocast_type(settings.precision, device),
                check=data.check,
                several_labels=data.several_labels,
                progress=progress,
                learning=learning,
            )
            return TrainingOutcome(
                model=context.folder / FINAL, progress=fit.train(), several_labels=data.several_labels
            )


def _pieces(
    model: Family,
    settings: TrainingSettings,
    context: RunContext,
    processes: ProcessGroup,
    device: torch.device,
    at_least: tuple[int, ...] = (),
) -> tuple[int, ...]:
    """Into how many each stage cuts its batches; puts the model on the device."""
    workers = _workers(context.resources)
    model.to(device)
    fitting = Fitting(
        settings=settings,
        device=device,
        precision=_autocast_type(settings.precision, device),
        room=Room.of(device, context.resources.memory, workers=workers, processes=processes.on_this_machine),
        workers=workers,
        notify=context.notify,
    )
    return tuple(map(max, zip(*processes.gather(fitting.pieces(model, at_least)), strict=True)))


def _workers(resources: Resources) -> int:
    return default_workers() if resources.workers is None else resources.workers


@contextmanager
def _device_of_run(settings: TrainingSettings, resources: Resources, processes: ProcessGroup) -> Iterator[torch.device]:
    """The device of this process during a run."""
    device = processes.device(resolve_device(resources.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    # The same seed gives the same curve; the networks see one size of batch, so little is lost by it. torch's default
    # would be tf32 where fp32 is asked for.
    tf32 = settings.precision == "tf32"
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
        processes.joined(device),
    ):
        yield device


@contextmanager
def _frame_cache(data: TrainingData, context: RunContext, processes: ProcessGroup) -> Iterator[FrameCache | None]:
    """That of the run goes when it has reached its end; one that was named stays."""
    resources = context.resources
    if resources.cache_gb == 0 or data.training.dataset is None:
        yield None
        return
    folder = context.folder / _FRAMES if resources.frame_cache is None else Path(resources.frame_cache)
    cache = FrameCache.within(folder, resources.cache_gb, len(data.training))
    yield cache
    if resources.frame_cache is None and processes.local == 0:
        cache.remove()


def _autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """None: full precision. `auto` is half precision on a GPU."""
    if precision == "auto" and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    name = resolve_precision(precision, device)
    return None if PRECISIONS[name] == torch.float32 else PRECISIONS[name]
