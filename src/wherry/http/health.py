"""Tells supervisors whether the process lives, and whether it can serve.

In: nothing. Out: 200; or, from `/readyz`, 503 with the first thing that is amiss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import msgspec
from litestar import HttpMethod, route

from wherry.database import migrations
from wherry.errors import Unavailable
from wherry.http.problems import responses
from wherry.http.services import Injected, Services

CHECK_SECONDS = 5
METHODS = (HttpMethod.GET, HttpMethod.HEAD)


class Health(msgspec.Struct):
    """The state of the process, and of what it needs."""

    status: str
    checks: dict[str, str]


@route("/healthz", http_method=METHODS, summary="Whether the process is alive", tags=["operation"])
async def healthz() -> Health:
    """Answers as long as the process does, whatever else is down."""
    return Health("ok", {})


@route(
    "/readyz",
    http_method=METHODS,
    summary="Whether requests can be served",
    tags=["operation"],
    responses=responses(503),
)
async def readyz(services: Injected[Services]) -> Health:
    """Looks at the database, its schema and the storage; 503 names the first that is amiss."""
    await _in_time(_check(services))
    return Health("ok", {"database": "ok", "migrations": "ok", "storage": "ok"})


async def _in_time(check: Coroutine[None, None, None]) -> None:
    """Wait for a check, but no longer than `CHECK_SECONDS`.

    A check that is late is cancelled and left to end by itself: psycopg takes ten seconds more to find that a server
    which does not answer does not confirm the cancelling either, and closes the connection then.
    """
    task = asyncio.create_task(check, name="readiness check")
    task.add_done_callback(lambda late: late.cancelled() or late.exception())  # so that none is "never retrieved"
    try:
        await asyncio.wait([task], timeout=CHECK_SECONDS)
        if not task.done():
            raise Unavailable("a check took too long", code="TIMEOUT")
        await task
    finally:
        task.cancel()


async def _check(services: Services) -> None:
    await _check_database(services)
    for store in (services.import_store, services.export_store, services.capsule_store):
        await store.check()


async def _check_database(services: Services) -> None:
    async with services.pool.connection(timeout=CHECK_SECONDS) as connection:
        await migrations.require_current(connection)
