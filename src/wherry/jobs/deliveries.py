"""Reads the attempts to deliver the webhooks of a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load

MAX_DELIVERIES = 100


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
    """A job's events, oldest first; if there are many, the newest `MAX_DELIVERIES`."""
    values = {"job_id": job_id, "limit": MAX_DELIVERIES}
    rows = await fetch_all(connection, load("webhooks")["deliveries"], values)
    return msgspec.convert(rows, list[Delivery])
