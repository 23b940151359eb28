"""The queue: procrastinate's tables, with one row per unfinished job.

A queue row is written in the transaction that creates the job. Only the worker that fetched it may finish it.
"""

from __future__ import annotations

from uuid import UUID

from wherry.database.pools import Connection
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob

RUN_JOB = "wherry.run_job"
"""The name of the one task that runs jobs of every kind."""


async def submit(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Create a job and its queue row; return `(job, replayed)`. Call it inside a transaction.

    Raises:
        Invalid: the idempotency key was already used for a different request.
    """
    job, replayed = await ledger.create(connection, new)
    if not replayed:
        await enqueue(connection, job.id)
    return job, replayed


async def retry(connection: Connection, job: Job, by: int | None) -> Job | None:
    """Queue a job that has ended again; None if it cannot be retried. Call it inside a transaction.

    The old queue row of a job that was cancelled may still be there, but cannot claim the job any more.
    """
    retried = await ledger.retry(connection, job.id, by)
    if retried is not None:
        await enqueue(connection, job.id)
    return retried


async def enqueue(connection: Connection, job_id: UUID) -> None:
    """Write a job's queue row."""
    await ledger.enqueue(connection, job_id, RUN_JOB)
