"""The queue: procrastinate's tables, with one row per unfinished job.

A queue row is written in the transaction that creates the job. Only the worker that fetched it may finish it.
"""

from __future__ import annotations

from uuid import UUID

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob
from wherry.jobs.states import Kind

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
