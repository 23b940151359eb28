"""Waits for work while doing something else at intervals. The work never outlives the wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

STOP_SECONDS = 0.2
"""How often `stop` is called until the thread ends: a cancel that arrives between two statements has no effect."""

T = TypeVar("T")


async def with_ticks(work: Awaitable[T], tick: Callable[[], Awaitable[object]], *, seconds: float) -> T:
    """Await `work`, and `tick` every so many seconds. If `tick` raises, or this task is cancelled, so is the work."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=seconds))[0]:
            await tick()
        return task.result()
    finally:
        await end_task(task)


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel a task, unless it is done, and wait until it is."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but only so long. Returns whether it is set."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return event.is_set()
    return True


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run `work` as a task, which is cancelled at the end of the context."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end_task(task)


async def beside_the_loop(
    work: Callable[[], T],
    *,
    stop: Callable[[], None] | None = None,
    tick: Callable[[], Awaitable[object]] | None = None,
    seconds: float | None = None,
) -> T:
    """Run blocking work in its own thread, as it may take as long as a job, and return its result.

    Args:
        stop: makes `work` end soon, with an error that is dropped; called repeatedly, from another thread. Without it,
            a cancel waits for the end of the work.
        tick: awaited every so many seconds; if it raises, or this task is cancelled, the work is stopped first.
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
            if stop is not None:
                await asyncio.to_thread(stop)
            await asyncio.wait({working}, timeout=STOP_SECONDS)
        working.exception()  # marked as retrieved: it was raised above, or is dropped
        thread.shutdown(wait=False)
