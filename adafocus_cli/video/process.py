"""The parent's side of the decoding children: asks for videos and frames, and outlives whatever a child does.

Loads no decoder. Every failure is a `VideoError` of the one video; the next request gets a new child.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np

from adafocus_cli.errors import UsageError, VideoError, printable
from adafocus_cli.schema import VideoInfo
from adafocus_cli.video import DECODERS, Decoder, wire
from adafocus_cli.video.framing import USUAL, Framing
from adafocus_cli.video.limits import DecoderError, LimitError, Limits, check_file, problem, stage_of, too_slow
from adafocus_cli.video.remote import is_remote
from adafocus_cli.video.sampling import Look
from adafocus_cli.video.wire import LOG_VARIABLE

_T = TypeVar("_T")


@dataclass(frozen=True)
class OpenVideo:
    """A video that can be asked for frames, and who was asked to read it.

    `copy` is a file that stands in for its path. It is decoded on so many threads.
    """

    info: VideoInfo
    decoder: Decoder
    warnings: tuple[str, ...] = ()
    copy: str | None = None
    threads: int = 1


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """Squares in the order asked for; `replaced` counts the distinct frames for which a neighbour stands in.

    `damaged` are the packets that were found so since the video was opened.
    """

    pixels: np.ndarray
    times: tuple[float, ...]
    replaced: int
    damaged: frozenset[int]
    decoder: str
    seconds: float


class VideoProcess:
    """One child that decodes, one request at a time. Not thread-safe: one thread starts, uses and closes it.

    On Linux the child ends with the thread that started it.
    """

    _command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "adafocus_cli.video.server")
    _start_child: ClassVar[Callable[..., subprocess.Popen[bytes]]] = subprocess.Popen
    # For Python and its libraries to load, on a busy machine.
    _startup_seconds: ClassVar[float] = 60.0
    # Then another child takes its place: what decoders leave behind in memory, were it gaps only, adds up.
    _videos_per_child: ClassVar[int] = 500

    def __init__(self, *, decoder: Decoder = "auto", limits: Limits | None = None) -> None:
        if decoder not in DECODERS:
            raise UsageError(f"{decoder!r} is not a decoder; give one of {', '.join(DECODERS)}")
        self._decoder = decoder
        self._limits = limits or Limits()
        self._child: subprocess.Popen[bytes] | None = None
        self._greeted = False
        self._opened = 0  # by this child
        self._inherited: tuple[int, ...] = ()  # descriptors that a child gets at its start

    def __enter__(self) -> VideoProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Launches the child without waiting for it."""
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        log = None if os.environ.get(LOG_VARIABLE) == "1" else subprocess.DEVNULL
        self._child = self._start_child(
            [*self._command, str(os.getpid()), str(self._limits.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            cwd=_home(),  # `-m` looks there first: never among the user's files
            pass_fds=self._inherited,
        )
        self._greeted = False
        self._opened = 0

    def close(self) -> None:
        """The child is gone when this returns, whatever it was doing."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def open(
        self, path: str, *, decoder: Decoder | None = None, copy: str | None = None, threads: int = 1
    ) -> OpenVideo:
        """What the file says of itself, its frames counted; `decoder` and `threads` are for this video only."""
        decoder = decoder or self._decoder
        if self._opened >= self._videos_per_child:
            self.close()
        header, _ = self._ask("open", path, decoder, _how_to_open(copy, threads))
        return self._understand("open", path, lambda: _open_video(header, path, decoder, copy, threads))

    def times(self, video: OpenVideo) -> np.ndarray:
        """When each frame is shown, in seconds from the first."""
        path = video.info.path
        _, payload = self._ask(
            "times", path, video.decoder, _how_to_open(video.copy, video.threads), 8 * video.info.frames
        )
        return self._understand("times", path, lambda: _times(payload, video.info.frames))

    def frames(
        self,
        video: OpenVideo,
        indices: Sequence[int],
        *,
        framing: Framing = USUAL,
        later: Sequence[int] = (),
        keep_source: bool = False,
    ) -> DecodedFrames:
        """Frames by number, in any order, any of them more than once.

        `later` are frames that may be asked for next: those that are passed on the way are kept for then. With
        `keep_source` the child keeps all of these frames, so that `cuts` need not decode them again.
        """
        path, wanted = video.info.path, [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < video.info.frames:
                raise IndexError(f"frame {index} of {printable(path)}: it has {video.info.frames}, counted from 0")
        if framing.size < 1:
            raise ValueError(f"size is {framing.size}; it must be at least 1")
        shape = (len(wanted), *framing.shape_of(video.info.width, video.info.height))
        payload_bytes = int(np.prod(shape))
        how = {"framing": asdict(framing), "later": list(later), "keep_source": keep_source}
        more = {"indices": wanted, **how, **_how_to_open(video.copy, video.threads)}
        header, payload = self._ask("frames", path, video.decoder, more, payload_bytes)
        return self._understand("frames", path, lambda: frames_of(header, payload, shape))

    def cuts(self, video: OpenVideo, looks: Sequence[Look]) -> tuple[np.ndarray, float]:
        """What looks with boxes of one size see: uint8 (looks, size, size, 3), cut out of the source; and the seconds
        that it took."""
        path, size = video.info.path, looks[0].size
        boxes = [(look.frame, *look.box) for look in looks if look.box is not None and look.size == size]
        if len(boxes) != len(looks):
            raise ValueError("looks of one request have boxes, and one size")
        shape = (len(looks), size, size, 3)
        more = {"looks": boxes, "size": size, **_how_to_open(video.copy, video.threads)}
        header, payload = self._ask("cuts", path, video.decoder, more, int(np.prod(shape)))

        def read() -> tuple[np.ndarray, float]:
            return np.frombuffer(payload, np.uint8).reshape(shape), float(header["seconds"])

        return self._understand("cuts", path, read)

    def keyframes(self, video: OpenVideo, near: Sequence[int]) -> tuple[int, ...]:
        """For each of these frames the nearest that is decoded without others, itself where none is found sooner."""
        path, more = video.info.path, {"near": list(near), **_how_to_open(video.copy, video.threads)}
        header, _ = self._ask("keyframes", path, video.decoder, more)
        return self._understand("keyframes", path, lambda: _numbers(header["keyframes"], len(near), video))

    def write_clip(self, path: str, target: Path, start: float, end: float | None) -> Path:
        """Copies what is shown in a part of a video into a file of its own, which gets the ending of its kind.

        It begins at the keyframe before `start`, in seconds from the first frame; without an `end` it goes on to that
        of the video.
        """
        if is_remote(path):
            raise problem(path, "clips are cut from local files only; copy it to this machine first", "decode")
        check_file(path, path)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        more = {"target": os.path.abspath(unfinished), "start": start, "end": end}  # noqa: PTH100
        try:
            header, _ = self._ask("clip", path, self._decoder, more)
            ending = self._understand("clip", path, lambda: _ENDING.fullmatch(header["ending"])[0])  # type: ignore[index]
            return unfinished.replace(target.with_name(target.name + ending))
        finally:
            unfinished.unlink(missing_ok=True)

    def _ask(
        self, do: str, path: str, decoder: Decoder, more: dict[str, Any], payload_bytes: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """One question, one answer; the child is killed if it does not answer in time."""
        request = {
            "do": do,
            "path": os.path.abspath(path),  # noqa: PTH100  (Path.absolute keeps `..`)
            "name": path,
            "decoder": decoder,
            "limits": asdict(self._limits),
            **more,
        }
        try:
            header, payload = self._exchange(request, payload_bytes)
        except TimeoutError:
            raise too_slow(path, self._limits, stage_of(do)) from None
        except (wire.WireError, EOFError, OSError) as error:
            raise self._lost(path, error, do) from None
        except BaseException:
            self.close()  # it may be in the middle of an answer
            raise
        if "error" in header:
            self._raise_reported(header, do)
        return header, payload

    def _exchange(self, request: dict[str, Any], payload_bytes: int) -> tuple[dict[str, Any], bytes]:
        self.start()
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout

        def ask() -> tuple[dict[str, Any], bytes]:
            wire.send(stdin, request)
            return wire.receive(stdout, payload_bytes=payload_bytes)

        if not self._greeted:
            self._within(self._startup_seconds, lambda: wire.receive(stdout))
            self._greeted = True
        self._opened += request["do"] == "open"
        return self._within(self._limits.seconds, ask)

    def _within(self, seconds: float, action: Callable[[], _T]) -> _T:
        """Pipes know no time limit on every platform, so a thread waits for them; the child's death frees it."""
        results: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(action())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self.close()
            thread.join()
            raise TimeoutError
        if errors:
            raise errors[0]
        return results[0]

    def _understand(self, do: str, path: str, read: Callable[[], _T]) -> _T:
        """What the child said, unless it is not what was asked for."""
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._lost(path, error, do) from None

    def _lost(self, path: str, error: Exception, do: str) -> VideoError:
        """A child that is gone, or makes no sense; none that came up at all is no matter of the decoder."""
        greeted, stage = self._greeted, stage_of(do)
        lost = problem(path, self._post_mortem(error), stage)
        return DecoderError(str(lost), stage=stage) if greeted else lost

    def _raise_reported(self, header: dict[str, Any], do: str) -> None:
        kind = _REPORTED.get(str(header.get("type")), VideoError)
        raise kind(str(header["error"]), stage=str(header.get("stage", stage_of(do))))

    def _post_mortem(self, error: Exception) -> str:
        """Why there is no answer, and what to do; leaves no child."""
        child, greeted = self._child, self._greeted
        status: int | None = None
        if child is not None and isinstance(error, (EOFError, OSError)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = child.wait(timeout=2.0)
        self.close()
        if not greeted:
            return f"no decoder process could be started ({error}); set {LOG_VARIABLE}=1 to see why"
        if status is None:
            return "the decoder process gave an answer that makes no sense; re-encode the file or try another --decoder"
        if status == -getattr(signal, "SIGKILL", 9):
            return "the decoder process was killed, perhaps for want of memory; run fewer at once or re-encode the file"
        if status == -getattr(signal, "SIGABRT", 6):
            return "the decoder gave up (SIGABRT), perhaps at its memory limit; re-encode the file or make it smaller"
        if status < 0:
            return f"the decoder crashed ({_signal_name(-status)}) on it; re-encode the file or try another --decoder"
        return f"the decoder process ended early (status {status}); set {LOG_VARIABLE}=1 to see why"


_ENDING = re.compile(r"\.\w+")
_REPORTED = {kind.__name__: kind for kind in (LimitError, DecoderError)}


def _how_to_open(copy: str | None, threads: int) -> dict[str, Any]:
    """Told with every request: the child may have closed it meanwhile."""
    return {"threads": threads} | ({} if copy is None else {"path": copy})


def _open_video(header: dict[str, Any], path: str, decoder: Decoder, copy: str | None, threads: int) -> OpenVideo:
    info = VideoInfo(**{**header["info"], "path": path})
    whole = (info.width, info.height, info.frames, info.rotation)
    if not all(type(value) is int for value in whole) or min(info.width, info.height, info.frames) < 1:
        raise ValueError("sizes are positive whole numbers")
    return OpenVideo(info, decoder, tuple(str(each) for each in header["warnings"]), copy, threads)


def _times(payload: bytes, count: int) -> np.ndarray:
    times = np.frombuffer(payload, np.float64)
    if len(times) != count or not np.isfinite(times).all():
        raise ValueError("one time for each frame")
    return np.maximum.accumulate(times - times[0])


def frames_of(header: dict[str, Any], payload: bytes, shape: tuple[int, ...]) -> DecodedFrames:
    """What an answer says of frames."""
    times = tuple(float(time) for time in header["times"])
    if len(times) != shape[0]:
        raise ValueError("one time for each frame")
    return DecodedFrames(
        pixels=np.frombuffer(payload, np.uint8).reshape(shape),
        times=times,
        replaced=int(header["replaced"]),
        damaged=frozenset(int(packet) for packet in header["damaged"]),
        decoder=str(header["decoder"]),
        seconds=float(header["seconds"]),
    )


def _numbers(found: list[Any], count: int, video: OpenVideo) -> tuple[int, ...]:
    if len(found) != count or not all(type(n) is int and 0 <= n < video.info.frames for n in found):
        raise ValueError("one number of a frame for each")
    return tuple(found)


def _home() -> str:
    """The folder that holds this package."""
    return str(Path(__file__).resolve().parents[2])


def _environment() -> dict[str, str]:
    """The child finds modules where this process does, however that came about, and starts no threads of its own."""
    here = [os.path.abspath(each) for each in sys.path]  # noqa: PTH100  ('' is the current folder)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([_home(), *here]),
        "PYTHONSAFEPATH": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# A pool: processes, each with a thread of its own that does tasks with it, one at a time.
#
# A task is done by the first process that is free, or by the one that it is for: what a child has open stays with it. A
# process does the tasks that are for it alone first. Its thread launches the child and lives as long as the pool, for
# Linux ends a child with the thread that launched it. Closing wakes every thread and kills every child, whatever it is
# doing.

# How often, while threads end, their children are killed: one that was between two requests may launch another.
_KILL_SECONDS = 0.01


class _Task:
    def __init__(self, action: Callable[[VideoProcess], Any]) -> None:
        self._action = action
        self.result: Future[Any] = Future()

    def do(self, process: VideoProcess) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            result = self._action(process)
        except BaseException as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(result)

    def cancel(self) -> None:
        self.result.cancel()
        self.result.set_running_or_notify_cancel()  # tells those who wait for it


class _Worker:
    """A process, the tasks for it alone, and what its thread waits on."""

    def __init__(self, process: VideoProcess, lock: threading.RLock) -> None:
        self.process = process
        self.tasks: deque[_Task] = deque()
        self.changed = threading.Condition(lock)


class ProcessPool:
    def __init__(self, workers: int, *, name: str, limits: Limits, decoder: Decoder = "auto") -> None:
        self._name = name
        self._lock = threading.RLock()  # of all that follows
        processes = [VideoProcess(decoder=decoder, limits=limits) for _ in range(max(1, workers))]
        self._workers = {process: _Worker(process, self._lock) for process in processes}
        self._tasks: deque[_Task] = deque()  # for whoever is free first
        self._idle: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._closing = False

    def __len__(self) -> int:
        return len(self._workers)

    def start(self) -> None:
        """Launches the first child without waiting for it; the others come as they are needed."""
        self.submit(VideoProcess.start)

    def submit(self, action: Callable[[VideoProcess], _T], process: VideoProcess | None = None) -> Future[_T]:
        """Has a thread do it with the process that is free first, or with this one; cancelled once the pool closes."""
        task = _Task(action)
        with self._lock:
            if self._closing:
                task.cancel()
            elif process is None:
                self._tasks.append(task)
                self._call_one()
            else:
                worker = self._workers[process]
                worker.tasks.append(task)
                self._wake(worker)
        return task.result

    def work_until(self, process: VideoProcess, condition: Callable[[], bool]) -> None:
        """For an action that has to wait: does meanwhile what is for this process alone.

        Returns when the condition holds, which is looked at after each task and each `wake`, or when the pool closes.
        """
        worker = self._workers[process]
        while True:
            with self._lock:
                while not (self._closing or worker.tasks or condition()):
                    worker.changed.wait()
                if self._closing or not worker.tasks:
                    return
                task = worker.tasks.popleft()
            task.do(process)

    def wake(self) -> None:
        """Has those who work until a condition holds look at it."""
        with self._lock:
            for worker in self._workers.values():
                worker.changed.notify()

    def close(self) -> None:
        """Ends children and threads; returns when they are gone."""
        with self._lock:
            self._closing = True
            given_up = [*self._tasks, *(task for worker in self._workers.values() for task in worker.tasks)]
            self._tasks.clear()
            for worker in self._workers.values():
                worker.tasks.clear()
        self.wake()
        for task in given_up:
            task.cancel()
        for thread in self._threads:
            while thread.is_alive() and thread is not threading.current_thread():
                self._kill_children()
                thread.join(_KILL_SECONDS)
        self._kill_children()

    def _kill_children(self) -> None:
        for process in self._workers:
            process.close()

    def _call_one(self) -> None:
        """Has one who is idle, or has not begun yet, look for tasks."""
        if self._idle:
            self._wake(self._idle[-1])  # the one that was busy last has its child up
        elif len(self._threads) < len(self._workers):
            worker = list(self._workers.values())[len(self._threads)]
            thread = threading.Thread(target=self._serve, args=(worker,), name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _wake(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.changed.notify()

    def _serve(self, worker: _Worker) -> None:
        while task := self._next_for(worker):
            task.do(worker.process)

    def _next_for(self, worker: _Worker) -> _Task | None:
        """None when the pool closes."""
        with self._lock:
            while not (self._closing or worker.tasks or self._tasks):
                if worker not in self._idle:
                    self._idle.append(worker)
                worker.changed.wait()
            if worker in self._idle:
                self._idle.remove(worker)
            if self._closing:
                return None
            if not worker.tasks:
                return self._tasks.popleft()
            if self._tasks:  # it may be this one who was called for them
                self._call_one()
            return worker.tasks.popleft()
