"""Several iterators at the same time, each in a thread of its own, as one.

Knows nothing of what they yield.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


class _End:
    """An iterator's last word."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def merged(sources: Sequence[Iterator[_T]]) -> Generator[_T]:
    """What they yield, as it comes; a lone one stays in the caller's thread.

    An error of one is raised when the others are through. Closing the iterator waits until each has yielded.
    """
    if len(sources) == 1:
        yield from sources[0]
        return
    items: queue.Queue[_T | _End] = queue.Queue(maxsize=len(sources))
    closing = threading.Event()
    threads = [threading.Thread(target=_run, args=(source, items, closing), name="model") for source in sources]
    for thread in threads:
        thread.start()
    try:
        yield from _until_all_end(items, len(sources))
    finally:
        closing.set()
        while any(thread.is_alive() for thread in threads):
            _drain(items)
            threads[0].join(0.01)


def _run(source: Iterator[_T], items: queue.Queue[_T | _End], closing: threading.Event) -> None:
    end = _End(None)
    try:
        for item in source:
            items.put(item)
            if closing.is_set():
                break
    except BaseException as error:
        end.error = error
    items.put(end)


def _until_all_end(items: queue.Queue[_T | _End], count: int) -> Iterator[_T]:
    errors: list[BaseException] = []
    while count:
        item = items.get()
        if not isinstance(item, _End):
            yield item
            continue
        count -= 1
        if item.error is not None:
            errors.append(item.error)
    if errors:
        raise errors[0]


def _drain(items: queue.Queue[_T | _End]) -> None:
    while True:
        try:
            items.get_nowait()
        except queue.Empty:
            return
