"""Tells the coroutines of one process when a job changes.

PostgreSQL's NOTIFY arrives on one connection per process. A notification is only a hint to look again, so a lost one
delays a reader but loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

from wherry.database.listening import Listener
from wherry.waiting import in_background, is_set_within

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
        self._callbacks: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    @contextmanager
    def on_change(self, job_id: UUID, callback: Callable[[], None]) -> Iterator[None]:
        """Call back whenever the job changes, and after every reconnect, for as long as the context lasts."""
        key = str(job_id)
        self._callbacks[key].append(callback)
        try:
            yield
        finally:
            self._callbacks[key].remove(callback)
            if not self._callbacks[key]:
                del self._callbacks[key]

    @contextmanager
    def subscribe(self, job_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job changes; the subscriber clears it."""
        event = asyncio.Event()
        with self.on_change(job_id, event.set):
            yield event

    def listening(self) -> AbstractAsyncContextManager[None]:
        """Listen in the background for as long as the context lasts."""
        listener = Listener(
            self._conninfo,
            [CHANNEL],
            name="wherry notifications",
            on_payload=self._report_change,
            on_connected=self._report_all,
        )
        return in_background(listener.run(), name="job notifications")

    async def _report_change(self, channel: str, job_id: str) -> None:
        _call(self._callbacks.get(job_id, ()))

    async def _report_all(self) -> None:
        for callbacks in list(self._callbacks.values()):
            _call(callbacks)


def _call(callbacks: Iterable[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()


class Idle(Enum):
    """Nothing has changed for a while, so a keep-alive is due."""

    IDLE = "idle"


IDLE: Final = Idle.IDLE


async def watch_job(
    notifications: Notifications, job_id: UUID, look: Callable[[], Awaitable[Seen]]
) -> AsyncIterator[Seen | Idle]:
    """Call `look` now and after every change of the job, forever.

    Yields what `look` returns, or `IDLE` every `KEEP_ALIVE_SECONDS` while nothing changes.
    """
    with notifications.subscribe(job_id) as changed:
        while True:
            changed.clear()
            yield await look()
            while not await is_set_within(changed, KEEP_ALIVE_SECONDS):
                yield IDLE
