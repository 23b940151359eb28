"""What happened to a job, whatever its kind.

The ledger writes most of it, in the statements that change the job. See `sql/queries/jobs.sql`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load
from wherry.jobs.events import as_json
from wherry.jobs.models import Job

MAX_EVENTS = 1_000
"""A longer timeline shows the creation of the job and the newest events."""


@dataclass(frozen=True)
class HistoryEvent:
    """Something that happened to a job, in this round and epoch.

    The members of `meta` depend on the type:
        created: the request for the job was accepted.
        claimed: `worker` began a run.
        checkpoint: the run has `processed` so many records, of which `errors` have errors; a sample.
        died: `worker` died during the run of this epoch; `deaths` counts those in a row at one checkpoint.
        rescued: the job was queued again for this `reason`.
        released: its worker queued it again for this `reason`.
        cancel_requested: by the user `by`.
        retried: by the user `by`; the first event of a round.
        ended: with this `status` and, if it failed, `code`.
        artifact_expired: its file was removed.
        webhook: the `attempt` to deliver the event `id` got a response with this `status`, or failed with this `error`.
    """

    type: str
    ts: datetime
    round: int
    epoch: int
    meta: Mapping[str, Any] | None


async def timeline(connection: Connection, job: Job) -> list[HistoryEvent]:
    """What happened to a job, oldest first."""
    values = {"job_id": job.id, "limit": MAX_EVENTS - 1}
    rows = await fetch_all(connection, load("history")["timeline"], values)
    return [HistoryEvent("created", job.created_at, 1, 0, None), *(HistoryEvent(**row) for row in rows)]


async def note(connection: Connection, job_ids: Collection[UUID], type: str, meta: Mapping[str, object]) -> None:
    """Add an event to the histories of those of the jobs that exist."""
    values = {"job_ids": list(job_ids), "type": type, "meta": as_json(meta)}
    await connection.execute(load("history")["note"], values)
