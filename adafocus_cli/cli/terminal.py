"""Messages and the progress bar, on standard error, reports on standard output, and what Ctrl-C does.

Every message is one line, with names from outside made safe to print.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from adafocus_cli.errors import printable
from adafocus_cli.output.texts import clock, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from adafocus_cli.engine.windows import Watch
    from adafocus_cli.schema import VideoInfo

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Drawn(Protocol):
    """What is drawn over itself, and in the way of messages."""

    def hidden(self) -> AbstractContextManager[None]: ...


@dataclass
class Terminal:
    quiet: bool = False
    verbose: bool = False
    typing: bool = False
    """Whether paths are typed at this terminal."""
    _bar: Drawn | None = None

    def error(self, message: str) -> None:
        self._say(f"adafocus: error: {_one_line(message)}")

    def warn(self, message: str) -> None:
        if not self.quiet:
            self._say(f"adafocus: warning: {_one_line(message)}")

    def note(self, message: str) -> None:
        if not self.quiet:
            self._say(f"adafocus: {_one_line(message)}")

    def failure(self, message: str) -> None:
        """One video that could not be tagged; `quiet` does not hide it."""
        self._say(f"adafocus: {_one_line(message)}")

    def detail(self, message: str) -> None:
        if self.verbose:
            self.note(message)

    @contextmanager
    def progress(self, *, into_stdout: bool) -> Iterator[ProgressBar]:
        """A bar for the time of the block; one that shows nothing where nobody would see it, or where it would run
        into what is being typed or into what the other end of a pipe writes to the same terminal.
        """
        in_the_way = self.typing or (into_stdout and _stdout_is_pipe())
        bar = self._bar = ProgressBar(visible=not (self.quiet or in_the_way) and _can_redraw())
        try:
            yield bar
        finally:
            bar.stop()
            self._bar = None

    @contextmanager
    def drawn_around(self, drawn: Drawn) -> Iterator[None]:
        """Messages hide what is drawn, for the time of the block."""
        self._bar = drawn
        try:
            yield
        finally:
            self._bar = None

    @contextmanager
    def showing_log(self, name: str) -> Iterator[None]:
        """What is logged under a name, as warnings, for the time of the block."""
        handler = _LogHandler(self)
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def _say(self, line: str) -> None:
        # Results matter more than messages: a closed standard error does not stop them.
        with self._bar.hidden() if self._bar else nullcontext(), suppress(OSError):
            print(line, file=sys.stderr, flush=True)


class _LogHandler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.warn(record.getMessage())


class ProgressBar:
    """Videos done, of those known so far."""

    def __init__(self, *, visible: bool) -> None:
        self.visible = visible
        self._lock = threading.RLock()  # messages come from other threads, too
        self._shown, self._done = "0 done", 0
        self._progress = _rich_progress() if visible else None
        if self._progress:
            self._task = self._progress.add_task("starting", total=None)
            self._progress.start()

    def update(self, *, done: int, total: int | None, failed: int, pace: str = "") -> None:
        of = "" if total is None else f" of {total}"
        broken = f", [red]{failed} failed[/red]" if failed else ""
        self.show(f"{done}{of} done{pace}{broken}", done=done, total=total)

    def show(self, text: str, *, done: int, total: int | None) -> None:
        self._shown, self._done = text, done
        if self._progress:
            self._progress.update(self._task, completed=done, total=total, description=text)

    def within(self, text: str, share: float) -> None:
        """How far the next one is, behind what is shown."""
        if self._progress:
            from rich.markup import escape

            shown = f"{self._shown} · {escape(text)}"
            self._progress.update(self._task, completed=self._done + share, description=shown)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Off the screen for the time of the block, so that what is written does not run into it."""
        if self._progress is None:
            yield
            return
        with self._lock:
            self._progress.stop()
            try:
                yield
            finally:
                self._progress.start()

    def stop(self) -> None:
        if self._progress:
            self._progress.stop()


def write_out(text: str) -> None:
    """Writes to standard output; its errors say so, and a reader that is gone is none."""
    from adafocus_cli.output.writers import Sink

    Sink.stdout().write(text)


def write_json(value: Any) -> None:
    from adafocus_cli.output.writers import dumps

    write_out(dumps(value, indent=2) + "\n")


@contextmanager
def report_console() -> Iterator[Console]:
    """A console that lays out for standard output, where all of it is written at the end of the block."""
    with laid_out() as (console, written):
        yield console
    write_out(written())


@contextmanager
def laid_out(widest: int | None = None) -> Iterator[tuple[Console, Callable[[], str]]]:
    """A console that lays out for standard output, and what was written to it, once the block has ended."""
    from rich.console import Console

    # From its file it learns how wide and how colourful the other end is, and must not write to it.
    console = Console(file=sys.stdout if sys.stdout.isatty() else io.StringIO(), highlight=False)
    console.width = min(console.width, widest or console.width)
    with console.capture() as captured:
        yield console, captured.get


def video_progress(bar: ProgressBar) -> Watch:
    """Shows on a bar how far into a video its windows are."""
    return lambda video, share: bar.within(video_position(video, share), share)


def video_position(video: VideoInfo, share: float) -> str:
    name, length = printable(PurePath(video.path).name), video.duration
    if length is None:
        return f"{name} {percent(share, digits=0)}"
    return f"{name} {clock(share * length)} of {clock(length)}"


@contextmanager
def stop_on_signal(notify: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process, as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        restore()
        stop.set()
        # In another thread: this one may hold the lock of the progress bar.
        threading.Thread(
            target=notify, args=("finishing the videos in progress; press Ctrl-C again to stop now",)
        ).start()

    for number in _SIGNALS:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def delayed_signals() -> Iterator[None]:
    """SIGINT and SIGTERM take effect at the end of the block; a second one, at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    usual = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            restore()
            signal.raise_signal(number)
        held.append(number)

    for number in _SIGNALS:
        signal.signal(number, hold)
    try:
        yield
    finally:
        restore()
        if held:
            signal.raise_signal(held[0])


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )


def _can_redraw() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _stdout_is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _one_line(message: str) -> str:
    return printable(" ".join(message.split()))
