"""Pausing and resuming kinds of jobs, and the state of the queue and its workers, for operators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load
from wherry.jobs.queue import RUN_JOB
from wherry.jobs.states import Kind


class KindState(Struct, rename="camel"):
    """The unfinished jobs of one kind."""

    queued: int
    running: int
    oldest_seconds: Annotated[float | None, Meta(description="How long the oldest queued job has waited.")]
    paused: bool


class WorkerState(Struct, rename="camel"):
    """A worker, which may be dead if its heartbeat is old. A worker of an older version has no host, pid or version."""

    host: str | None
    pid: int | None
    version: str | None
    heartbeat_age_seconds: float
    jobs: Annotated[list[UUID], Meta(description="The jobs that it is running.")]


class QueueOverview(Struct):
    """The queue and its workers."""

    kinds: dict[Kind, KindState]
    workers: list[WorkerState]


async def pause(connection: Connection, kind: Kind, by: int) -> None:
    """Start no more jobs of this kind until it is resumed. Those that run go on; if their worker dies, they wait too.

    Args:
        by: the operator's account.
    """
    await connection.execute(load("queue")["pause"], {"kind": kind, "by": by})


async def resume(connection: Connection, kind: Kind) -> None:
    """Start jobs of this kind again, and notify the workers."""
    await connection.execute(load("queue")["resume"], {"kind": kind})


async def overview(connection: Connection) -> QueueOverview:
    """The queue as it is now."""
    queries = load("queue")
    kinds = await fetch_all(connection, queries["kinds"], {"kinds": list(Kind)})
    workers = await fetch_all(connection, queries["workers"], {"task": RUN_JOB})
    return QueueOverview(
        {Kind(row.pop("kind")): KindState(**row) for row in kinds}, [WorkerState(**row) for row in workers]
    )
