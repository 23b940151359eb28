"""Connection pools with the session settings that all of wherry's queries rely on.

Sessions use UTC and autocommit, so transactions are always explicit. The server ends a transaction whose
process has stopped responding.
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
"""A session that is idle in a transaction for this long belongs to a stopped process or a lost host. The server ends
it, which releases its locks before another worker takes over its jobs."""

LOCK_SECONDS = 2
"""How long a request waits for locked rows. A batch of an import takes less, and a waiting request occupies one of the
few connections that all requests share."""

SESSION_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex"
    f" -c idle_in_transaction_session_timeout={ABANDONED_SECONDS}s"
)
WAIT_SECONDS = 30
"""How long to wait for a connection from the pool."""

CONNECT_TIMEOUT_SECONDS = 10
# A peer that vanishes is noticed within about half a minute, not after the kernel's default of two hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def make_pool(
    conninfo: str, *, name: str, max_size: int, min_size: int = 1, kind: type[Pool] = AsyncConnectionPool
) -> Pool:
    """A closed pool; open it with `async with`. Connections are checked before they are handed out.

    Args:
        conninfo: the database's URL.
        name: shown as `application_name` in `pg_stat_activity`.
        max_size: the maximum number of connections.
        min_size: the number of connections that are kept ready.
        kind: the class of the pool.
    """
    return kind(
        conninfo,
        min_size=min(min_size, max_size),
        max_size=max_size,
        open=False,
        name=name,
        timeout=WAIT_SECONDS,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, **connection_options(conninfo, name)},
    )


@asynccontextmanager
async def brief_transaction(pool: Pool, *, force_rollback: bool = False) -> AsyncIterator[Connection]:
    """A transaction for a request, which waits only briefly for locks.

    Raises:
        Unavailable: another transaction, for example an `atomic` import, keeps a row locked that this one needs.
    """
    try:
        async with pool.connection() as connection, connection.transaction(force_rollback=force_rollback):
            await connection.execute("select set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
            yield connection
    except (LockNotAvailable, DeadlockDetected):
        detail = "another job or request is changing the same rows; try again"
        raise DatabaseUnavailable(detail) from None  # PostgreSQL's message would only repeat this in the log


async def connect(conninfo: str, *, name: str) -> Connection:
    """One connection with the same session settings, outside any pool."""
    return await AsyncConnection.connect(conninfo, autocommit=True, **connection_options(conninfo, name))


def connection_options(conninfo: str, name: str, *more: str) -> dict[str, Any]:
    """Keyword arguments for `AsyncConnection.connect`, except `autocommit`, which is left to libraries.

    They override those in the URL; the URL's own `options` are kept, before ours.

    Args:
        conninfo: the database's URL.
        name: shown as `application_name` in `pg_stat_activity`.
        more: options of the session beside those that all sessions have, such as `-c search_path=wherry`.
    """
    own = conninfo_to_dict(conninfo).get("options")
    return {
        "options": " ".join([str(own or ""), SESSION_OPTIONS, *more]),
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVES,
    }
