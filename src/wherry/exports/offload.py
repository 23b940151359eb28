"""Runs blocking work in threads of its own.

    beside_the_loop()   a whole piece of work; the event loop stays free, as the worker's heartbeat runs on it
    ahead()             an iterator's next items, while its consumer is busy with the last

Database driver and JSON encoder hold the interpreter's lock, compression, hashing and writing do not: one thread of
each kind, and a server, keep two cores busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

STOP_SECONDS = 0.2
"""How often a thread that is to end is reminded: a reminder between two statements is lost."""

AHEAD = 2
"""Items that may wait: enough that neither side waits for the other, few enough to keep memory flat."""

T = TypeVar("T")


async def beside_the_loop(
    work: Callable[[], T], *, stop: Callable[[], None], tick: Callable[[], Awaitable[None]], seconds: float
) -> T:
    """Run `work` in a thread of its own to its end, whatever happens here.

    Args:
        work: blocks. Its thread is its own, as it may take as long as a job does.
        stop: makes `work` end soon, with an error that is dropped; called from another thread, again and again.
        tick: awaited every so many seconds; when it raises, or this task is cancelled, the work is stopped first.
        seconds: between two ticks.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export")
    working = asyncio.get_running_loop().run_in_executor(thread, work)
    try:
        while not (await asyncio.wait({working}, timeout=seconds))[0]:
            await tick()
        return working.result()
    finally:
        while not working.done():
            await asyncio.to_thread(stop)
            await asyncio.wait({working}, timeout=STOP_SECONDS)
        working.exception()  # known by now, or dropped
        thread.shutdown(wait=False)


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, made in a thread of their own, up to `AHEAD` before they are asked for.

    What `items` raises is raised where its item would have come. Closing waits for the item in the making.
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
