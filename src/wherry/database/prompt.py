"""The API's pool: like any pool, it waits for a free connection, but not for a server that does not respond.

After a request has waited for `LOOK_SECONDS`, the pool probes the server, once for all waiting requests. A server that
is stopped or hangs is reported within `LOOK_SECONDS + ANSWER_SECONDS`; if it is only busy, the requests keep waiting.
Queries have no time limit.
"""

from __future__ import annotations

import asyncio
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool

from wherry.database.pools import Connection, Pool, pool_arguments

LOOK_SECONDS = 2.0
ANSWER_SECONDS = 2.0

RECONNECT_SECONDS = 2.0
"""The pool retries with growing intervals up to this total. If it is short, attempts stay frequent, and a server that
is back is found within seconds."""


def make_prompt_pool(conninfo: str, *, name: str, max_size: int, min_size: int = 1) -> Pool:
    """Like `make_pool`, for the API."""
    arguments = pool_arguments(conninfo, name, max_size, min_size)
    return PromptPool(conninfo, **arguments, reconnect_timeout=RECONNECT_SECONDS)


class PromptPool(AsyncConnectionPool[Connection]):
    """A pool that gives up early if the server does not respond. Create it with `make_prompt_pool`."""

    def __init__(self, conninfo: str, *, kwargs: dict[str, Any], **arguments: Any) -> None:
        kwargs = {**kwargs, "connect_timeout": round(ANSWER_SECONDS)}
        super().__init__(conninfo, kwargs=kwargs, **arguments)
        self._server = (conninfo, kwargs)
        self._answer: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109  # the base class has it
        """A connection; see `AsyncConnectionPool.getconn`.

        Raises:
            OperationalError: the server does not respond, or no connection was free in time.
        """
        waiting = asyncio.create_task(super().getconn(timeout), name="wait for a connection")
        try:
            while not (await asyncio.wait([waiting], timeout=LOOK_SECONDS))[0]:
                await self._require_answer()
            return waiting.result()
        except BaseException:
            self._abandon(waiting)
            raise

    async def _require_answer(self) -> None:
        if self._answer is None or self._answer.done():
            self._answer = asyncio.create_task(self._ask(), name="ask whether the database answers")
        await asyncio.shield(self._answer)

    async def _ask(self) -> None:
        conninfo, kwargs = self._server
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await AsyncConnection.connect(conninfo, **kwargs)
        except TimeoutError:
            raise OperationalError(f"the database has not answered for {ANSWER_SECONDS:.0f} s") from None
        await connection.close()

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
