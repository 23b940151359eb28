"""Wakes the coroutines of one process when a job changes, and follows single jobs for server-sent events.

PostgreSQL's NOTIFY arrives on one connection per process; each subscriber has an `asyncio.Event`. A wake-up is only a
hint to look again, so a lost one delays a reader but loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

from wherry.database.listening import Listener
from wherry.waiting import end_task

CHANNEL = "wherry_jobs"
KEEP_ALIVE_SECONDS = 15.0
"""Keep-alive interval of a silent stream."""

Seen = TypeVar("Seen")


class Notifications:
    """The LISTEN connection of a process, and its subscribers.

    Args:
        conninfo: URL of the database itself, because LISTEN does not work through a transaction pooler.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._subscribers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def subscribe(self, job_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job changes; the subscriber clears it."""
        event = asyncio.Event()
        key = str(job_id)
        self._subscribers[key].add(event)
        try:
            yield event
        finally:
            self._subscribers[key].discard(event)
            if not self._subscribers[key]:
                del self._subscribers[key]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen in the background for as long as the context lasts."""
        listener = Listener(
            self._conninfo,
            [CHANNEL],
            name="wherry notifications",
            on_payload=self._wake_subscribers,
            on_connected=self._wake_everybody,
        )
        task = asyncio.create_task(listener.run(), name="job notifications")
        try:
            yield
        finally:
            await end_task(task)

    async def _wake_subscribers(self, channel: str, job_id: str) -> None:
        _wake(self._subscribers.get(job_id, set()))

    async def _wake_everybody(self) -> None:
        for events in list(self._subscribers.values()):
            _wake(events)


def _wake(events: set[asyncio.Event]) -> None:
    for event in events:
        event.set()


class Idle(Enum):
    """Nothing has changed for a while, so a keep-alive is due."""

    IDLE = "idle"


IDLE: Final = Idle.IDLE


async def watch_job(
    notifications: Notifications,
    job_id: UUID,
    look: Callable[[], Awaitable[Seen]],
    *,
    at_most_every: float = 0.0,
    idle_every: float = KEEP_ALIVE_SECONDS,
) -> AsyncIterator[Seen | Idle]:
    """Call `look` now and after every change of the job, at most every `at_most_every` seconds, forever.

    Yields what `look` returns, or `IDLE` every `idle_every` seconds while nothing changes.
    """
    with notifications.subscribe(job_id) as changed:
        while True:
            changed.clear()
            yield await look()
            await asyncio.sleep(at_most_every)
            while not changed.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), idle_every)
                if not changed.is_set():
                    yield IDLE
