"""The training loop: stages, epochs and steps, a validation after every epoch, and the processes that share it.

Started by `torchrun`, every process takes its share of each batch; gradients are averaged, and only the first process
writes and shows."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from adafocus_cli.errors import AdaFocusError
from adafocus_cli.models.base import Family
from adafocus_cli.training.clips import Batch, Loader, seed_for
from adafocus_cli.training.forward_pass import answers
from adafocus_cli.training.learner import Learner, Progress
from adafocus_cli.training.recipes import Stage
from adafocus_cli.training.run_folder import BEST, LAST, Epoch, Position, Run, RunFolder

_T = TypeVar("_T")


@dataclass(frozen=True)
class Team:
    rank: int = 0
    size: int = 1
    local: int = 0
    """The number of this process on its machine."""

    @classmethod
    def of_environment(cls) -> Team:
        """As torchrun says it."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ[name]) for name in names)) if all(map(os.environ.get, names)) else cls()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Each process its own of several."""
        return torch.device(device.type, self.local) if self.size > 1 and device.type == "cuda" else device

    @contextmanager
    def together(self, device: torch.device) -> Iterator[None]:
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
    def first_goes_first(self) -> Iterator[None]:
        """The others wait until it is done."""
        if not self.first:
            self.all_of(None)
        yield
        if self.first:
            self.all_of(None)

    def sharing(self, learner: nn.Module) -> nn.Module:
        """The learner with gradients averaged over all processes; whatever can learn has one in every step."""
        return learner if self.size == 1 else DistributedDataParallel(learner)

    def without_sharing(self, learner: nn.Module) -> AbstractContextManager[None]:
        """For steps whose gradients wait for those of the next."""
        if isinstance(learner, DistributedDataParallel):
            return cast("AbstractContextManager[None]", learner.no_sync())
        return nullcontext()

    def align(self, module: nn.Module) -> None:
        """Batch norms as the first process has them: each has seen other clips."""
        if self.size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def all_of(self, thing: _T) -> list[_T]:
        """That of every process."""
        if self.size == 1:
            return [thing]
        things: list[_T | None] = [None] * self.size
        distributed.all_gather_object(things, thing)
        return cast("list[_T]", things)


class View(Protocol):
    """Who looks on."""

    def begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None: ...

    def step(self, done: int, tally: Tally) -> None: ...

    def ends(self, epoch: Epoch, best: float) -> None: ...


@dataclass
class Tally:
    """Sums over clips, left where they are computed: reading them would wait for the device."""

    clips: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, clips: int, **means: Tensor) -> None:
        self.clips += clips
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=mean.device)) + mean.detach().float() * clips

    def means(self, team: Team | None = None) -> dict[str, float]:
        """Over the clips of all processes."""
        mine = (self.clips, {name: float(total) for name, total in self.sums.items()})
        parts = [mine] if team is None else team.all_of(mine)
        clips = sum(count for count, _ in parts)
        names = dict.fromkeys(name for _, sums in parts for name in sums)
        return {name: sum(sums.get(name, 0.0) for _, sums in parts) / clips for name in names}


@dataclass
class _Stage:
    """A stage on its way: what learns, and how."""

    number: int
    stage: Stage
    learner: Learner
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

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
    """A run; the model is the same from stage to stage, each has its own learner and optimizer."""

    run: Run
    model: Family
    loader: Loader
    folder: RunFolder
    view: View
    team: Team
    device: torch.device
    precision: torch.dtype | None
    """What the networks calculate with; None: in full."""
    check: Callable[[Mapping[str, str]], None]
    """Whether a run may go on without these videos, which cannot be read."""
    position: Position
    learning: Mapping[str, Any] | None
    """What a checkpoint has of the stage that was broken off."""

    def train(self) -> Position:
        for number, stage in enumerate(self.run.settings.stages):
            if number >= self.position.stage:
                if number > self.position.stage:
                    before = self.position
                    self.position = Position(stage=number, lines=before.lines, unreadable=before.unreadable)
                self._train_stage(number, stage)
        if self.team.first:
            self.folder.finish()
        return self.position

    def _train_stage(self, number: int, stage: Stage) -> None:
        with _told_of_memory(self.run.settings.batch_size, self.run.settings.accumulate):
            at = self._begin(number, stage)
            for epoch in range(self.position.epochs, stage.epochs):
                started = time.monotonic()
                tally, unreadable = self._learn(at, epoch)
                self.team.align(at.learner)
                judged, more = self._judge()
                unreadable = self._news(unreadable | more)
                means = tally.means(self.team)
                line = Epoch(
                    stage=stage.name,
                    epoch=epoch + 1,
                    lr=_rate(stage, epoch / stage.epochs),
                    loss=means.pop("loss"),
                    accuracy=means.pop("accuracy"),
                    measures=means,
                    val_loss=judged["loss"],
                    val_accuracy=judged["accuracy"],
                    seconds=round(time.monotonic() - started, 1),
                    unreadable=tuple(unreadable),
                )
                self._keep(at, line, unreadable)

    def _begin(self, number: int, stage: Stage) -> _Stage:
        torch.manual_seed(seed_for("stage", self.run.settings.seed, number))
        self.model.requires_grad_(True)
        learner = stage.learner_of(self.model).to(self.device)
        at = _Stage(
            number=number,
            stage=stage,
            learner=learner,
            shared=self.team.sharing(learner),
            optimizer=_optimizer(stage, learner),
            scaler=torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16),
        )
        if self.learning is not None:
            at.restore(self.learning)
            self.learning = None
        return at

    def _learn(self, at: _Stage, epoch: int) -> tuple[Tally, dict[str, str]]:
        """One epoch."""
        tally, unreadable, accumulate = Tally(), dict[str, str](), self.run.settings.accumulate
        self.view.begins(at.stage.name, epoch + 1, at.stage.epochs, self.loader.steps)
        at.shared.train()
        for step, batch in enumerate(self.loader.training(at.number, epoch)):
            unreadable |= batch.unreadable
            # No state of chance needs to be kept: it follows from the place in the run.
            torch.manual_seed(seed_for("step", self.run.settings.seed, at.number, epoch, step, self.team.rank))
            due = (step + 1) % accumulate == 0
            progress = self._backward(at, batch, due=due)
            if due:
                done = (epoch + (step + 1 - accumulate) / self.loader.steps) / at.stage.epochs
                for group in at.optimizer.param_groups:
                    group["lr"] = _rate(at.stage, done) * group["factor"]
                at.scaler.step(at.optimizer)
                at.scaler.update()
                at.optimizer.zero_grad()
            tally.add(len(batch), **progress)
            self.view.step(step + 1, tally)
        return tally, unreadable

    def _backward(self, at: _Stage, batch: Batch, *, due: bool) -> dict[str, Tensor]:
        frames, targets = batch.frames.to(self.device), batch.targets.to(self.device)
        with nullcontext() if due else self.team.without_sharing(at.shared):
            with self._reduced():
                progress: Progress = at.shared(frames, targets)
            at.scaler.scale(progress.loss / self.run.settings.accumulate).backward()  # type: ignore[no-untyped-call]
        right = (progress.logits.argmax(dim=-1) == targets).float().mean()
        return {"loss": progress.loss.detach(), "accuracy": right, **progress.measures}

    @torch.no_grad()
    def _judge(self) -> tuple[dict[str, float], dict[str, str]]:
        """How right the model is about the clips that it does not learn from."""
        tally, unreadable = Tally(), dict[str, str]()
        self.model.eval()
        for batch in self.loader.validation():
            unreadable |= batch.unreadable
            if len(batch):
                frames, targets = batch.frames.to(self.device), batch.targets.to(self.device)
                with self._reduced():
                    logits = answers(self.model, frames)[:, -1].float()
                right = (logits.argmax(dim=-1) == targets).float().mean()
                tally.add(len(batch), loss=F.cross_entropy(logits, targets), accuracy=right)
        means = tally.means(self.team)
        if not means:
            reason = next(iter(unreadable.values()))
            raise AdaFocusError(f"no video that is for validation can be read; such as: {reason}")
        return means, unreadable

    def _news(self, unreadable: Mapping[str, str]) -> dict[str, str]:
        """What any process has found that was not known."""
        found = {path: why for each in self.team.all_of(dict(unreadable)) for path, why in each.items()}
        return {path: found[path] for path in sorted(found) if path not in self.position.unreadable}

    def _keep(self, at: _Stage, line: Epoch, unreadable: Mapping[str, str]) -> None:
        """Everything that the epoch leaves; the checkpoint comes last."""
        before = self.position
        best = (line.val_accuracy, -line.val_loss) > (before.best, -before.best_loss)
        self.position = Position(
            stage=before.stage,
            epochs=line.epoch,
            best=line.val_accuracy if best else before.best,
            best_loss=line.val_loss if best else before.best_loss,
            best_epoch=line.epoch if best else before.best_epoch,
            lines=before.lines + 1,
            unreadable={**before.unreadable, **unreadable},
        )
        self.check(self.position.unreadable)
        if not math.isfinite(line.loss + line.val_loss):
            raise AdaFocusError(
                f"in epoch {line.epoch} of stage {line.stage} the loss is no number any more; begin again with a lower "
                f"--lr than {at.stage.lr:g}, or with --precision fp32"
            )
        if self.team.first:
            self.folder.note(line)
            for name in (LAST, BEST) if best else (LAST,):
                self.folder.write_model(name, self.run, self.model, self.position, line)
            self.folder.keep(self.run, self.position, at.state())
        self.view.ends(line, self.position.best)

    def _reduced(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)


def _optimizer(stage: Stage, learner: Learner) -> torch.optim.Optimizer:
    groups = [{"params": list(group.parameters), "factor": group.factor} for group in learner.groups()]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=0.9, weight_decay=stage.weight_decay)
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.lr, weight_decay=stage.weight_decay)


def _rate(stage: Stage, done: float) -> float:
    """The rate when so much of a stage is done (0…1)."""
    return stage.lr if stage.constant else stage.lr * (1 + math.cos(math.pi * done)) / 2


@contextmanager
def _told_of_memory(batch_size: int, accumulate: int) -> Iterator[None]:
    """What to do where the memory is too small."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)):
            raise
        raise AdaFocusError(
            f"--batch-size {batch_size} takes more memory than there is; {max(1, batch_size // 2)} with --accumulate "
            f"{2 * accumulate} gives steps of the same size"
        ) from error
