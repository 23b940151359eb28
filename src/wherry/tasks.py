"""Waits for a piece of work, and looks up in between.

In: a coroutine. Out: its result, with a call every so many seconds until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

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
