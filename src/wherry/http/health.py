"""Liveness and readiness, for supervisors and load balancers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import msgspec
from litestar import HttpMethod, Router, route

from wherry.database import migrations
from wherry.errors import TimedOut
from wherry.http.problems import responses
from wherry.http.services import Injected, Services
from wherry.jobs.rescue import count_alive
from wherry.times import Time, now, rfc3339

CHECK_SECONDS = 4.5
METHODS = (HttpMethod.GET, HttpMethod.HEAD)
NO_WORKER = "no worker is alive"

T = TypeVar("T")


class Liveness(msgspec.Struct):
    """The process is alive."""

    timestamp: Time
    ok: bool = True
    status: str = "ok"
    checks: dict[str, str] = {}


class Health(msgspec.Struct):
    """The state of what the process needs: `ok`, or `degraded` if requests are served but something needs attention."""

    status: str
    checks: dict[str, str]


@route(
    "/healthz",
    http_method=METHODS,
    response_description="The process is alive.",
)
async def get_liveness() -> Liveness:
    """Whether the process is alive. Responds as long as the process runs, whatever else is down."""
    return Liveness(rfc3339(now()))


@route(
    "/readyz",
    http_method=METHODS,
    response_description="Requests can be served.",
    responses=responses(),
)
async def get_readiness(services: Injected[Services]) -> Health:
    """Whether requests can be served. Checks the database, its schema, the storage and the workers.

    A 503 names the first one that fails. Without a live worker requests are served but jobs wait: 200 and `degraded`.
    """
    deadline = asyncio.get_running_loop().time() + CHECK_SECONDS
    workers = await _in_time(_check_database(services), "the database", deadline)
    for store in (services.import_store, services.export_store, services.capsule_store):
        await _in_time(store.check(), "the storage", deadline)
    checks = {"database": "ok", "migrations": "ok", "storage": "ok", "workers": "ok" if workers else NO_WORKER}
    return Health("ok" if workers else "degraded", checks)


async def _in_time(check: Coroutine[None, None, T], what: str, deadline: float) -> T:
    """Wait for a check, but not past the deadline.

    A late check is cancelled but not waited for: if the server does not answer, psycopg takes ten more seconds to give
    up on cancelling the query and close the connection.
    """
    task = asyncio.create_task(check, name="readiness check")
    task.add_done_callback(lambda late: late.cancelled() or late.exception())  # or asyncio logs "never retrieved"
    try:
        await asyncio.wait([task], timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        if not task.done():
            raise TimedOut(f"{what} does not answer")
        return await task
    finally:
        task.cancel()


async def _check_database(services: Services) -> int:
    """Require this version's schema, and return how many workers are alive."""
    async with services.pool.connection(timeout=CHECK_SECONDS) as connection:
        await migrations.require_current(connection)
        return await count_alive(connection)


health_router = Router("/", route_handlers=[get_liveness, get_readiness], tags=["operation"])
