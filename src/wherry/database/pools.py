"""Connection pools with the settings that all of wherry's queries rely on.

Connections use UTC and autocommit, so transactions are always explicit. The server ends a transaction whose process has
stopped responding.
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from psycopg import AsyncConnection, OperationalError, sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.types.json import set_json_loads
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

SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "idle_in_transaction_session_timeout": f"{ABANDONED_SECONDS}s",
}
SESSION_OPTIONS = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
"""The settings for a session, in the form of the connection parameter `options`."""

TRANSACTION_SETTINGS = (
    sql.SQL("; ")
    .join(sql.SQL("set local {} = {}").format(sql.Identifier(name), value) for name, value in SETTINGS.items())
    .as_bytes()
)
"""The same settings for one transaction, as statements."""

BEGIN = sql.SQL("begin")

WAIT_SECONDS = 30
"""How long to wait for a connection from the pool."""

RESTED_SECONDS = 1.0
"""A connection that was handed out no longer ago is not checked by a round trip: a small job would wait for one at each
of its steps."""

_used_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

# Several times faster than the driver's own. The hook lets numbers that are too large for a float become infinite.
_ADAPTERS = AdaptersMap(psycopg.adapters)
set_json_loads(msgspec.json.Decoder(float_hook=float).decode, _ADAPTERS)

CONNECT_TIMEOUT_SECONDS = 10
# A peer that vanishes is noticed within about half a minute, not after the kernel's default of two hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


def make_pool(
    conninfo: str,
    *,
    name: str,
    max_size: int,
    min_size: int = 1,
    kind: Callable[..., Pool] = AsyncConnectionPool,
    connection_class: type[Connection] = AsyncConnection,
) -> Pool:
    """A closed pool; open it with `async with`. It hands out no connection that the server has closed, and checks by a
    round trip those that have rested.

    Args:
        conninfo: the database's URL.
        name: shown as `application_name` in `pg_stat_activity`.
        max_size: the maximum number of connections.
        min_size: the number of connections that are kept ready.
        kind: the class of the pool.
        connection_class: the class of its connections.
    """
    return kind(
        conninfo,
        connection_class=connection_class,
        min_size=min(min_size, max_size),
        max_size=max_size,
        open=False,
        name=name,
        timeout=WAIT_SECONDS,
        check=check_rested,
        kwargs={"autocommit": True, "context": _ADAPTERS, **connection_options(conninfo, name)},
    )


def is_open(connection: Connection) -> bool:
    """Whether the server has not closed an idle connection, as far as this is known without a round trip."""
    try:
        descriptor = connection.fileno()
        arrived = select.poll()
        arrived.register(descriptor, select.POLLIN)
        while arrived.poll(0):  # a server that closes a connection says so, which waits in the socket
            connection.pgconn.consume_input()
    except OperationalError:
        return False
    return True


async def check_rested(connection: Connection) -> None:
    """Raise `OperationalError` if the server has closed the connection or, after a rest, does not answer on it."""
    now = monotonic()
    is_rested = now - _used_at.get(connection, 0.0) > RESTED_SECONDS
    _used_at[connection] = now
    if is_rested or not is_open(connection):
        await AsyncConnectionPool.check_connection(connection)


@asynccontextmanager
async def brief_transaction(pool: Pool, *, lock: tuple[int, int] | None = None) -> AsyncIterator[Connection]:
    """A transaction for a request, which waits only briefly for locks. It begins in one round trip.

    Args:
        pool: where its connection is from.
        lock: the two numbers of an advisory lock, which the transaction takes before its first statement.

    Raises:
        Unavailable: another transaction, for example an `atomic` import, keeps a row locked that this one needs.
    """
    statements = [BEGIN, sql.SQL("set local lock_timeout = {}").format(f"{LOCK_SECONDS}s")]
    if lock is not None:
        statements.append(sql.SQL("select pg_advisory_xact_lock({}, {})").format(*lock))
    try:
        async with pool.connection() as connection:  # which commits, or rolls back if there is an error
            await connection.execute(sql.SQL("; ").join(statements).as_bytes(), prepare=False)
            yield connection
    except (LockNotAvailable, DeadlockDetected):
        detail = "another job or request is changing the same rows; try again"
        raise DatabaseUnavailable(detail) from None  # PostgreSQL's message would only repeat this in the log


async def connect(conninfo: str, *, name: str) -> Connection:
    """One connection to the database itself with the same settings, outside any pool."""
    return await AsyncConnection.connect(conninfo, autocommit=True, **connection_options(conninfo, name))


def connection_options(conninfo: str, name: str, *more: str) -> dict[str, Any]:
    """Keyword arguments for a session with `SETTINGS`, except `autocommit`, which is left to libraries.

    They override those in the URL; the URL's own `options` are kept, before ours.

    Args:
        conninfo: the database's URL.
        name: shown as `application_name` in `pg_stat_activity`.
        more: options of the session beside those that all sessions have, such as `-c search_path=wherry`.
    """
    own = conninfo_to_dict(conninfo).get("options")
    return {"options": " ".join([str(own or ""), SESSION_OPTIONS, *more]), **basic_options(name)}


def basic_options(name: str) -> dict[str, Any]:
    """Keyword arguments for a session without `SETTINGS`, which every pooler accepts."""
    return {
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVES,
    }
