"""The queue's job manager: what procrastinate lacks on its tables.

A worker fetches a row only if it has a free slot; owners take turns, and paused kinds wait. Each worker registers its
host, its process id and its version.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any

from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job as QueueJob
from procrastinate.jobs import Status as QueueStatus
from procrastinate.manager import JobManager

from wherry.database.queries import load
from wherry.jobs.slots import Slots
from wherry.times import now


class FencedJobManager(JobManager):
    """procrastinate's job manager, whose workers take turns, and finish a queue row only if the run still holds it.

    procrastinate would let a worker that was declared dead, and resumes, finish the row of a newer run.

    Attributes:
        slots: those of the worker that runs.
        tasks: the names of the tasks that it knows.
    """

    def __init__(self, connector: BaseAsyncConnector) -> None:
        super().__init__(connector)
        self.slots = Slots(1, ())
        self.tasks: list[str] = []

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueueJob | None:
        """Fetch the row whose turn it is, if there is a slot for it. The slots know the worker's queues."""
        queues = self.slots.open_queues()
        if not queues:
            return None
        rows = await self.connector.execute_query_all_async(
            query=load("queue")["fetch"],
            queues=queues,
            tasks=self.tasks,
            full_owners=self.slots.full_owners(),
            full_receivers=self.slots.full_receivers(),
            worker_id=worker_id,
        )
        if not rows:
            return None
        job = QueueJob.from_row(rows[0])
        self.slots.take(job, rows[0]["owner_id"])
        return job

    async def finish_job(self, job: QueueJob, status: QueueStatus, delete_job: bool) -> None:
        """Finish a row, if this run still holds it."""
        await self._on_held(job, "finish_held", status=status.value, delete_job=delete_job)

    async def retry_job(
        self,
        job: QueueJob,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Queue a row again, if this run still holds it."""
        at = retry_at or now()
        await self._on_held(job, "retry_held", retry_at=at, priority=priority, queue=queue, lock=lock)

    async def _on_held(self, job: QueueJob, query: str, **values: Any) -> None:
        await self.connector.execute_query_async(query=load("queue")[query], id=job.id, attempts=job.attempts, **values)

    async def register_worker(self) -> int:
        """Register a worker that starts, with its first heartbeat; returns its id."""
        row = await self.connector.execute_query_one_async(
            query=load("queue")["register_worker"],
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("wherry"),
        )
        return int(row["worker_id"])

    async def unregister_worker(self, worker_id: int) -> None:
        """Forget a worker that has stopped."""
        await self.connector.execute_query_async(query=load("queue")["unregister_worker"], worker_id=worker_id)
