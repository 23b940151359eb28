"""A worker does not wait for a database that does not respond, and is back soon after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tests.faults.proxy import DroppingProxy, serving
from tests.outages import shut_down
from wherry.database import worker_pool
from wherry.database.pools import make_pool
from wherry.database.worker_pool import PATIENCE_SECONDS, WorkerPool
from wherry.local.embedded import EmbeddedPostgres


@pytest.fixture
def proxy(database_url: str) -> Iterator[DroppingProxy]:
    with serving(DroppingProxy(database_url)) as proxy:
        yield proxy


@pytest.fixture
async def pool(proxy: DroppingProxy) -> AsyncIterator[WorkerPool]:
    async with make_pool(proxy.url, name="test", max_size=2, kind=WorkerPool) as pool:
        yield pool


async def test_everyone_who_uses_or_wants_a_connection_is_cut_off(proxy: DroppingProxy, pool: WorkerPool) -> None:
    async with pool.connection() as one, pool.connection() as other:
        proxy.drop_everything()
        using = [asyncio.create_task(each.execute("select 1")) for each in (one, other)]
        wanting = [asyncio.create_task(pool.getconn()) for _ in range(2)]
        await asyncio.sleep(0)  # so that all of them wait
        await pool.cut_off()
        waiting = asyncio.gather(*using, *wanting, return_exceptions=True)
        ends = await asyncio.wait_for(waiting, 2 * PATIENCE_SECONDS + 1)
        assert [isinstance(end, psycopg.OperationalError) for end in ends] == [True] * 4
    with pytest.raises(psycopg.OperationalError):
        await pool.getconn()


async def test_it_is_back_within_two_seconds_of_an_outage_that_lasted_longer(own_postgres: EmbeddedPostgres) -> None:
    async with make_pool(own_postgres.url, name="test", max_size=1, kind=WorkerPool) as pool:
        async with pool.connection():
            pass  # so that it is connected
        with shut_down(own_postgres), pytest.raises(psycopg.OperationalError):
            await pool.getconn(timeout=4)
        async with asyncio.timeout(2), pool.connection() as connection:
            await connection.execute("select 1")


async def test_only_a_connection_that_waits_all_the_time_is_severed(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "STUCK_SECONDS", 0.1)
    async with pool.connection() as stuck, pool.connection() as other:
        waiting = asyncio.create_task(stuck.execute("select pg_sleep(60)"))
        await asyncio.sleep(0)
        await pool.sever_stuck()
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(waiting, 1)
        await other.execute("select 1")
