"""Connections through a transaction pooler, whose server has other defaults than wherry's queries rely on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.errors import DivisionByZero

from tests.pgbouncer import SESSIONS, change_defaults, pgbouncer
from wherry.database.migrations import migrate, require_ready
from wherry.database.pooler import PooledConnection
from wherry.database.pools import ABANDONED_SECONDS, SETTINGS, Pool, brief_transaction, make_pool
from wherry.database.queries import load
from wherry.errors import Misconfigured

SHOW = "select current_setting(%s)"
TEXTS = """
select (timestamptz '2024-07-01 12:00Z')::text, interval '1 day -2 hours'::text, '\\x00ff'::bytea::text,
  (0.1::float8 + 0.2::float8)::text
"""
EXPECTED = ("2024-07-01 12:00:00+00", "P1DT-2H", "\\x00ff", "0.30000000000000004")


@pytest.fixture
def odd_database_url(database_url: str) -> str:
    """The test's database, with other defaults."""
    change_defaults(database_url)
    return database_url


@pytest.fixture
def pooler_url(odd_database_url: str) -> Iterator[str]:
    with pgbouncer(odd_database_url) as url:
        yield url


@pytest.fixture
async def pool(pooler_url: str) -> AsyncIterator[Pool]:
    async with make_pool(pooler_url, name="tests", max_size=12, connection_class=PooledConnection) as pool:
        yield pool


async def test_values_become_the_same_texts_as_without_a_pooler(pool: Pool, odd_database_url: str) -> None:
    async with make_pool(odd_database_url, name="tests", max_size=1) as direct:
        for each in (pool, direct):
            async with each.connection() as connection:
                assert await (await connection.execute(TEXTS)).fetchone() == EXPECTED
                async with connection.transaction():
                    assert await (await connection.execute(TEXTS)).fetchone() == EXPECTED
                    async with connection.transaction():
                        assert await (await connection.execute(TEXTS)).fetchone() == EXPECTED


@pytest.mark.parametrize("setting", SETTINGS)
async def test_a_transaction_has_every_setting_and_leaves_none_behind(
    pool: Pool, pooler_url: str, setting: str
) -> None:
    with psycopg.connect(pooler_url, autocommit=True, prepare_threshold=None) as stranger:
        async with pool.connection() as connection:
            row = await (await connection.execute(SHOW, [setting])).fetchone()
        found = {stranger.execute(SHOW, [setting]).fetchone() for _ in range(2 * SESSIONS)}
    assert row is not None
    assert row[0].startswith(SETTINGS[setting])  # a DateStyle has a second part, which only matters for input
    assert len(found) == 1
    assert found != {row}


async def test_values_are_read_with_the_settings(pool: Pool) -> None:
    values = [datetime(2024, 7, 1, 12, tzinfo=UTC), b"\0\xff", 0.1 + 0.2]
    async with pool.connection() as connection:
        row = await (await connection.execute("select %s::timestamptz, %s::bytea, %s::float8", values)).fetchone()
        assert row is not None
        assert list(row) == values
        assert row[0].utcoffset() == timedelta()


async def test_many_connections_share_few_sessions(pool: Pool) -> None:
    async def use(number: int) -> tuple[int, list[tuple[int]]]:
        async with pool.connection() as connection:
            seen = set()
            for _ in range(20):  # psycopg would prepare the statement after five times
                row = await (await connection.execute("select %s::int, pg_backend_pid()", [number])).fetchone()
                assert row is not None
                assert row[0] == number
                seen.add(row[1])
        return number, sorted(seen)

    used = await asyncio.gather(*map(use, range(12)))
    sessions = {pid for _, seen in used for pid in seen}
    assert len(sessions) <= SESSIONS
    assert any(len(seen) > 1 for _, seen in used)


async def test_an_error_outside_a_transaction_changes_nothing(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("create table t (n int)")
        await connection.execute("insert into t values (1)")
        with pytest.raises(DivisionByZero):
            await connection.execute("insert into t select n / 0 from t")
        await connection.execute("insert into t values (2)")
    async with pool.connection() as connection:
        assert await (await connection.execute("select n from t order by n")).fetchall() == [(1,), (2,)]


async def test_a_statement_in_a_transaction_is_rolled_back_with_it(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("create table t (n int)")
        async with connection.transaction(force_rollback=True):
            await connection.execute("insert into t values (1)")
        assert await (await connection.execute("select n from t")).fetchall() == []


async def test_a_request_waits_for_locks_no_longer_than_without_a_pooler(pool: Pool) -> None:
    async with brief_transaction(pool) as connection:
        assert await (await connection.execute("show lock_timeout")).fetchone() == ("2s",)
    async with pool.connection() as connection:
        assert await (await connection.execute("show lock_timeout")).fetchone() == ("0",)


async def test_an_import_in_one_transaction_may_be_idle_until_its_end(pool: Pool) -> None:
    show = "show idle_in_transaction_session_timeout"
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(load("imports")["allow_idle"], {"name": "an import"})
        assert await (await connection.execute(show)).fetchone() == ("0",)
        await connection.execute(load("imports")["limit_idle"], {"limit": f"{ABANDONED_SECONDS}s"})
        assert await (await connection.execute(show)).fetchone() == (f"{ABANDONED_SECONDS}s",)


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}])
async def test_a_pooler_instead_of_the_database_itself_is_refused(database_url: str, settings: dict[str, str]) -> None:
    with pgbouncer(database_url, **settings) as url:
        for act in (require_ready, migrate):
            with pytest.raises(Misconfigured, match="set DATABASE_DIRECT_URL to the URL of the database itself"):
                await act(url)
