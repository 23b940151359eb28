"""Reads what became of the webhooks of a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load


@dataclass(frozen=True)
class Attempt:
    """One request for an event. `status` is that of the response, `error` says why the event was not delivered."""

    number: int
    ts: datetime
    status: int | None
    error: str | None
    duration_ms: int


@dataclass(frozen=True)
class Delivery:
    """An event, and the attempts to deliver it so far."""

    id: str
    url: str
    type: str
    status: Literal["pending", "delivered", "failed"]
    next_attempt_at: datetime | None
    attempts: list[Attempt]


async def deliveries_of(connection: Connection, job_id: UUID) -> list[Delivery]:
    """A job's events, oldest first."""
    rows = await fetch_all(connection, load("webhooks")["deliveries"], {"job_id": job_id})
    return msgspec.convert(rows, list[Delivery])
