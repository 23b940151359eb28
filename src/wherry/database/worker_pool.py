"""The workers' pool: a worker can leave it at once, and it recovers within seconds, however long an outage lasts."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from wherry.database.pools import Connection
from wherry.database.severing import sever

CLOSE_SECONDS = 0.1
STUCK_SECONDS = 5.0
LOOKS = 50

RECONNECT_SECONDS = 2.0
"""By default, a pool waits between two attempts to connect for as long as the outage has lasted."""

PATIENCE_SECONDS = 1.0
"""How soon a wait for a connection ends after the pool was closed."""


class WorkerPool(AsyncConnectionPool[Connection]):
    """A pool whose connections can be severed."""

    def __init__(self, conninfo: str, **arguments: Any) -> None:
        self._severable: WeakSet[Connection] = WeakSet()
        super().__init__(
            conninfo,
            configure=self._remember,
            reconnect_timeout=RECONNECT_SECONDS,
            reconnect_failed=AsyncConnectionPool.check,  # which starts to connect again
            **arguments,
        )

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # the base class has it
        """A connection; see `AsyncConnectionPool.getconn`, which may wait on although the pool has been closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.timeout if timeout is None else timeout)
        while True:
            left = deadline - loop.time()
            try:
                return await super().getconn(min(left, PATIENCE_SECONDS))
            except PoolTimeout:
                if left <= PATIENCE_SECONDS:
                    raise

    async def cut_off(self) -> None:
        """Close the pool and sever its connections: whoever uses or wants one gets an `OperationalError` soon."""
        for connection in list(self._severable):
            sever(connection)
        await self.close(timeout=CLOSE_SECONDS)

    async def sever_stuck(self) -> None:
        """Sever the connections that wait for the server all the time for `STUCK_SECONDS`."""
        stuck = self._busy()
        for _ in range(LOOKS):
            await asyncio.sleep(STUCK_SECONDS / LOOKS)
            stuck &= self._busy()
        for connection in stuck:
            sever(connection)

    async def _remember(self, connection: Connection) -> None:
        self._severable.add(connection)

    def _busy(self) -> set[Connection]:
        return {each for each in self._severable if each.info.transaction_status is TransactionStatus.ACTIVE}
