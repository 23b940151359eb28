"""Produces an iterator's next items in a thread while the consumer works on the current one.

Database driver and JSON encoder hold the interpreter's lock, compression, hashing and writing do not: one thread of
each kind, and a server, keep two cores busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2
"""Items that may wait: enough that neither side waits for the other, few enough to keep memory flat."""

T = TypeVar("T")


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, produced in a thread, up to `AHEAD` of them in advance.

    An exception from `items` is raised after the items before it. Closing waits for the item that is being produced.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="export-ahead") as thread:
        waiting: deque[Future[T | None]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD:
                    waiting.append(thread.submit(next, items, None))
                item = waiting.popleft().result()
                if item is None:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(items.close).result()
