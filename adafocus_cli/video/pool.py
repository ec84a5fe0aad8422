"""Decoding processes and as many threads that take turns with them.

Always ended: closing kills every child, whatever it is doing. Knows nothing of what is decoded, or why.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from adafocus_cli.video.decode import Decoder
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.process import VideoProcess

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ProcessPool:
    def __init__(self, workers: int, *, name: str, limits: Limits, decoder: Decoder = "auto") -> None:
        self._processes = [VideoProcess(decoder=decoder, limits=limits) for _ in range(max(1, workers))]
        self._idle = deque(self._processes)
        self._threads = ThreadPoolExecutor(len(self._processes), thread_name_prefix=name)

    def __len__(self) -> int:
        return len(self._processes)

    def start(self) -> None:
        """Launches the first child without waiting for it; the others come as they are needed."""
        self._processes[0].start()

    def submit(self, job: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Has a thread do the job, which may call `with_process`."""
        return self._threads.submit(job, *args, **kwargs)

    def with_process(self, action: Callable[[VideoProcess], _T]) -> _T:
        """Only for jobs: there is a process for each of them."""
        process = self._idle.popleft()
        try:
            return action(process)
        finally:
            self._idle.append(process)

    def close(self) -> None:
        """Ends children and threads; one that was between two requests may start one more child, which ends as well."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while any(thread.is_alive() for thread in self._threads._threads):
            self._close_processes()
            time.sleep(0.01)
        self._close_processes()

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()
