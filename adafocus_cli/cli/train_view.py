"""A training as it goes on: a live line on a terminal, a line for every epoch, and curves for TensorBoard.

Knows nothing of how a model learns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adafocus_cli.cli.terminal import ProgressBar, Terminal
from adafocus_cli.errors import AdaFocusError

if TYPE_CHECKING:
    from adafocus_cli.training.fit import Tally
    from adafocus_cli.training.run_folder import Epoch

_REFRESH = 0.5  # seconds; to read a loss waits for the device


@contextmanager
def view(terminal: Terminal, curves: Path | None) -> Iterator[TrainView]:
    """For the time of a run; `curves` is the folder for TensorBoard."""
    writer = None if curves is None else _writer(curves)
    with terminal.progress(into_stdout=False) as bar:
        try:
            yield TrainView(terminal, bar, writer)
        finally:
            if writer is not None:
                writer.close()


class TrainView:
    def __init__(self, terminal: Terminal, bar: ProgressBar, writer: Any) -> None:
        self._terminal, self._bar, self._writer = terminal, bar, writer
        self._epoch = self._best = ""
        self._steps = self._left = 0
        self._started = self._shown = 0.0

    def begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        self._epoch = f"{stage} {epoch}/{epochs}"
        self._best = self._best if epoch > 1 else ""
        self._steps, self._left = steps, epochs - epoch
        self._started = time.monotonic()

    def step(self, done: int, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._shown < _REFRESH and done < self._steps:
            return
        self._shown = now
        means = tally.means()
        per_step = (now - self._started) / done
        left = _span(per_step * (self._steps * (1 + self._left) - done))
        text = f"{self._epoch} · loss {means['loss']:.3f} · {means['accuracy']:.1%} right{self._best} · {left} left"
        self._bar.show(text, done=done, total=self._steps)

    def ends(self, epoch: Epoch, best: float) -> None:
        self._best = f" · best {best:.1%}"
        measures = "".join(f" · {name} {value:.3f}" for name, value in epoch.measures.items())
        self._terminal.note(
            f"{self._epoch}: loss {epoch.loss:.3f} · {epoch.accuracy:.1%} right{measures} · validation loss "
            f"{epoch.val_loss:.3f} · {epoch.val_accuracy:.1%} right (best {best:.1%}) · {_span(epoch.seconds)}"
        )
        if self._writer is not None:
            numbers = {"loss": epoch.loss, "accuracy": epoch.accuracy, "lr": epoch.lr, **epoch.measures}
            judged = {"validation/loss": epoch.val_loss, "validation/accuracy": epoch.val_accuracy}
            for name, value in {**{f"training/{n}": v for n, v in numbers.items()}, **judged}.items():
                self._writer.add_scalar(f"{epoch.stage}/{name}", value, epoch.epoch)


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise AdaFocusError("--tensorboard needs a package that is not there; pip install tensorboard") from error
    return SummaryWriter(str(folder / "tensorboard"))


def _span(seconds: float) -> str:
    """
    >>> _span(42), _span(125), _span(7300)
    ('42 s', '2 min', '2 h 1 min')
    """
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
