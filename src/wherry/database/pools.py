"""Connection pools with the session settings that every query of wherry relies on.

In: a conninfo URL. Out: an `AsyncConnectionPool` whose sessions are in UTC and autocommit; a transaction is always
explicit, and ended by the server where its process no longer speaks.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]

ABANDONED_SECONDS = 15
"""A session that rests inside a transaction for so long belongs to a process that was stopped there, or to a host that
is gone: the server ends it, and what it had locked is free, before another worker takes its jobs over."""

SESSION_OPTIONS = f"-c TimeZone=UTC -c DateStyle=ISO -c idle_in_transaction_session_timeout={ABANDONED_SECONDS}s"
CONNECT_TIMEOUT_SECONDS = 10
# A peer that vanishes without a word is noticed within about half a minute, not after the kernel's two hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def make_pool(conninfo: str, *, name: str, max_size: int, min_size: int = 1) -> Pool:
    """A closed pool; open it with `async with`. A connection is checked before it is handed out.

    Args:
        conninfo: the database's URL.
        name: shows as `application_name` in `pg_stat_activity`.
        max_size: connections at the most.
        min_size: connections kept ready.
    """
    return AsyncConnectionPool(
        conninfo,
        min_size=min(min_size, max_size),
        max_size=max_size,
        open=False,
        name=name,
        timeout=30,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, **connection_options(name)},
    )


async def connect(conninfo: str, *, name: str) -> Connection:
    """One connection with the same session settings, outside any pool."""
    return await AsyncConnection.connect(conninfo, autocommit=True, **connection_options(name))


def connection_options(name: str) -> dict[str, Any]:
    """Keyword arguments for `AsyncConnection.connect`, without `autocommit`, which a library may set its own way."""
    return {
        "options": SESSION_OPTIONS,
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVES,
    }
