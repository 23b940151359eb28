"""Nobody has to wait for a database that does not respond."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.faults.proxy import DroppingProxy, serving
from wherry.database.pools import connect
from wherry.database.severing import execute_or_sever, sever

AT_ONCE = 2.0
"""Less than psycopg takes to give up on a statement that is cancelled."""


@pytest.fixture
def proxy(database_url: str) -> Iterator[DroppingProxy]:
    with serving(DroppingProxy(database_url)) as proxy:
        yield proxy


async def test_a_statement_fails_at_once_when_its_connection_is_severed(proxy: DroppingProxy) -> None:
    async with await connect(proxy.url, name="test") as connection:
        proxy.drop("test")
        asyncio.get_running_loop().call_later(0.05, sever, connection)
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(connection.execute("select 1"), AT_ONCE)


async def test_severing_a_closed_connection_does_nothing(database_url: str) -> None:
    connection = await connect(database_url, name="test")
    await connection.close()
    sever(connection)


async def test_a_statement_without_a_response_fails_in_time(proxy: DroppingProxy) -> None:
    async with await connect(proxy.url, name="test") as connection:
        await execute_or_sever(connection, sql.SQL("select 1"), seconds=10)
        proxy.drop("test")
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(execute_or_sever(connection, sql.SQL("select 1"), seconds=0.05), AT_ONCE)


async def test_a_cancelled_statement_ends_at_once(proxy: DroppingProxy) -> None:
    async with await connect(proxy.url, name="test") as connection:
        proxy.drop_everything()
        executing = asyncio.create_task(execute_or_sever(connection, sql.SQL("select 1"), seconds=60))
        asyncio.get_running_loop().call_later(0.05, executing.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(executing, AT_ONCE)
