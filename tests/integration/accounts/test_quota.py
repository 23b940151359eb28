"""How many jobs an account may have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from wherry.accounts.quota import admission, admit, check_before_upload
from wherry.database.pools import Pool, make_pool
from wherry.errors import LimitReached
from wherry.jobs import ledger
from wherry.jobs.models import NewJob, new_job_id
from wherry.jobs.states import Kind
from wherry.settings import Settings, load_settings


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="wherry tests", max_size=8) as opened:
        async with opened.connection() as connection:
            for name in ("alice", "bob"):
                await connection.execute(
                    "insert into wherry.users (email, username, name) values (%s, %s, %s)",
                    [f"{name}@example.com", name, name],
                )
        yield opened


async def admitted(pool: Pool, settings: Settings, owner_id: int = 1, kind: Kind = Kind.EXPORT) -> dict[str, str]:
    """Create and admit a job in one transaction, as the routes do; returns the RateLimit headers."""
    new = NewJob(id=new_job_id(), kind=kind, owner_id=owner_id, resource="users", format="ndjson")
    async with admission(pool, kind, owner_id) as connection:
        await ledger.create(connection, new)
        return await admit(connection, kind, owner_id, settings)


async def ask(pool: Pool, settings: Settings, owner_id: int = 1, kind: Kind = Kind.EXPORT) -> str:
    """Request a job; returns the RateLimit header, or the code of the refusal."""
    try:
        return (await admitted(pool, settings, owner_id, kind))["RateLimit"]
    except LimitReached as refused:
        return refused.code


async def made(pool: Pool) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute("select count(*) from wherry.jobs")).fetchone()
    return int(row[0]) if row else 0


async def test_the_limit_of_unfinished_jobs_holds_under_concurrent_requests(
    pool: Pool,
) -> None:
    settings = load_settings(export_concurrent_limit_user=3, import_concurrent_limit_user=1)
    outcomes = await asyncio.gather(*(ask(pool, settings) for _ in range(12)))

    assert outcomes.count("CONCURRENT_LIMIT") == 9
    assert await made(pool) == 3
    assert "CONCURRENT_LIMIT" not in (await ask(pool, settings, owner_id=2), await ask(pool, settings, 1, Kind.IMPORT))


async def test_the_limit_of_jobs_per_hour_is_exact(pool: Pool) -> None:
    settings = load_settings(export_rate_limit_per_hour=5, export_concurrent_limit_user=100)
    outcomes = await asyncio.gather(*(ask(pool, settings) for _ in range(12)))

    assert outcomes.count("RATE_LIMITED") == 7
    assert await made(pool) == 5
    assert (await ask(pool, settings, owner_id=2)).startswith('"exports";r=4;t=')
    assert (await ask(pool, settings, 1, Kind.IMPORT)).startswith('"imports";r=999;t=')


async def test_a_job_over_the_limit_of_unfinished_ones_does_not_count_for_the_hour(pool: Pool) -> None:
    settings = load_settings(export_rate_limit_per_hour=5, export_concurrent_limit_user=1)
    outcomes = [await ask(pool, settings) for _ in range(9)]

    async with pool.connection() as connection:
        await connection.execute("update wherry.jobs set status = 'succeeded'")

    assert outcomes[1:] == ["CONCURRENT_LIMIT"] * 8
    assert (await ask(pool, settings)).startswith('"exports";r=3;t=')


async def test_a_job_over_the_limit_of_unfinished_ones_gets_the_rate_limit_headers(pool: Pool) -> None:
    settings = load_settings(export_rate_limit_per_hour=5, export_concurrent_limit_user=1)
    await ask(pool, settings)
    with pytest.raises(LimitReached) as told:
        await admitted(pool, settings)
    refused = told.value

    assert refused.code == "CONCURRENT_LIMIT"
    assert refused.headers["Retry-After"] == "10"
    assert refused.headers["RateLimit-Policy"] == '"exports";q=5;w=3600'
    assert refused.headers["RateLimit"].startswith('"exports";r=4;t=')


async def test_a_job_over_a_limit_is_refused_before_its_body_is_read(pool: Pool) -> None:
    settings = load_settings(export_rate_limit_per_hour=2, export_concurrent_limit_user=100)
    for _ in range(3):
        await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    first = NewJob(
        id=new_job_id(), kind=Kind.EXPORT, owner_id=1, resource="users", format="ndjson", idempotency_key="known"
    )
    async with admission(pool, Kind.EXPORT, 1) as connection:
        await ledger.create(connection, first)
        await admit(connection, Kind.EXPORT, 1, settings)
    assert (await ask(pool, settings)).startswith('"exports";r=0;t=')
    with pytest.raises(LimitReached) as refused:
        await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    assert refused.value.code == "RATE_LIMITED"
    await check_before_upload(pool, Kind.EXPORT, 1, "known", settings)


@pytest.mark.parametrize(("per_hour", "unfinished"), [(1, 9), (9, 1)])
async def test_an_upload_is_refused_as_its_job_would_be(pool: Pool, per_hour: int, unfinished: int) -> None:
    settings = load_settings(export_rate_limit_per_hour=per_hour, export_concurrent_limit_user=unfinished)
    await ask(pool, settings)
    with pytest.raises(LimitReached) as before:
        await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    with pytest.raises(LimitReached) as after:
        await admitted(pool, settings)
    first, second = before.value, after.value
    assert (first.code, first.headers.keys()) == (second.code, second.headers.keys())
    assert first.headers["RateLimit-Policy"] == second.headers["RateLimit-Policy"]
    assert first.headers["RateLimit"].partition(";t=")[0] == second.headers["RateLimit"].partition(";t=")[0]


async def test_a_look_ahead_counts_nothing(pool: Pool) -> None:
    settings = load_settings(export_rate_limit_per_hour=5)
    for _ in range(9):
        await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    assert (await ask(pool, settings)).startswith('"exports";r=4;t=')


async def test_uploads_count_as_unfinished_jobs(pool: Pool) -> None:
    settings = load_settings(export_concurrent_limit_user=1)
    await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    await ask(pool, settings)
    with pytest.raises(LimitReached) as refused:
        await check_before_upload(pool, Kind.EXPORT, 1, "new", settings)
    assert refused.value.code == "CONCURRENT_LIMIT"
