"""Small makers of what tests need."""

from __future__ import annotations

from typing import Any

from wherry.database.pools import Connection
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.queue import submit
from wherry.jobs.states import Kind

SMALL_GRAPH: dict[str, Any] = {
    "sessionId": "s",
    "projectName": "p",
    "source": {"type": "folder", "baseName": "b"},
    "nodes": [{"id": "a", "label": "File"}],
    "relationships": [{"id": "r", "sourceId": "a", "targetId": "a", "type": "X"}],
}
"""The least that a capsule can be made of."""


def new_job(**changes: Any) -> NewJob:
    """A job as a caller could ask for it; nobody's, unless `owner_id` is given."""
    values: dict[str, Any] = {
        "id": new_job_id(),
        "kind": Kind.IMPORT,
        "owner_id": None,
        "resource": "users",
        "format": "ndjson",
    }
    return NewJob(**{**values, **changes})


async def submitted(connection: Connection, **changes: Any) -> Job:
    """A job that waits in the queue."""
    async with connection.transaction():
        job, _ = await submit(connection, new_job(**changes))
    return job


async def new_user(connection: Connection, email: str = "alice@example.com", **changes: Any) -> int:
    """An account's id."""
    values = {"email": email, "username": email, "name": "Alice", "role": "admin", **changes}
    cursor = await connection.execute(
        "insert into wherry.users (email, username, name, role) "
        "values (%(email)s, %(username)s, %(name)s, %(role)s) returning id",
        values,
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
