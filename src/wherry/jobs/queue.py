"""The queue: procrastinate's tables, one row a job, in the transaction that writes the job.

In: a job that the ledger has just created. Out: a queue row that some worker will fetch, and that nobody ends but the
worker that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job as QueueJob
from procrastinate.jobs import Status as QueueStatus
from procrastinate.manager import JobManager
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.tasks import configure_task

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob
from wherry.jobs.states import Kind

RUN_JOB = "wherry.run_job"
"""The name of the one task that runs jobs of every kind."""


async def submit(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Write a job's row and its queue row, both or neither; `(job, replayed)`. Call it inside a transaction.

    Raises:
        Invalid: the idempotency key was used for something else.
    """
    job, replayed = await ledger.create(connection, new)
    if not replayed:
        await enqueue(connection, job.id, job.kind)
    return job, replayed


async def enqueue(connection: Connection, job_id: UUID, kind: Kind) -> None:
    """Write a job's queue row."""
    await defer(connection, RUN_JOB, queue=kind, job_id=str(job_id))


async def defer(connection: Connection, task: str, *, queue: str, **arguments: str) -> int:
    """Put a task into the queue on the caller's own connection; the queue row's id."""
    # The connector only shapes the query here; it is never opened, as the caller's connection carries it.
    manager = JobManager(PsycopgConnector())
    deferrer = configure_task(name=task, job_manager=manager, queue=queue, connection=connection)
    return await deferrer.defer_async(**arguments)


class Slots:
    """Shares out one worker's slots: at most half of them for slow jobs, which may take minutes each.

    A worker that has one slot, or serves slow queues only, reserves none.

    Args:
        total: jobs that the worker runs at a time.
        queues: every queue.
        slow: those of slow jobs.
    """

    def __init__(self, total: int, queues: Iterable[str], slow: Iterable[str]) -> None:
        self._slow = frozenset(slow)
        self._others = frozenset(queues) - self._slow
        self._slow_at_once = max(1, total // 2)
        self._slow_jobs: set[tuple[int | None, int]] = set()

    def open_queues(self, queues: Iterable[str] | None) -> Iterable[str] | None:
        """The queues to fetch from, of those that the worker serves."""
        if len(self._slow_jobs) < self._slow_at_once:
            return queues
        others = self._others if queues is None else self._others.intersection(queues)
        return sorted(others) or queues

    def take(self, job: QueueJob) -> None:
        """Note that a job was fetched."""
        if job.queue in self._slow:
            self._slow_jobs.add((job.id, job.attempts))

    def free(self, job: QueueJob) -> None:
        """Note that a job's run has ended."""
        self._slow_jobs.discard((job.id, job.attempts))


class FencedJobManager(JobManager):
    """procrastinate's, but for two things.

    It fetches only what there is a slot for. And a run that was given to another worker since ends nothing any more:
    procrastinate ends whatever row has the id. A worker that was taken for dead, and wakes up, would so take the row
    from under the run that replaced its own.
    """

    def __init__(self, connector: BaseAsyncConnector) -> None:
        super().__init__(connector)
        self.slots = Slots(1, (), ())

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueueJob | None:
        """Take a waiting row of a queue that has a slot left."""
        job = await super().fetch_job(self.slots.open_queues(queues), worker_id)
        if job is not None:
            self.slots.take(job)
        return job

    async def finish_job(self, job: QueueJob, status: QueueStatus, delete_job: bool) -> None:
        """End a row that this run still holds."""
        await self._on_held(job, "finish_held", status=status.value, delete_job=delete_job)

    async def retry_job(
        self,
        job: QueueJob,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Put a row that this run still holds back to wait."""
        at = retry_at or datetime.now(UTC)
        await self._on_held(job, "retry_held", retry_at=at, priority=priority, queue=queue, lock=lock)

    async def _on_held(self, job: QueueJob, query: str, **values: Any) -> None:
        await self.connector.execute_query_async(query=load("queue")[query], id=job.id, attempts=job.attempts, **values)
