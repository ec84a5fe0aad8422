"""The training loop: stages, epochs and steps, a validation after every epoch, and the processes that share it.

Started by `torchrun`, every process takes its share of each batch; gradients are averaged, and only the first process
writes and shows."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.evaluation.scoring import by_class, ranked_precision, truth_table
from adafocus_cli.labels import scores_of
from adafocus_cli.models.base import Family
from adafocus_cli.training.clips import Loader, Pass, TrainingBatch, seed_for
from adafocus_cli.training.learner import Learner, StepResult
from adafocus_cli.training.memory import fewest_clips, smaller_model
from adafocus_cli.training.recipes import Stage, TrainingSettings
from adafocus_cli.training.run_folder import BEST, LAST, Epoch, RunFolder, RunProgress, TrainingRun

_T = TypeVar("_T")


@dataclass(frozen=True)
class ProcessGroup:
    rank: int = 0
    size: int = 1
    local: int = 0
    """The number of this process on its machine."""

    @classmethod
    def from_environment(cls) -> ProcessGroup:
        """From the variables that torchrun sets."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ[name]) for name in names)) if all(map(os.environ.get, names)) else cls()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Each process has a GPU of its own."""
        return torch.device(device.type, self.local) if self.size > 1 and device.type == "cuda" else device

    @property
    def on_this_machine(self) -> int:
        """How many of them share its memory."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) if self.size > 1 else 1

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            distributed.destroy_process_group()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The other processes wait until the first one has left the block."""
        if not self.first:
            self.gather(None)
        yield
        if self.first:
            self.gather(None)

    def averaging_gradients(self, learner: nn.Module) -> nn.Module:
        """The learner with gradients averaged over all processes; every parameter that learns has one in every step."""
        return learner if self.size == 1 else DistributedDataParallel(learner)

    def without_averaging(self, learner: nn.Module) -> AbstractContextManager[None]:
        """For batches whose gradients are only accumulated."""
        if isinstance(learner, DistributedDataParallel):
            return cast("AbstractContextManager[None]", learner.no_sync())
        return nullcontext()

    def share_buffers(self, module: nn.Module) -> None:
        """Copies the batch norms' averages of the first process to all others."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def gather(self, thing: _T) -> list[_T]:
        """The value of every process."""
        if self.size == 1:
            return [thing]
        things: list[_T | None] = [None] * self.size
        distributed.all_gather_object(things, thing)
        return cast("list[_T]", things)


class TrainingObserver(Protocol):
    """Is told how a run goes."""

    def epoch_started(self, stage: str, epoch: int, epochs: int, steps: int) -> None: ...

    def step_done(self, done: int, running: RunningMeans) -> None: ...

    def epoch_ended(self, epoch: Epoch, best: float) -> None: ...

    def progressed(self, work: str, done: int, total: int) -> None:
        """Of the quick recipe, which has no epochs."""

    def fold_done(self, fold: int, accuracy: float, clips: int) -> None:
        """Of its cross-validation."""


@dataclass
class RunningMeans:
    """Sums over clips, kept on the device: reading them would wait for it."""

    clips: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, clips: int, **means: Tensor) -> None:
        self.clips += clips
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=mean.device)) + mean.detach().float() * clips

    def means(self, processes: ProcessGroup | None = None) -> dict[str, float]:
        """Means over the clips of all processes."""
        own = (self.clips, {name: float(total) for name, total in self.sums.items()})
        shares = [own] if processes is None else processes.gather(own)
        clips = sum(count for count, _ in shares)
        names = dict.fromkeys(name for _, sums in shares for name in sums)
        return {name: sum(sums.get(name, 0.0) for _, sums in shares) / clips for name in names}


@dataclass(frozen=True)
class Validated:
    """Of the validation clips; nothing in an epoch that is not judged."""

    loss: float | None = None
    accuracy: float | None = None
    map: float | None = None


class WaitClock:
    """How much of the time of a loop goes by before the next thing comes."""

    def __init__(self) -> None:
        self._waited = self._total = 0.0

    def waiting_for(self, things: Iterable[_T]) -> Iterator[_T]:
        began = asked = time.monotonic()
        for thing in things:
            self._waited += time.monotonic() - asked
            yield thing
            asked = time.monotonic()
            self._total = asked - began

    @property
    def share(self) -> float:
        return self._waited / self._total if self._total else 0.0


@dataclass
class RunningStage:
    """A stage in progress: its learner and optimizer."""

    number: int
    stage: Stage
    learner: Learner
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def step(self) -> Tensor | None:
        """Takes the step that all gradients say; their norm, before it was clipped, if half precision could hold it."""
        self.scaler.unscale_(self.optimizer)
        learning = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in learning if parameter.grad is not None])
        if self.stage.clip is not None:
            nn.utils.clip_grads_with_norm_(learning, self.stage.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return norm if not self.scaler.is_enabled() or norm.isfinite() else None

    def state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


@dataclass
class Fit:
    """Trains one run. All stages train the same model; each has a learner and an optimizer of its own."""

    run: TrainingRun
    model: Family
    loader: Loader
    folder: RunFolder
    observer: TrainingObserver
    processes: ProcessGroup
    device: torch.device
    precision: torch.dtype | None
    """The number format of the networks; None: full precision."""
    check: Callable[[Mapping[str, str]], None]
    """Raises if the run cannot go on without these videos, which cannot be read."""
    several_labels: bool
    """Whether clips show several classes, so that the mean average precision is what counts."""
    progress: RunProgress
    learning: Mapping[str, Any] | None
    """The state of the interrupted stage, from the checkpoint."""

    def train(self) -> RunProgress:
        self.loader.expect(self._passes())
        for number, stage in enumerate(self.run.settings.stages):
            if number >= self.progress.stage:
                if number > self.progress.stage:
                    before = self.progress
                    self.progress = RunProgress(stage=number, lines=before.lines, unreadable=before.unreadable)
                self._train_stage(number, stage)
        if self.processes.first:
            self.folder.finish()
        return self.progress

    def _train_stage(self, number: int, stage: Stage) -> None:
        with _explain_out_of_memory(self.run.settings, fewest_clips(self.model)):
            current = self._begin(number, stage)
            for epoch in range(self.progress.epochs, stage.epochs):
                started = time.monotonic()
                clock = WaitClock()
                running, norms, unreadable = self._learn(current, epoch, clock)
                self.processes.share_buffers(current.learner)
                validated = Validated()
                if stage.judges(epoch + 1):
                    validated, more = self._validate(current)
                    unreadable |= more
                unreadable = self._newly_unreadable(unreadable)
                means = running.means(self.processes)
                line = Epoch(
                    stage=stage.name,
                    epoch=epoch + 1,
                    lr=stage.rate(epoch),
                    rates={part: stage.rate(epoch) * stage.rates.of(part) for part in current.learner.groups()},
                    loss=means.pop("loss"),
                    accuracy=means.pop("accuracy"),
                    gradient_norm=norms.means().get("gradient_norm"),
                    measures=means,
                    val_loss=validated.loss,
                    val_accuracy=validated.accuracy,
                    val_map=validated.map,
                    waiting=round(max(self.processes.gather(clock.share)), 4),
                    seconds=round(time.monotonic() - started, 1),
                    unreadable=tuple(unreadable),
                )
                self._save_epoch(current, line, unreadable)

    def _passes(self) -> list[Pass]:
        """All that are left of the run, in their order."""
        passes = list[Pass]()
        for number, stage in enumerate(self.run.settings.stages):
            pieces = self.run.pieces_of(number)
            for epoch in range(stage.epochs):
                if (number, epoch) >= (self.progress.stage, self.progress.epochs):
                    passes.append(Pass((number, epoch), pieces))
                    passes += [Pass((), pieces)] * stage.judges(epoch + 1)
        return passes

    def _begin(self, number: int, stage: Stage) -> RunningStage:
        torch.manual_seed(seed_for("stage", self.run.settings.seed, number))
        self.model.requires_grad_(True)
        learner = stage.learner_of(self.model).to(self.device)
        current = RunningStage(
            number=number,
            stage=stage,
            learner=learner,
            shared=self.processes.averaging_gradients(learner),
            optimizer=optimizer_of(stage, learner),
            scaler=torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16),
        )
        if self.learning is not None:
            current.restore(self.learning)
            self.learning = None
        return current

    def _learn(
        self, current: RunningStage, epoch: int, clock: WaitClock
    ) -> tuple[RunningMeans, RunningMeans, dict[str, str]]:
        """One epoch; the second means are over its steps."""
        running, norms = RunningMeans(), RunningMeans()
        unreadable, pieces = dict[str, str](), self.run.pieces_of(current.number)
        accumulate, steps = pieces * self.run.settings.accumulate, pieces * self.loader.steps
        self.observer.epoch_started(current.stage.name, epoch + 1, current.stage.epochs, steps)
        for group in current.optimizer.param_groups:
            group["lr"] = current.stage.rate(epoch) * group["factor"]
        current.shared.train()
        for step, batch in enumerate(clock.waiting_for(self.loader.training(current.number, epoch, pieces))):
            unreadable |= batch.unreadable
            # Random numbers follow from the place in the run, so checkpoints need no generator state.
            torch.manual_seed(
                seed_for("step", self.run.settings.seed, current.number, epoch, step, self.processes.rank)
            )
            step_due = (step + 1) % accumulate == 0
            result = self._backward(current, batch, accumulate, step_due=step_due)
            if step_due:
                norm = current.step()
                if norm is not None:
                    norms.add(1, gradient_norm=norm)
            running.add(len(batch), **result)
            self.observer.step_done(step + 1, running)
        return running, norms, unreadable

    def _backward(
        self, current: RunningStage, batch: TrainingBatch, accumulate: int, *, step_due: bool
    ) -> dict[str, Tensor]:
        frames, targets = batch.frames.to(self.device), batch.targets.to(self.device)
        with nullcontext() if step_due else self.processes.without_averaging(current.shared):
            with self._autocast():
                result: StepResult = current.shared(frames, targets)
            current.scaler.scale(result.loss / accumulate).backward()  # type: ignore[no-untyped-call]
        right = (result.logits.argmax(dim=-1) == targets).float().mean()
        return {"loss": result.loss.detach(), "accuracy": right, **result.measures}

    @torch.no_grad()
    def _validate(self, current: RunningStage) -> tuple[Validated, dict[str, str]]:
        """How good the answers to the validation clips are."""
        running, unreadable = RunningMeans(), dict[str, str]()
        own_answers, own_shown = list[np.ndarray](), list[tuple[int, ...]]()
        current.learner.eval()
        for batch in self.loader.validation(self.run.pieces_of(current.number)):
            unreadable |= batch.unreadable
            if len(batch):
                frames, targets = batch.frames.to(self.device), batch.targets.to(self.device)
                with self._autocast():
                    logits = current.learner.answers(frames)[:, -1].float()
                shown = torch.from_numpy(truth_table(batch.shown, logits.shape[1])).to(self.device)
                right = shown.gather(1, logits.argmax(dim=-1, keepdim=True)).float().mean()
                running.add(len(batch), loss=F.cross_entropy(logits, targets), accuracy=right)
                if self.several_labels:
                    own_answers.append(logits.cpu().numpy())
                    own_shown += batch.shown
        means = running.means(self.processes)
        if not means:
            reason = next(iter(unreadable.values()))
            raise AdaFocusError(f"no validation video can be read; the first: {reason}")
        precision = None
        if self.several_labels:
            shares = self.processes.gather((own_answers, own_shown))
            scores = scores_of(np.concatenate([each for answered, _ in shares for each in answered]), self.model.name)
            truth = truth_table([classes for _, shown in shares for classes in shown], scores.shape[1])
            precision = float(np.nanmean(by_class(ranked_precision, scores, truth)))
        return Validated(loss=means["loss"], accuracy=means["accuracy"], map=precision), unreadable

    def _newly_unreadable(self, unreadable: Mapping[str, str]) -> dict[str, str]:
        """Videos that any process could not read in this epoch, without those known before."""
        found = {path: why for each in self.processes.gather(dict(unreadable)) for path, why in each.items()}
        return {path: found[path] for path in sorted(found) if path not in self.progress.unreadable}

    def _save_epoch(self, current: RunningStage, line: Epoch, unreadable: Mapping[str, str]) -> None:
        """Writes everything about an epoch; the checkpoint comes last."""
        before, best = self.progress, False
        score, val_loss = before.best, before.best_loss
        if line.score is not None and line.val_loss is not None:
            best = (line.score, -line.val_loss) > (before.best, -before.best_loss)
            score, val_loss = (line.score, line.val_loss) if best else (score, val_loss)
        self.progress = RunProgress(
            stage=before.stage,
            epochs=line.epoch,
            best=score,
            best_loss=val_loss,
            best_epoch=line.epoch if best else before.best_epoch,
            lines=before.lines + 1,
            unreadable={**before.unreadable, **unreadable},
        )
        self.check(self.progress.unreadable)
        if not math.isfinite(line.loss + (line.val_loss or 0.0)):
            raise AdaFocusError(
                f"in epoch {line.epoch} of stage {line.stage} the loss is NaN or infinite; start again with a lower "
                f"--lr than {current.stage.lr:g}, or with --precision fp32"
            )
        if self.processes.first:
            self.folder.log_epoch(line)
            for name in (LAST, BEST) if best else (LAST,):
                self.folder.write_model(name, self.run, self.model, self.progress, line)
            self.folder.save_checkpoint(self.run, self.progress, current.state())
        self.observer.epoch_ended(line, self.progress.best)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)


def optimizer_of(stage: Stage, learner: Learner) -> torch.optim.Optimizer:
    groups = [
        {"params": list(parameters), "factor": stage.rates.of(part), "lr": stage.lr * stage.rates.of(part)}
        for part, parameters in learner.groups().items()
    ]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=0.9, weight_decay=stage.weight_decay)
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.lr, weight_decay=stage.weight_decay)


@contextmanager
def _explain_out_of_memory(settings: TrainingSettings, fewest: int) -> Iterator[None]:
    """Says what to do if the memory is too small; each process takes so many clips at least."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)):
            raise
        half = settings.batch_size // 2
        half -= half % settings.processes
        less = f"{half} with --accumulate {2 * settings.accumulate} takes steps of the same size"
        raise AdaFocusError(
            f"--batch-size {settings.batch_size} needs more memory than there is; "
            f"{less if half >= fewest * settings.processes else smaller_model(settings)}"
        ) from error
