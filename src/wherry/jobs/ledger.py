"""The only code that writes `jobs`.

A runner's writes are fenced by its lease: `where id = … and epoch = … and status = 'running'`. If no row matches, the
job has ended or another worker has claimed it since: the functions that take a lease then raise `LeaseLost`, and the
transaction must be rolled back. Cancelling, retrying and retention need no lease. A function takes part in the caller's
transaction, if there is one, and never commits it.

Each change is one statement, which also writes the job's history and, for a capsule, its event log, and notifies the
listening processes when it is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, fetch_one, load
from wherry.errors import ErrorCode, KeyReused, LeaseLost
from wherry.jobs.events import as_json
from wherry.jobs.models import CANCELLED, Advance, Job, Lease, NewJob, Outcome, retryable
from wherry.jobs.states import UNFINISHED, Kind, Status, sources

RELEASES_KEY = ErrorCode.URL_FETCH_FAILED.name

_FINAL_EVENTS = {
    Status.SUCCEEDED: "job_completed",
    Status.PARTIAL: "job_completed",
    Status.FAILED: "job_failed",
    Status.CANCELLED: "job_canceled",
}


@dataclass(frozen=True)
class Claim:
    """A claimed job and its lease. `job.deaths` counts the workers that died in a row at its current checkpoint."""

    job: Job
    lease: Lease


@dataclass(frozen=True)
class Position:
    """A job's counters and progress, and whether a cancel was requested."""

    cancel_requested: bool
    success_count: int
    error_count: int
    progress: float = 0.0


async def create(connection: Connection, new: NewJob) -> tuple[Job, bool]:
    """Insert a job, or find the one that an earlier, identical request created; return `(job, replayed)`.

    A concurrent request with the same key waits here until the first has committed, then finds its job. A job that
    failed because its URL could not be fetched releases its key.

    Raises:
        KeyReused: the key was already used for a different request.
    """
    values = _values(new, "options", "source")
    row = await _one(connection, "insert", **values)
    if row is None and await _one(connection, "release_key", **values, released_by=RELEASES_KEY):
        row = await _one(connection, "insert", **values)
    if row is not None:
        return job_of(row), False
    row = await _one(connection, "by_key", **values)
    if row is None or row["fingerprint"] != new.fingerprint:
        raise KeyReused("idempotencyKey was already used for a different request", field="idempotencyKey")
    return job_of(row), True


async def get(connection: Connection, job_id: UUID) -> Job | None:
    """The job, or None if there is no such job."""
    row = await _one(connection, "by_id", id=job_id)
    return None if row is None else job_of(row)


async def many(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, Job]:
    """Those of the jobs that exist, by id."""
    rows = await fetch_all(connection, load("jobs")["by_ids"], {"ids": list(job_ids)})
    return {row["id"]: job_of(row) for row in rows}


async def page_of_jobs(
    connection: Connection,
    owner_id: int | None,
    *,
    kind: Kind | None = None,
    status: Status | None = None,
    resource: str | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[Job]:
    """The owner's jobs, or everybody's if `owner_id` is None, that are older than `before`, newest first."""
    values = {
        "owner_id": owner_id,
        "kind": kind,
        "status": status,
        "resource": resource,
        "before": before,
        "limit": limit,
    }
    query = load("jobs")["page_of_everybody" if owner_id is None else "page"]
    return [job_of(row) for row in await fetch_all(connection, query, values)]


async def claim(connection: Connection, job_id: UUID, *, queue_id: int | None = None, worker: str = "") -> Claim | None:
    """Claim a job that is queued, or whose worker is gone; None if it has ended or does not exist.

    The queue hands a job out again only after its worker was found dead, so a running job may be claimed: its epoch
    rises, which fences off anything that the old worker still tries to write.

    Args:
        queue_id: the row of the queue that names the job; only the newest one can claim it.
        worker: who claims it, for its history.
    """
    return await _claim(connection, job_id, queue_id=queue_id, worker=worker, may_be_suspect=True)


async def claim_unsuspected(
    connection: Connection, job_id: UUID, *, queue_id: int | None = None, worker: str = ""
) -> Claim | None:
    """Like `claim`, but also None if the job is suspected of killing its workers; see `Job.is_suspect`."""
    return await _claim(connection, job_id, queue_id=queue_id, worker=worker, may_be_suspect=False)


async def _claim(connection: Connection, job_id: UUID, **values: object) -> Claim | None:
    row = await _one(connection, "claim", id=job_id, sources=sources(Status.RUNNING), **values)
    return None if row is None else Claim(job_of(row), Lease(job_id, row["epoch"]))


async def advance(connection: Connection, lease: Lease, step: Advance, *, sampled: bool = False) -> Position:
    """Count one batch and move the checkpoint past it, in the transaction that writes the batch. See `Run.advance`.

    Args:
        sampled: whether the history shows the position.
    """
    values = _values(step, "summary", "checkpoint")
    return _position_of(await _fenced(connection, "advance", lease, **values, sampled=sampled))


async def look(connection: Connection, lease: Lease) -> Position:
    """Read a job's position without moving it."""
    return _position_of(await _fenced(connection, "look", lease))


async def finish(connection: Connection, lease: Lease, outcome: Outcome) -> Job:
    """Finish the job. If a cancel was requested, a job that would have succeeded ends as cancelled."""
    ended = await _end(connection, lease.job_id, outcome, Status.RUNNING, epoch=lease.epoch)
    if ended is None:
        cancelled = replace(CANCELLED, total_records=outcome.total_records)
        ended = await _end(connection, lease.job_id, cancelled, Status.RUNNING, epoch=lease.epoch)
    if ended is None:
        raise _lost(lease)
    return ended


async def _end(
    connection: Connection,
    job_id: UUID,
    outcome: Outcome,
    *states: Status,
    epoch: int | None = None,
    by: int | None = None,
) -> Job | None:
    """End a job that is in one of these states and, unless it is None, has this epoch."""
    values = {**_values(outcome, "artifact", "error"), "event": _FINAL_EVENTS[outcome.status]}
    row = await _one(connection, "finish", id=job_id, sources=list(states), epoch=epoch, by=by, **values)
    return None if row is None else job_of(row)


async def release(connection: Connection, lease: Lease, reason: str = "") -> Job:
    """Queue the unfinished job again, or end it if a cancel was requested.

    A new run continues from its checkpoint, under a new lease.
    """
    row = await _one(connection, "release", id=lease.job_id, epoch=lease.epoch, reason=reason)
    return await finish(connection, lease, CANCELLED) if row is None else job_of(row)


async def restart(connection: Connection, lease: Lease) -> None:
    """Reset the counters and the checkpoint of a job whose run starts over."""
    await _fenced(connection, "restart", lease)


async def enqueue(connection: Connection, job_id: UUID, task: str) -> None:
    """Write the queue row of a queued job. From now on, only this row can claim the job; see `claim`."""
    await connection.execute(load("jobs")["enqueue"], {"id": job_id, "task": task})


async def hold(connection: Connection, lease: Lease) -> None:
    """Lock the job, so that nobody can claim it until the transaction ends."""
    await _fenced(connection, "hold", lease)


async def record_source(connection: Connection, lease: Lease, source: Mapping[str, object]) -> None:
    """Record the size and digest of the file that a run has fetched."""
    await _fenced(connection, "record_source", lease, source=as_json(source))


async def record_format(connection: Connection, lease: Lease, format: str) -> None:
    """Record the format that a run detected in its source."""
    await _fenced(connection, "record_format", lease, format=format)


async def cancel(connection: Connection, job_id: UUID, by: int | None = None) -> Job | None:
    """Cancel a queued job at once, or request a running one to stop; the job, or None if there is no such job.

    Args:
        by: the user who requests it, for the history.
    """
    row = await _one(connection, "lock", id=job_id)
    if row is not None and row["status"] == Status.QUEUED:
        return await _end(connection, job_id, CANCELLED, Status.QUEUED, by=by)
    row = await _one(connection, "request_cancel", id=job_id, by=by) or row
    return None if row is None else job_of(row)


async def cancel_now(connection: Connection, job_id: UUID, by: int | None = None) -> Job | None:
    """Cancel an unfinished job at once; its worker loses the lease. The job, or None if there is no such job."""
    return await _end(connection, job_id, CANCELLED, *UNFINISHED, by=by) or await get(connection, job_id)


async def retry(connection: Connection, job_id: UUID, by: int | None) -> Job | None:
    """Begin a new round of a job that has ended, which continues from its checkpoint; None if it is not `retryable`.

    The caller writes its queue row in the same transaction; see `enqueue`.

    Args:
        by: the user who requests it, for the history.
    """
    row = await _one(connection, "lock", id=job_id)
    if row is None or not retryable(job_of(row)):
        return None
    row = await _one(connection, "retry", id=job_id, by=by)
    return None if row is None else job_of(row)


async def expire_artifact(connection: Connection, job_id: UUID) -> Job | None:
    """Let an artifact expire now. Returns the job, or None if it has no artifact that has not expired yet."""
    row = await _one(connection, "expire_artifact", id=job_id)
    return None if row is None else job_of(row)


async def count_queued(connection: Connection, kind: Kind) -> int:
    """How many jobs of this kind are queued."""
    row = await _one(connection, "count_queued", kind=kind)
    return int(row["count"]) if row else 0


async def retire_artifact(connection: Connection, job_id: UUID) -> None:
    """Record that an expired artifact was removed, unless this was recorded before."""
    await _one(connection, "retire_artifact", id=job_id)


async def retire_source(connection: Connection, job_id: UUID, keep: timedelta) -> bool:
    """Record that a source is removed, if its job ended at least `keep` ago and was not retried; return whether."""
    return await _one(connection, "retire_source", id=job_id, keep=keep) is not None


async def delete_ended(connection: Connection, keep: timedelta, limit: int) -> int:
    """Delete up to `limit` jobs that ended longer ago than `keep`; return how many.

    Jobs whose artifacts are kept, or whose webhook is still to be called, are left.
    """
    return (await connection.execute(load("jobs")["delete_ended"], {"keep": keep, "limit": limit})).rowcount


async def _fenced(connection: Connection, query: str, lease: Lease, **values: object) -> dict[str, Any]:
    row = await _one(connection, query, id=lease.job_id, epoch=lease.epoch, **values)
    if row is None:
        raise _lost(lease)
    return row


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"job {lease.job_id} is no longer held under epoch {lease.epoch}")


async def _one(connection: Connection, query: str, **values: object) -> dict[str, Any] | None:
    return await fetch_one(connection, load("jobs")[query], values)


def _values(given: NewJob | Advance | Outcome, *documents: str) -> dict[str, object]:
    """The fields by name, for a statement, with these fields as JSON."""
    return {name: as_json(value) if name in documents else value for name, value in vars(given).items()}


def _position_of(row: Mapping[str, Any]) -> Position:
    return Position(**{column.name: row[column.name] for column in fields(Position)})


def job_of(row: Mapping[str, Any]) -> Job:
    """The job in a row with all of its columns."""
    return msgspec.convert(row, Job)
