"""Waits for a piece of work, and looks up in between.

    with_ticks()        a coroutine
    beside_the_loop()   blocking work, in a thread of its own; the event loop stays free

In: the work, and what to call every so many seconds. Out: its result; nothing goes on behind it, whatever happens here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

STOP_SECONDS = 0.2
"""How often a thread that is to end is reminded: a reminder between two statements is lost."""

T = TypeVar("T")


async def with_ticks(work: Coroutine[Any, Any, T], tick: Callable[[], Awaitable[object]], *, seconds: float) -> T:
    """Await `work`, and `tick` every so many seconds. When `tick` raises, or this task is cancelled, so is the work."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=seconds))[0]:
            await tick()
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def beside_the_loop(
    work: Callable[[], T],
    *,
    stop: Callable[[], None],
    tick: Callable[[], Awaitable[object]] | None = None,
    seconds: float | None = None,
) -> T:
    """Run `work` in a thread of its own to its end.

    Args:
        work: blocks. Its thread is its own, as it may take as long as a job does.
        stop: makes `work` end soon, with an error that is dropped; called from another thread, again and again.
        tick: awaited every so many seconds; when it raises, or this task is cancelled, the work is stopped first.
        seconds: between two ticks.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside-the-loop")
    working = asyncio.get_running_loop().run_in_executor(thread, work)
    try:
        while not (await asyncio.wait({working}, timeout=seconds))[0]:
            if tick is not None:
                await tick()
        return working.result()
    finally:
        while not working.done():
            await asyncio.to_thread(stop)
            await asyncio.wait({working}, timeout=STOP_SECONDS)
        working.exception()  # known by now, or dropped
        thread.shutdown(wait=False)
