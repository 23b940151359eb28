"""The queue: procrastinate's tables, one row a job, in the transaction that writes the job.

In: a job that the ledger has just created. Out: a queue row that some worker will fetch.
"""

from __future__ import annotations

from procrastinate.manager import JobManager
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.tasks import configure_task

from wherry.database.pools import Connection
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob

RUN_JOB = "wherry.run_job"
"""The name of the one task that runs jobs of every kind."""


async def submit(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Write a job's row and its queue row, both or neither; `(job, replayed)`. Call it inside a transaction.

    Raises:
        Invalid: the idempotency key was used for something else.
    """
    job, replayed = await ledger.create(connection, new)
    if not replayed:
        await defer(connection, RUN_JOB, queue=job.kind, job_id=str(job.id))
    return job, replayed


async def defer(connection: Connection, task: str, *, queue: str, **arguments: str) -> int:
    """Put a task into the queue on the caller's own connection; the queue row's id."""
    # The connector only shapes the query here; it is never opened, as the caller's connection carries it.
    manager = JobManager(PsycopgConnector())
    deferrer = configure_task(name=task, job_manager=manager, queue=queue, connection=connection)
    return await deferrer.defer_async(**arguments)
