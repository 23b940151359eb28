"""Pools check connections, but not at every step of a job."""

from __future__ import annotations

import pytest

from tests.round_trips import counting
from wherry.database import pools
from wherry.database.pools import make_pool
from wherry.local.embedded import EmbeddedPostgres


async def test_a_connection_is_checked_by_a_round_trip_only_if_it_has_rested(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(pools, "monotonic", lambda: clock)
    with counting(database_url) as proxy:
        async with make_pool(proxy.url, name="test", max_size=1) as pool:
            trips = []
            for seconds in (0.0, 0.5, 0.5, 5.0, 0.5):
                clock += seconds
                before = proxy.counts["test"]
                async with pool.connection() as connection:
                    await connection.execute("select 1", prepare=False)
                trips.append(proxy.counts["test"] - before)
    assert trips == [2, 1, 1, 2, 1]


async def test_a_connection_that_a_restart_has_closed_is_replaced_although_it_was_used_just_now(
    own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "RESTED_SECONDS", 3600)
    async with make_pool(own_postgres.url, name="test", max_size=2, min_size=2) as pool:
        for _ in range(2):
            async with pool.connection() as connection, pool.connection() as another:
                await connection.execute("select 1")
                await another.execute("select 1")
            own_postgres.restart()
        async with pool.connection() as connection:
            await connection.execute("select 1")
