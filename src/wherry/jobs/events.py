"""The event log of a capsule job, which its clients read. What happened to jobs of every kind is in `history`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load


@dataclass(frozen=True)
class Event:
    """An event in a job's log."""

    job_id: UUID
    seq: int
    ts: datetime
    type: str
    stage: str
    progress: float
    stage_progress: float
    message: str
    meta: dict[str, Any] | None


async def append_event(
    connection: Connection, job_id: UUID, event_type: str, meta: Mapping[str, object] | None = None
) -> None:
    """Log the job's current stage, progress and message as its next event. Does not check the lease: advance first."""
    values = {"id": job_id, "type": event_type, "meta": as_json(meta)}
    await connection.execute(load("jobs")["append_event"], values)


async def events_since(connection: Connection, job_id: UUID, since: int, limit: int) -> list[Event]:
    """At most `limit` events with a `seq` above `since`, in order."""
    values = {"id": job_id, "since": since, "limit": limit}
    return [Event(**row) for row in await fetch_all(connection, load("jobs")["events_since"], values)]


def as_json(value: object) -> str | None:
    """A value encoded for a jsonb column, or None for null."""
    return None if value is None else msgspec.json.encode(value).decode()
