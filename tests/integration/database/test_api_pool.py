"""The API's pool waits for a busy database, but not for one that does not respond."""

from __future__ import annotations

import asyncio
import sys

import pytest
from psycopg import OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from tests.outages import frozen, shut_down
from tests.pgbouncer import pgbouncer
from wherry.database import api_pool
from wherry.database.api_pool import make_api_pool
from wherry.database.pooler import PooledConnection
from wherry.database.pools import Connection
from wherry.local.embedded import EmbeddedPostgres


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_pool, "PROBE_AFTER_SECONDS", 0.05)


async def test_a_request_waits_for_a_busy_connection_and_slow_queries_are_not_interrupted(database_url: str) -> None:
    async with make_api_pool(database_url, name="test", max_size=1) as pool:

        async def slow() -> str:
            async with pool.connection() as connection:
                row = await (await connection.execute("select pg_sleep(0.5)::text || 'whole'")).fetchone()
            assert row is not None
            return str(row[0])

        assert await asyncio.gather(*(slow() for _ in range(3))) == ["whole"] * 3


async def test_a_cancelled_wait_does_not_lose_a_connection(database_url: str) -> None:
    async with make_api_pool(database_url, name="test", max_size=1) as pool:
        async with pool.connection():
            waiting = [asyncio.create_task(pool.getconn()) for _ in range(3)]
            await asyncio.sleep(0)
        for task in waiting:  # some of them may have the connection by now
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with pool.connection(timeout=5) as connection:
            await connection.execute("select 1")


async def test_connections_that_a_restart_has_closed_are_replaced(own_postgres: EmbeddedPostgres) -> None:
    async with make_api_pool(own_postgres.url, name="test", max_size=3, min_size=3) as pool:
        await pool.wait()
        own_postgres.restart()
        for _ in range(6):
            async with pool.connection() as connection:
                await connection.execute("select 1")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc")
async def test_a_query_fails_if_the_server_stops_responding_to_it(own_postgres: EmbeddedPostgres) -> None:
    async with make_api_pool(own_postgres.url, name="test", max_size=2) as pool:
        async with pool.connection() as connection:
            await connection.execute("select 1")
            with frozen(own_postgres), pytest.raises(OperationalError):
                await asyncio.wait_for(connection.execute("select 1"), 4)
        async with pool.connection(timeout=5) as connection:
            await connection.execute("select 1")


async def test_a_request_that_waits_too_long_for_a_connection_fails(database_url: str) -> None:
    async with make_api_pool(database_url, name="test", max_size=1) as pool:
        async with pool.connection():
            with pytest.raises(PoolTimeout):
                await pool.getconn(timeout=0.1)
        async with pool.connection(timeout=5) as connection:
            await connection.execute("select 1")


async def test_a_server_that_refuses_connections_is_reported_at_once(unused_tcp_port: int) -> None:
    pool: AsyncConnectionPool[Connection]
    async with make_api_pool(f"postgresql://127.0.0.1:{unused_tcp_port}/x", name="test", max_size=1) as pool:
        with pytest.raises(OperationalError, match="refused"):
            await asyncio.wait_for(pool.getconn(), 3)


async def test_a_server_that_refuses_the_connections_of_its_pooler_is_reported(own_postgres: EmbeddedPostgres) -> None:
    with pgbouncer(own_postgres.url) as url:
        options = {"direct_url": own_postgres.url, "name": "test", "max_size": 1, "connection_class": PooledConnection}
        async with make_api_pool(url, **options) as pool:
            async with pool.connection() as connection:
                await connection.execute("select 1")
            with shut_down(own_postgres), pytest.raises(OperationalError, match="refused"):
                await asyncio.wait_for(pool.getconn(), 3)


async def test_a_pooler_that_is_busy_is_waited_for(database_url: str) -> None:
    with pgbouncer(database_url, default_pool_size="1") as url:
        options = {"direct_url": database_url, "name": "test", "max_size": 2, "connection_class": PooledConnection}
        async with make_api_pool(url, **options) as pool:

            async def slow() -> str:
                async with pool.connection() as connection:
                    row = await (await connection.execute("select pg_sleep(0.3)::text || 'whole'")).fetchone()
                assert row is not None
                return str(row[0])

            assert await asyncio.gather(*(slow() for _ in range(4))) == ["whole"] * 4
