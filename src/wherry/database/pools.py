"""Connection pools with the session settings that every query of wherry relies on.

In: a conninfo URL. Out: an `AsyncConnectionPool` whose sessions are in UTC and autocommit; a transaction is always
explicit, and ended by the server where its process no longer speaks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg_pool import AsyncConnectionPool

from wherry.errors import DatabaseUnavailable

Connection = AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]

ABANDONED_SECONDS = 15
"""A session that rests inside a transaction for so long belongs to a process that was stopped there, or to a host that
is gone: the server ends it, and what it had locked is free, before another worker takes its jobs over."""

LOCK_SECONDS = 2
"""How long a request waits for rows that others have locked: a batch of an import takes less, and whoever waits holds
one of the few connections that all requests share."""

SESSION_OPTIONS = f"-c TimeZone=UTC -c DateStyle=ISO -c idle_in_transaction_session_timeout={ABANDONED_SECONDS}s"
WAIT_SECONDS = 30
"""How long to wait for one of a pool's connections."""

CONNECT_TIMEOUT_SECONDS = 10
# A peer that vanishes without a word is noticed within about half a minute, not after the kernel's two hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def make_pool(conninfo: str, *, name: str, max_size: int, min_size: int = 1) -> Pool:
    """A closed pool; open it with `async with`. A connection is checked before it is handed out.

    Args:
        conninfo: the database's URL.
        name: shows as `application_name` in `pg_stat_activity`.
        max_size: most connections.
        min_size: connections kept ready.
    """
    return AsyncConnectionPool(conninfo, **pool_arguments(conninfo, name, max_size, min_size))


def pool_arguments(conninfo: str, name: str, max_size: int, min_size: int) -> dict[str, Any]:
    """Keyword arguments of every pool of wherry's; see `make_pool`."""
    return {
        "min_size": min(min_size, max_size),
        "max_size": max_size,
        "open": False,
        "name": name,
        "timeout": WAIT_SECONDS,
        "check": AsyncConnectionPool.check_connection,
        "kwargs": {"autocommit": True, **connection_options(conninfo, name)},
    }


@asynccontextmanager
async def brief_transaction(pool: Pool, *, force_rollback: bool = False) -> AsyncIterator[Connection]:
    """A transaction for somebody who waits for an answer.

    Raises:
        Unavailable: another has kept a row locked that this one needs: an import that is `atomic`, for instance.
    """
    try:
        async with pool.connection() as connection, connection.transaction(force_rollback=force_rollback):
            await connection.execute("select set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
            yield connection
    except (LockNotAvailable, DeadlockDetected):
        detail = "another job or request is changing the same rows; try again"
        raise DatabaseUnavailable(detail) from None  # which says it all, in the log too


async def connect(conninfo: str, *, name: str) -> Connection:
    """One connection with the same session settings, outside any pool."""
    return await AsyncConnection.connect(conninfo, autocommit=True, **connection_options(conninfo, name))


def connection_options(conninfo: str, name: str) -> dict[str, Any]:
    """Keyword arguments for `AsyncConnection.connect`, without `autocommit`, which a library may set its own way.

    They stand in for those of the URL: its own `options` go on before ours.
    """
    own = conninfo_to_dict(conninfo).get("options")
    return {
        "options": f"{own} {SESSION_OPTIONS}" if own else SESSION_OPTIONS,
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVES,
    }
