"""Decoding processes, each with a thread of its own that does tasks with it, one at a time.

A task is done by the first process that is free, or by the one that it is for: what a child has open stays with it. A
process does the tasks that are for it alone first. Its thread launches the child and lives as long as the pool, for
Linux ends a child with the thread that launched it. Closing wakes every thread and kills every child, whatever it is
doing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from adafocus_cli.video import Decoder
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import VideoProcess

_T = TypeVar("_T")

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
