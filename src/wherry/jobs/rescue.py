"""Queues the jobs of dead workers again, and jobs and webhook events that have lost their queue row.

Every worker process does this; an advisory lock ensures that only one acts at a time. If the worker of a rescued job
turns out to be alive, the new run's epoch fences it off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container
from uuid import UUID

import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status as QueueStatus
from procrastinate.manager import JobManager
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.worker import Worker

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, fetch_one, load
from wherry.jobs import history
from wherry.jobs.queue import enqueue
from wherry.times import now

RESCUE_SECONDS = 5.0
STALLED_SECONDS = 20.0
"""A worker is assumed dead after this long without a heartbeat: four missed ones, well within the 45 s for a rescue."""

OVERDUE_SECONDS = 60.0
"""A webhook event without a queue row is queued again this long after it was due."""

LOCK_KEY = 0x72657363  # "resc"

log = structlog.get_logger(__name__)


async def keep_rescuing(manager: JobManager, worker: Worker, in_hand: Container[int]) -> None:
    """Rescue every few seconds until cancelled."""
    suspects: frozenset[int] = frozenset()
    while True:
        await asyncio.sleep(RESCUE_SECONDS)
        try:
            await rescue_stalled(manager, STALLED_SECONDS)
            suspects = await rescue_forgotten(manager, worker.worker_id, in_hand, suspects)
        except (ConnectorException, psycopg.OperationalError) as error:
            # After a short outage the next round succeeds; if the outage lasts, the worker itself ends.
            log.warning("rescue skipped", error=str(error.__cause__ or error))
        except Exception:
            log.exception("rescue failed")


async def rescue_stalled(manager: JobManager, stalled_seconds: float) -> int:
    """Queue the jobs of workers without a heartbeat again, and what has no queue row; return how many jobs."""
    connector = _connector(manager)
    async with connector.pool.connection() as connection, connection.transaction():
        row = await (await connection.execute(load("rescue")["try_lock"], {"key": LOCK_KEY})).fetchone()
        if row is None or not row[0]:
            return 0
        stalled = list(await manager.get_stalled_jobs(seconds_since_heartbeat=stalled_seconds))
        await _note(connection, [job.task_kwargs.get("job_id") for job in stalled], "its worker is gone")
        for job in stalled:
            if job.queueing_lock is None:
                await manager.retry_job(job)
            else:  # the next one of a periodic task may be waiting already
                await manager.finish_job(job, QueueStatus.FAILED, delete_job=True)
        unqueued = await (await connection.execute(load("queue")["unqueued"])).fetchall()
        await _note(connection, [job_id for (job_id,) in unqueued], "it has no queue row")
        for (job_id,) in unqueued:
            await enqueue(connection, job_id)
        for event in await fetch_all(connection, load("rescue")["queue_deliveries"], {"seconds": OVERDUE_SECONDS}):
            log.warning("webhook event is queued again", eventId=event["id"])
        await connection.execute(load("rescue")["forget_workers"])
    return len(stalled) + len(unqueued)


async def rescue_forgotten(
    manager: JobManager, worker_id: int | None, in_hand: Container[int], suspects: frozenset[int]
) -> frozenset[int]:
    """Queue again the rows that this worker holds but does not run; return the ids to check next time.

    A connection that breaks between COMMIT and its response leaves such rows: fetched but never started, or ended but
    never finished. A row must be found twice, because its job may just be starting or ending.
    """
    if worker_id is None:
        return frozenset()
    async with _connector(manager).pool.connection() as connection, connection.transaction():
        rows = await fetch_all(connection, load("rescue")["held_by"], {"worker_id": worker_id})
        missing = {int(row["id"]): row["job_id"] for row in rows if int(row["id"]) not in in_hand}
        forgotten = missing.keys() & suspects
        reason = "its worker never started it, or never finished its queue row"
        await _note(connection, [missing[queue_id] for queue_id in forgotten], reason)
        for queue_id in forgotten:
            await manager.retry_job_by_id_async(queue_id, retry_at=now())
    return frozenset(missing) - suspects


async def _note(connection: Connection, job_ids: Collection[object], reason: str) -> None:
    """Record why these jobs are queued again, before another worker can claim them. Other tasks have no job."""
    known = [UUID(str(job_id)) for job_id in job_ids if job_id is not None]
    for job_id in known:
        log.warning("job is queued again", jobId=str(job_id), reason=reason)
    if known:
        await history.note(connection, known, "rescued", {"reason": reason})


async def count_alive(connection: Connection) -> int:
    """How many workers have a recent heartbeat."""
    row = await fetch_one(connection, load("rescue")["count_alive"], {"seconds": STALLED_SECONDS})
    return int(row["count"]) if row else 0


def _connector(manager: JobManager) -> PsycopgConnector:
    connector = manager.connector
    assert isinstance(connector, PsycopgConnector)
    return connector
