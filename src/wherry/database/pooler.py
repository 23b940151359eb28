"""Connections through a transaction pooler, such as PgBouncer, which gives each transaction any free session.

Session settings and prepared statements do not survive there, and PgBouncer refuses `options`. So each transaction
begins with the settings, and a statement outside a transaction gets a transaction of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from psycopg import AsyncConnection, AsyncCursor, AsyncTransaction
from psycopg.pq import TransactionStatus

from wherry.database.pools import BEGIN, TRANSACTION_SETTINGS, Connection
from wherry.settings import Settings

_BEGIN = BEGIN.as_bytes() + b"; "


class PooledConnection(AsyncConnection[Any]):
    """A connection through a transaction pooler. Give it to a pool as its `connection_class`."""

    @classmethod
    async def connect(  # type: ignore[override]  # like the base class, but with fewer named parameters
        cls, conninfo: str = "", *, options: str = "", **arguments: Any
    ) -> Self:
        """Connect without the session's `options`. The URL's own are kept."""
        return await super().connect(conninfo, **arguments, prepare_threshold=None, cursor_factory=_Cursor)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """A transaction that begins with the settings, or a savepoint in one; see the base class."""
        is_outermost = self.info.transaction_status is TransactionStatus.IDLE
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            if is_outermost:
                await self.execute(TRANSACTION_SETTINGS)
            yield transaction


class _Cursor(AsyncCursor[Any]):
    async def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
        """Execute a statement: in the current transaction, in the one that it begins, or else in one of its own."""
        is_idle = self.connection.info.transaction_status is TransactionStatus.IDLE
        if is_idle and isinstance(query, bytes) and query.startswith(_BEGIN):
            query = _BEGIN + TRANSACTION_SETTINGS + b"; " + query.removeprefix(_BEGIN)
            return await super().execute(query, *arguments, **options)
        if not is_idle or query == "":  # the empty query is how pools check a connection
            return await super().execute(query, *arguments, **options)
        async with self.connection.transaction():
            return await super().execute(query, *arguments, **options)


def data_connections(settings: Settings) -> type[Connection]:
    """The class of connections to `DATABASE_URL`."""
    return PooledConnection if settings.has_pooler else AsyncConnection
