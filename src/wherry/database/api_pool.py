"""The API's pool: it waits for a free connection like any pool, but not for a server that does not respond.

After a request has waited for `PROBE_AFTER_SECONDS`, the pool probes the server, once for all waiting requests. A
server that is stopped or hangs is reported within `PROBE_AFTER_SECONDS + PROBE_SECONDS`. If the server is only busy,
the requests keep waiting. Queries have no time limit.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool

from wherry.database.pools import Connection, Pool, make_pool

PROBE_AFTER_SECONDS = 2.0
PROBE_SECONDS = 2.0

RECONNECT_SECONDS = 2.0
"""The pool retries at growing intervals up to this total. A short total keeps the attempts frequent, so that a server
that is back is found within seconds."""


class ApiPool(AsyncConnectionPool[Connection]):
    """A pool that gives up early if the server does not respond. Create it with `make_api_pool`."""

    def __init__(self, conninfo: str, *, direct_url: str, kwargs: dict[str, Any], **arguments: Any) -> None:
        kwargs = {**kwargs, "connect_timeout": round(PROBE_SECONDS)}
        super().__init__(conninfo, kwargs=kwargs, reconnect_timeout=RECONNECT_SECONDS, **arguments)
        # A pooler accepts connections even if its server does not respond, so both are probed.
        self._servers: dict[str, type[Connection]] = {conninfo: self.connection_class, direct_url: AsyncConnection}
        self._options = kwargs
        self._probe: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # the base class has it
        """A connection; see `AsyncConnectionPool.getconn`.

        Raises:
            OperationalError: the server does not respond, or no connection was free in time.
        """
        waiting = asyncio.create_task(super().getconn(timeout), name="wait for a connection")
        try:
            while not (await asyncio.wait([waiting], timeout=PROBE_AFTER_SECONDS))[0]:
                await self._require_response()
            return waiting.result()
        except BaseException:
            self._abandon(waiting)
            raise

    async def _require_response(self) -> None:
        """Probe the server, or wait for the probe that is already running."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._connect_once(), name="probe the database")
        await asyncio.shield(self._probe)

    async def _connect_once(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                for url, connection_class in self._servers.items():
                    connection = await connection_class.connect(url, **self._options)
                    await connection.close()
        except TimeoutError:
            raise OperationalError(f"the database has not responded for {PROBE_SECONDS:.0f} s") from None

    def _abandon(self, waiting: asyncio.Task[Connection]) -> None:
        """Cancel a wait without awaiting it: psycopg takes up to ten seconds to give up on a hanging server."""
        waiting.cancel()
        self._keep(waiting)
        waiting.add_done_callback(self._take_back)

    def _take_back(self, waiting: asyncio.Task[Connection]) -> None:
        if not waiting.cancelled() and waiting.exception() is None:
            self._keep(asyncio.create_task(self.putconn(waiting.result())))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to the task, as the event loop has only weak ones."""
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


def make_api_pool(conninfo: str, *, direct_url: str | None = None, **arguments: Any) -> Pool:
    """A closed pool like `make_pool`'s.

    Args:
        conninfo: the database's URL, or a pooler's.
        direct_url: the database's URL, if the other one is a pooler's.
        arguments: the other arguments of `make_pool`.
    """
    return make_pool(conninfo, kind=partial(ApiPool, direct_url=direct_url or conninfo), **arguments)
