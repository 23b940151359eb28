"""The API's pool: patient with a busy database, and with nobody else."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import OperationalError
from psycopg_pool import AsyncConnectionPool

from wherry.database import api_pool
from wherry.database.api_pool import make_api_pool
from wherry.database.pools import Connection


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_pool, "PROBE_AFTER_SECONDS", 0.05)


async def test_a_connection_that_others_use_is_waited_for_and_a_slow_query_is_not_cut(database_url: str) -> None:
    async with make_api_pool(database_url, name="test", max_size=1) as pool:

        async def slow() -> str:
            async with pool.connection() as connection:
                row = await (await connection.execute("select pg_sleep(0.5)::text || 'whole'")).fetchone()
            assert row is not None
            return str(row[0])

        assert await asyncio.gather(*(slow() for _ in range(3))) == ["whole"] * 3


async def test_whoever_stops_waiting_takes_no_connection_along(database_url: str) -> None:
    async with make_api_pool(database_url, name="test", max_size=1) as pool:
        async with pool.connection():
            waiting = [asyncio.create_task(pool.getconn()) for _ in range(3)]
            await asyncio.sleep(0)
        for task in waiting:  # some of them may have the connection by now
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with pool.connection(timeout=5) as connection:
            await connection.execute("select 1")


async def test_a_server_that_refuses_connections_is_reported_at_once(unused_tcp_port: int) -> None:
    pool: AsyncConnectionPool[Connection]
    async with make_api_pool(f"postgresql://127.0.0.1:{unused_tcp_port}/x", name="test", max_size=1) as pool:
        with pytest.raises(OperationalError, match="refused"):
            await asyncio.wait_for(pool.getconn(), 3)
