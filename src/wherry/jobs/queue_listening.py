"""The queue's job manager with a LISTEN of ours, which outlives restarts of the server and dropped links.

procrastinate's own may take half a minute to notice a lost connection, and ends the worker if it cannot reconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal

import msgspec
import structlog
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job as QueueJob
from procrastinate.manager import NotificationCallback, get_channel_for_queues

from wherry.database.listening import Listener
from wherry.jobs.manager import FencedJobManager

log = structlog.get_logger(__name__)


class _Payload(msgspec.Struct):
    type: Literal["job_inserted", "abort_job_requested"]
    job_id: int


LOOK = _Payload("job_inserted", 0)
"""The notification of a job that was inserted; the worker then looks for any."""


class ListeningJobManager(FencedJobManager):
    """A job manager whose workers are notified of new jobs, while `listen` runs.

    Args:
        connector: for the queries.
        conninfo: URL of the database itself.

    Attributes:
        has_connected: set whenever `listen` has connected; whoever waits for it clears it.
    """

    def __init__(self, connector: BaseAsyncConnector, conninfo: str) -> None:
        super().__init__(connector)
        self.has_connected = asyncio.Event()
        self._listener = Listener(
            conninfo,
            get_channel_for_queues(),
            name="wherry queue listen",
            on_payload=self._notify,
            on_connected=self._look_for_jobs,
        )
        self._on_notification: NotificationCallback | None = None
        self._notifications = 0
        self._missed: tuple[object, ...] = ()

    async def listen(self) -> None:
        """Listen until cancelled: for every worker of the process, one after the other."""
        await self._listener.run()

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Pass notifications of all queues on to a worker until cancelled."""
        self._on_notification = on_notification
        await asyncio.Event().wait()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueueJob | None:
        """Fetch a row, unless it is known that there is none.

        Look again if there was none, but a notification has arrived or a slot was freed meanwhile: procrastinate
        forgets what happens while it fetches.
        """
        while (chance := self._chance()) != self._missed:
            job = await super().fetch_job(queues, worker_id)
            if job is not None:
                return job
            self._missed = chance
        return None

    def _chance(self) -> tuple[object, ...]:
        """What a fetch depends on; it is worth another try when this has changed, which it does every second."""
        now = int(asyncio.get_running_loop().time())
        full = self.slots.full_owners(), self.slots.full_receivers()
        return self.slots.open_queues(), full, self._notifications, now

    async def free(self, job: QueueJob) -> None:
        """Free the slot of a run that has ended, and have the worker look for the next job."""
        self.slots.free(job)
        await self._wake("", LOOK)

    async def _notify(self, channel: str, payload: str) -> None:
        try:
            found = msgspec.json.decode(payload, type=_Payload)
        except msgspec.DecodeError as error:
            log.warning("a notification is not procrastinate's", channel=channel, error=str(error))
        else:
            await self._receive(channel, found)

    async def _look_for_jobs(self) -> None:
        self.has_connected.set()
        await self._receive("", LOOK)

    async def _receive(self, channel: str, payload: _Payload) -> None:
        self._notifications += 1
        await self._wake(channel, payload)

    async def _wake(self, channel: str, payload: _Payload) -> None:
        if self._on_notification is not None:
            await self._on_notification(channel=channel, notification=msgspec.to_builtins(payload))
