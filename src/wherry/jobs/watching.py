"""Follows one job as it changes, for server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

from wherry.jobs.notifications import Notifications

KEEP_ALIVE_SECONDS = 15.0
"""Keep-alive interval of a silent stream."""

Seen = TypeVar("Seen")


class Idle(Enum):
    """Nothing has changed for a while: time for a keep-alive."""

    IDLE = "idle"


IDLE: Final = Idle.IDLE


async def looks(
    notifications: Notifications,
    job_id: UUID,
    look: Callable[[], Awaitable[Seen]],
    *,
    at_most_every: float = 0.0,
    idle_every: float = KEEP_ALIVE_SECONDS,
) -> AsyncIterator[Seen | Idle]:
    """Look now and after every change, at most every `at_most_every` seconds, and never end.

    Yields what was seen, or `IDLE` every `idle_every` seconds while nothing changes.
    """
    with notifications.subscribe(job_id) as changed:
        while True:
            changed.clear()
            yield await look()
            await asyncio.sleep(at_most_every)
            while not await _within(changed.wait(), idle_every):
                yield IDLE


async def _within(waiting: Awaitable[object], seconds: float) -> bool:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return False
    return True
