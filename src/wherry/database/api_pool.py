"""The API's pool: it waits for a busy server like any pool, but not for one that does not respond.

A request that has waited for `PROBE_AFTER_SECONDS`, for a connection or with one, has the server probed, once for all
such requests. If the server is stopped or hangs, they fail within `PROBE_AFTER_SECONDS + PROBE_SECONDS`. If it is only
busy, they keep waiting, however long a query takes.

So connections need not be checked by a round trip before they are handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import ConnectionTimeout
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from wherry.database.pools import Connection, Pool, is_open, make_pool
from wherry.database.severing import sever

PROBE_AFTER_SECONDS = 2.0
PROBE_SECONDS = 2.0

RECONNECT_SECONDS = 2.0
"""The pool retries at growing intervals up to this total. A short total keeps the attempts frequent, so that a server
that is back is found within seconds."""


class ServerSilent(OperationalError):
    """The server did not respond to a probe, nor refuse it."""


class ApiPool(AsyncConnectionPool[Connection]):
    """A pool that gives up early if the server does not respond. Create it with `make_api_pool`."""

    def __init__(self, conninfo: str, *, direct_url: str, kwargs: dict[str, Any], **arguments: Any) -> None:
        kwargs = {**kwargs, "connect_timeout": round(PROBE_SECONDS)}
        arguments = {**arguments, "check": None, "reconnect_timeout": RECONNECT_SECONDS}
        super().__init__(conninfo, kwargs=kwargs, **arguments)
        # A pooler accepts connections even if its server does not respond, so both are probed.
        self._servers: dict[str, type[Connection]] = {conninfo: self.connection_class, direct_url: AsyncConnection}
        self._has_pooler = len(self._servers) > 1
        self._options = kwargs
        self._probe: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(self.max_size)  # costs less than the pool's own queue
        self._watches: dict[Connection, _Watch] = {}

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # the base class has it
        """A connection; see `AsyncConnectionPool.getconn`. It is closed if the server stops responding meanwhile.

        Raises:
            OperationalError: the server does not respond, or no connection was free in time.
        """
        watch = _Watch(self._require_response)
        try:
            connection = await self._take(self.timeout if timeout is None else timeout, watch)
        except BaseException:
            watch.end()
            raise
        # A server that refuses a probe has closed its connections itself, or has only too many of them.
        watch.interrupt, watch.reason = partial(sever, connection), ServerSilent
        self._watches[connection] = watch
        return connection

    async def putconn(self, connection: Connection) -> None:
        """Return a connection; see `AsyncConnectionPool.putconn`."""
        self._watches.pop(connection).end()
        try:
            await super().putconn(connection)
        finally:
            self._turns.release()

    async def _take(self, seconds: float, watch: _Watch) -> Connection:
        try:
            async with asyncio.timeout(seconds) as limit:
                watch.interrupt = partial(limit.reschedule, 0)
                await self._turns.acquire()
                try:
                    return await self._take_open(watch)
                except BaseException:
                    self._turns.release()
                    raise
        except TimeoutError:
            raise watch.error or PoolTimeout(f"no connection was free for {seconds:.0f} s") from None

    async def _take_open(self, watch: _Watch) -> Connection:
        while watch.error is None:
            connection, is_usable = await super().getconn(), False
            try:
                is_usable = is_open(connection) and (not self._has_pooler or await self._responds(connection, watch))
            finally:
                if not is_usable:
                    await super().putconn(connection)  # which replaces it
            if is_usable:
                return connection
        raise watch.error

    async def _responds(self, connection: Connection, watch: _Watch) -> bool:
        """Check a connection by a round trip: a pooler keeps it open while it cannot reach the server."""
        interrupt = watch.interrupt
        watch.interrupt = partial(sever, connection)
        try:
            await self.check_connection(connection)
        except OperationalError:
            return False
        finally:
            watch.interrupt = interrupt
        return True

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
        except (TimeoutError, ConnectionTimeout):
            raise ServerSilent(f"the database has not responded for {PROBE_SECONDS:.0f} s") from None


class _Watch:
    """Probes the server every `PROBE_AFTER_SECONDS`, and calls `interrupt` if that fails for a `reason`."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self.interrupt: Callable[[], None] = lambda: None
        self.reason: type[OperationalError] = OperationalError
        self.error: OperationalError | None = None
        self._probe = probe
        self._task: asyncio.Task[None] | None = None
        # Nearly all requests end before, so most of them do not need a task.
        self._timer = asyncio.get_running_loop().call_later(PROBE_AFTER_SECONDS, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="watch the database")

    async def _watch(self) -> None:
        while self.error is None:
            try:
                await self._probe()
            except OperationalError as error:
                if isinstance(error, self.reason):
                    self.error = error
                    self.interrupt()
            await asyncio.sleep(PROBE_AFTER_SECONDS)


def make_api_pool(conninfo: str, *, direct_url: str | None = None, **arguments: Any) -> Pool:
    """A closed pool like `make_pool`'s.

    Args:
        conninfo: the database's URL, or a pooler's.
        direct_url: the database's URL, if the other one is a pooler's.
        arguments: the other arguments of `make_pool`.
    """
    return make_pool(conninfo, kind=partial(ApiPool, direct_url=direct_url or conninfo), **arguments)
