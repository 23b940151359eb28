"""The queue: procrastinate's tables, with one row per unfinished job.

A queue row is written in the transaction that creates the job. Only the worker that fetched it may finish it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job as QueueJob
from procrastinate.jobs import Status as QueueStatus
from procrastinate.manager import JobManager

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob
from wherry.jobs.states import Kind
from wherry.times import now

RUN_JOB = "wherry.run_job"
"""The name of the one task that runs jobs of every kind."""


async def submit(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Create a job and its queue row; return `(job, replayed)`. Call it inside a transaction.

    Raises:
        Invalid: the idempotency key was already used for a different request.
    """
    job, replayed = await ledger.create(connection, new)
    if not replayed:
        await enqueue(connection, job.id, job.kind)
    return job, replayed


async def retry(connection: Connection, job: Job, by: int | None) -> Job | None:
    """Queue a job that has ended again; None if it cannot be retried. Call it inside a transaction.

    Only the new queue row may then claim the job: the one of a job that was cancelled may still be in the queue.
    """
    retried = await ledger.retry(connection, job.id, by)
    if retried is not None:
        await ledger.use_queue_row(connection, job.id, await enqueue(connection, job.id, job.kind))
    return retried


async def enqueue(connection: Connection, job_id: UUID, kind: Kind) -> int:
    """Write a job's queue row, and return its id."""
    values = {"queue": kind, "task": RUN_JOB, "job_id": job_id}
    cursor = await connection.execute(load("queue")["enqueue"], values)
    row = await cursor.fetchone()
    assert row is not None, "the job exists"
    return int(row[0])


class Slots:
    """Limits slow jobs, which may take minutes each, to half of a worker's slots.

    Does not limit them on a worker with one slot or with only slow queues.

    Args:
        total: how many jobs the worker runs at a time.
        queues: all queues.
        slow: the queues of slow jobs.
    """

    def __init__(self, total: int, queues: Iterable[str], slow: Iterable[str]) -> None:
        self._slow = frozenset(slow)
        self._others = frozenset(queues) - self._slow
        self._slow_at_once = max(1, total // 2)
        self._slow_jobs: set[tuple[int | None, int]] = set()

    def open_queues(self, queues: Iterable[str] | None) -> Iterable[str] | None:
        """The queues, among those of the worker, that it may fetch from now."""
        if len(self._slow_jobs) < self._slow_at_once:
            return queues
        others = self._others if queues is None else self._others.intersection(queues)
        return sorted(others) or queues

    def take(self, job: QueueJob) -> None:
        """Record that a job was fetched."""
        if job.queue in self._slow:
            self._slow_jobs.add((job.id, job.attempts))

    def free(self, job: QueueJob) -> None:
        """Record that a job's run has ended."""
        self._slow_jobs.discard((job.id, job.attempts))


class FencedJobManager(JobManager):
    """procrastinate's job manager, with two differences.

    It fetches a job only if a slot is free. And it finishes a queue row only if the run still holds it: procrastinate
    would let a worker that was declared dead, and resumes, finish the row of a newer run.
    """

    def __init__(self, connector: BaseAsyncConnector) -> None:
        super().__init__(connector)
        self.slots = Slots(1, (), ())

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueueJob | None:
        """Fetch a row from a queue that has a free slot."""
        job = await super().fetch_job(self.slots.open_queues(queues), worker_id)
        if job is not None:
            self.slots.take(job)
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
