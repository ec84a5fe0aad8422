"""Paths → workers on a Ray cluster → results, each as soon as it is there.

Ray moves paths and results and gives machines. Here: who gets which path, workers for machines that join, a fresh one
for a lost one, and what becomes of the videos that it had. Everything about one video is done by the worker
(worker.py), as it is locally. Ray is loaded when used.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adafocus_cli import checkpoint
from adafocus_cli.engine.local import failure_of
from adafocus_cli.engine.worker import Setup, Worker
from adafocus_cli.errors import AdaFocusError, UsageError, VideoError, printable
from adafocus_cli.requests import cores
from adafocus_cli.schema import Result

logger = logging.getLogger("adafocus")

# So often a video is given to a worker that is then lost; once or twice, it may be the machine's fault.
TRIES = 3

# More of them help little, and leave too much in flight.
_MAX_DECODERS = 16
_GLANCE_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0
_REACH_SECONDS = 10.0
# How often machines that joined or left are looked for.
_CLUSTER_SECONDS = 2.0


class WorkerError(VideoError):
    """The worker that had the video was lost, and so were others."""


@dataclass(frozen=True)
class ClusterPlan:
    """What a worker takes of the cluster, how many videos it has at a time, and how many workers were asked for."""

    workers: int | None
    cpus: int
    gpus: int
    depth: int

    @classmethod
    def of(cls, nodes: list[dict[str, float]], *, workers: int | None, lanes: int | None) -> ClusterPlan:
        """One worker for each accelerator, if `lanes` says how many videos it takes and there are any; else one for
        each processor."""
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        if lanes and with_gpus:
            cpus = min(_MAX_DECODERS, *(max(1, int(node.get("CPU", 1) / node["GPU"])) for node in with_gpus))
            return cls(workers, cpus, 1, lanes + 2 * cpus)
        return cls(workers, 1, 0, 3)

    def count(self, nodes: list[dict[str, float]]) -> int:
        """How many workers these machines have room for, one at least, if no other number was asked for."""
        if self.workers is not None:
            return self.workers
        room = (int(node.get("CPU", 0) / self.cpus) for node in nodes)
        if self.gpus:
            room = (min(of_cpus, int(node.get("GPU", 0))) for of_cpus, node in zip(room, nodes, strict=True))
        return max(1, sum(room))

    def patience(self, seconds: float, *, in_windows: bool) -> float:
        """After how long a video is late, if each step of each one before it takes as long as it may.

        One in windows may take any time: it has as many steps as it is long.
        """
        if in_windows:
            return math.inf
        return _PATIENCE_SECONDS + 4 * seconds * (1 + self.depth / self.cpus)


def tag_on_cluster(
    paths: Iterable[str],
    setup: Setup,
    model: Path,
    *,
    address: str | None,
    workers: int | None,
    lanes: int | None,
    in_windows: bool,
    stop: threading.Event,
) -> Generator[Result]:
    """Results and failures, one a path. Without an address, the cluster is this machine, for as long as it takes.

    When `stop` is set, what is in flight is finished and nothing else begun.
    """
    ray = library()
    files = {file.name: file.read_bytes() for file in checkpoint.files_of(model)}
    with _connected(ray, address, 4 * sum(map(len, files.values()))):
        plan = ClusterPlan.of(_machines(ray), workers=workers, lanes=lanes)
        setup = replace(setup, request=replace(setup.request, workers=plan.cpus))
        feed = _PathReader(paths, stop)
        patience = plan.patience(setup.request.limits.seconds, in_windows=in_windows)
        driver = _Driver(ray, plan, feed, ray.put(setup), ray.put(files), patience)
        try:
            yield from driver.results()
        finally:
            feed.close()
            driver.stop()


def _machines(ray: Any) -> list[dict[str, float]]:
    """What each machine of the cluster has, at this moment."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def library() -> Any:
    """Ray, told to keep to itself."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        text = 'pip install "adafocus-cli[ray]"; or leave --engine out'
        raise UsageError(f"--engine ray needs a library: {text}") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, store_bytes: int) -> Iterator[None]:
    if ray.is_initialized():
        yield  # whoever began it ends it
        return
    how: dict[str, Any] = {"address": address, "logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        store = max(200 << 20, store_bytes)
        how |= {"address": "local", "num_cpus": cores(), "include_dashboard": False, "object_store_memory": store}
    usual = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address or "")
        ray.init(**how)
    except Exception as error:  # libraries below it raise errors of their own
        where = "no Ray cluster could be started here" if address is None else f"no Ray cluster answers at {address}"
        raise AdaFocusError(f"{where} ({_one_line(error)}); see `ray start --help`, or leave --engine out") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, usual)  # Ray puts its own there
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError if nobody listens there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()


class _PathReader:
    """Paths, read by a thread of its own, for they may come slowly."""

    def __init__(self, paths: Iterable[str], stop: threading.Event) -> None:
        self._stop = stop
        self._closing = threading.Event()
        self._ahead: queue.Queue[str] = queue.Queue(1000)
        self._all_in = False
        self._error: Exception | None = None
        threading.Thread(target=self._read, args=(paths,), name="paths", daemon=True).start()

    def close(self) -> None:
        self._closing.set()

    @property
    def is_over(self) -> bool:
        """Raises the error with which the paths broke off."""
        if self._stop.is_set():
            return True
        if not self._all_in or not self._ahead.empty():
            return False
        if self._error:
            raise self._error
        return True

    def next(self) -> str | None:
        try:
            return None if self._stop.is_set() else self._ahead.get_nowait()
        except queue.Empty:
            return None

    def _read(self, paths: Iterable[str]) -> None:
        try:
            for path in paths:
                while not self._put(path):
                    if self._stop.is_set() or self._closing.is_set():
                        return
        except Exception as error:  # the consumer's thread shall know
            self._error = error
        finally:
            self._all_in = True

    def _put(self, path: str) -> bool:
        try:
            self._ahead.put(path, timeout=_GLANCE_SECONDS)
        except queue.Full:
            return False
        return True


@dataclass(eq=False)
class _Job:
    path: str
    lost: int = 0
    end: float = 0.0


@dataclass(eq=False)
class _WorkerHandle:
    """A worker as the driver sees it: until it has started, `starting` says when it has."""

    actor: Any
    starting: Any
    jobs: dict[Any, _Job] = field(default_factory=dict)

    @property
    def is_alone(self) -> bool:
        """What was with a lost worker goes alone, so that no other video pays for it."""
        return any(job.lost for job in self.jobs.values())


class _Driver:
    """Hands out paths and takes results, in one thread."""

    def __init__(self, ray: Any, plan: ClusterPlan, feed: _PathReader, setup: Any, files: Any, patience: float) -> None:
        self._ray = ray
        self._plan = plan
        self._feed = feed
        self._arguments = (setup, files)
        self._patience = patience
        self._to_retry: deque[_Job] = deque()
        self._lost_in_a_row = 0
        self._began = time.monotonic()
        self._looked = float("-inf")
        self._wanted = self._most_wanted = 0
        self._workers: list[_WorkerHandle] = []

    def results(self) -> Generator[Result]:
        while True:
            self._follow_cluster()
            self._hand_out()
            if not self._to_retry and not any(worker.jobs for worker in self._workers) and self._feed.is_over:
                self._shut_down_workers()
                return
            yield from self._collect()
            yield from self._give_up_late_ones()

    def stop(self) -> None:
        """Ends them, whatever they are doing."""
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _shut_down_workers(self) -> None:
        """All clear up, for nobody has anything to do any more; also those who are still getting ready."""
        if late := [worker.starting for worker in self._workers if worker.starting is not None]:
            ready, _ = self._ray.wait(late, num_returns=len(late), timeout=_REACH_SECONDS)
            for worker in self._workers:
                worker.starting = None if worker.starting in ready else worker.starting
        ends = [worker.actor.stop.remote() for worker in self._workers if worker.starting is None]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=_REACH_SECONDS)

    def _follow_cluster(self) -> None:
        """Workers for machines that have joined; of those that wait for one that has left, none.

        Workers that are lost with a machine are noticed like all others.
        """
        if time.monotonic() < self._looked + _CLUSTER_SECONDS:
            return
        self._looked = time.monotonic()
        self._wanted = self._plan.count([] if self._plan.workers else _machines(self._ray))
        self._most_wanted = max(self._most_wanted, self._wanted)
        self._workers += [self._start_worker() for _ in range(self._wanted - len(self._workers))]
        waiting = [worker for worker in self._workers if worker.starting is not None]
        for worker in waiting[: max(0, len(self._workers) - self._wanted)]:
            self._workers.remove(worker)
            self._ray.kill(worker.actor)

    def _start_worker(self) -> _WorkerHandle:
        plan = self._plan
        how = {"num_cpus": plan.cpus, "num_gpus": plan.gpus, "max_concurrency": plan.depth + 1}
        actor = self._ray.remote(Worker).options(**how).remote()
        return _WorkerHandle(actor, actor.start.remote(*self._arguments))

    def _hand_out(self) -> None:
        """One by one, always to the one who has least."""
        while free := [worker for worker in self._workers if self._has_room(worker)]:
            worker = min(free, key=lambda worker: len(worker.jobs))
            job = self._next_for(worker)
            if job is None:
                return
            job.end = time.monotonic() + self._patience
            worker.jobs[worker.actor.tag.remote(job.path)] = job

    def _has_room(self, worker: _WorkerHandle) -> bool:
        return worker.starting is None and len(worker.jobs) < self._plan.depth and not worker.is_alone

    def _next_for(self, worker: _WorkerHandle) -> _Job | None:
        if self._to_retry:
            return None if worker.jobs else self._to_retry.popleft()
        path = self._feed.next()
        return None if path is None else _Job(path)

    def _collect(self) -> Iterator[Result]:
        """What has come about; waits a little for the first."""
        due = {worker.starting: worker for worker in self._workers if worker.starting is not None}
        due |= {answer: worker for worker in self._workers for answer in worker.jobs}
        if not due:
            time.sleep(_GLANCE_SECONDS)
            return
        self._ray.wait(list(due), num_returns=1, timeout=_GLANCE_SECONDS)
        there, _ = self._ray.wait(list(due), num_returns=len(due), timeout=0)
        for answer in there:
            worker = due[answer]
            if worker not in self._workers:
                continue  # it was lost a moment ago
            try:
                result = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                yield from self._replace(worker, getattr(error, "cause", None) or error)
                continue
            self._lost_in_a_row = 0
            if answer is worker.starting:
                worker.starting = None
            else:
                del worker.jobs[answer]
                yield result

    def _give_up_late_ones(self) -> Iterator[Result]:
        now = time.monotonic()
        for worker in list(self._workers):
            if any(job.end < now for job in worker.jobs.values()):
                late = TimeoutError(f"nothing was heard of it for {self._patience:.0f} seconds")
                yield from self._replace(worker, late)
        if all(worker.starting is not None for worker in self._workers) and now > self._began + _PATIENCE_SECONDS:
            self._began = float("inf")
            logger.warning("no worker has started yet; the cluster may be busy with other work: see `ray status`")

    def _replace(self, worker: _WorkerHandle, reason: BaseException) -> Iterator[Result]:
        """A fresh worker for a lost one, unless its machine has left; its videos are tried again, or fail."""
        if isinstance(reason, AdaFocusError):
            raise reason
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        self._lost_in_a_row += 1
        if self._lost_in_a_row > 5 + 2 * self._most_wanted:
            raise AdaFocusError(
                f"the cluster loses one worker after the other ({_one_line(reason)}); check that adafocus runs on all "
                "its machines"
            )
        if len(self._workers) < self._wanted:
            self._workers.append(self._start_worker())
        for job in worker.jobs.values():
            job.lost += 1
            if job.lost < TRIES:
                self._to_retry.append(job)
            else:
                text = f"its worker was lost {TRIES} times ({_one_line(reason)}); run again, or without --engine ray"
                yield failure_of(job.path, WorkerError(f"{printable(job.path)}: {text}", stage="infer"), "infer")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).partition(". ")[0]
    return text[:200] or type(error).__name__
