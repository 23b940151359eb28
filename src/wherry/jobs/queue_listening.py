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
from wherry.jobs.queue import FencedJobManager

log = structlog.get_logger(__name__)


class _Payload(msgspec.Struct):
    type: Literal["job_inserted", "abort_job_requested"]
    job_id: int


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
        """Fetch a row; look again if there was none, but a notification has arrived meanwhile.

        procrastinate forgets those that arrive while it fetches, and the statement may have been too early for them.
        """
        while True:
            before = self._notifications
            job = await super().fetch_job(queues, worker_id)
            if job is not None or before == self._notifications:
                return job

    async def _notify(self, channel: str, payload: str) -> None:
        try:
            found = msgspec.json.decode(payload, type=_Payload)
        except msgspec.DecodeError as error:
            log.warning("a notification is not procrastinate's", channel=channel, error=str(error))
        else:
            await self._pass_on(channel, found)

    async def _look_for_jobs(self) -> None:
        self.has_connected.set()
        await self._pass_on("", _Payload("job_inserted", 0))

    async def _pass_on(self, channel: str, payload: _Payload) -> None:
        self._notifications += 1
        if self._on_notification is not None:
            await self._on_notification(channel=channel, notification=msgspec.to_builtins(payload))
