"""A connection that the server has closed is known as such, even if it breaks just before a COPY."""

from __future__ import annotations

import psycopg
import pytest

from tests.pgbouncer import pgbouncer
from wherry.imports.copying import copying


@pytest.mark.parametrize("has_pooler", [False, True])
async def test_a_copy_on_a_connection_that_was_closed_meanwhile(database_url: str, has_pooler: bool) -> None:
    if not has_pooler:
        await _copy_too_late(database_url, database_url)
        return
    with pgbouncer(database_url) as url:
        await _copy_too_late(database_url, url)


async def _copy_too_late(database_url: str, url: str) -> None:
    """Begin a COPY after the server has ended the connection, because its transaction was idle for too long."""
    async with (
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watching,
        await psycopg.AsyncConnection.connect(url) as connection,
    ):
        await connection.execute("set local idle_in_transaction_session_timeout = 50")
        row = await (await connection.execute("select pg_backend_pid()")).fetchone()
        alive = "select count(*) from pg_stat_activity where pid = %s"
        while (await (await watching.execute(alive, row)).fetchone()) != (0,):
            pass
        with pytest.raises((psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)):
            async with copying(connection, b"copy wherry.users (email) from stdin") as copy:
                await copy.write(b"x\n")
        assert connection.broken
