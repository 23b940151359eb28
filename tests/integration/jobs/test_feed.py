"""The feed of jobs: what clients watch is up to date, and is read once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.factories import submitted
from tests.round_trips import CountingProxy, counting
from wherry.database.pools import Connection, Pool, connect, make_pool
from wherry.jobs import ledger
from wherry.jobs.feed import JobFeed, Watched
from wherry.jobs.models import Advance
from wherry.jobs.notifications import Notifications
from wherry.jobs.states import Status
from wherry.waiting import in_background

APPLICATION = "feed"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as connection:
        yield connection


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[CountingProxy]:
    with counting(database_url) as proxy:
        yield proxy


@pytest.fixture
async def pool(proxy: CountingProxy) -> AsyncIterator[Pool]:
    async with make_pool(proxy.url, name=APPLICATION, max_size=1) as pool:
        yield pool


@pytest.fixture
async def feed(pool: Pool, database_url: str) -> AsyncIterator[JobFeed]:
    notifications = Notifications(database_url)
    feed = JobFeed(pool, notifications)
    async with notifications.listening(), in_background(feed.run(), name="feed"):
        yield feed


async def until(watched: Watched, wake: asyncio.Event, status: Status | None) -> None:
    async with asyncio.timeout(10):
        while (None if watched.job is None else watched.job.status) is not status:
            await wake.wait()
            wake.clear()


async def test_a_watched_job_is_kept_up_to_date_until_it_is_deleted(feed: JobFeed, connection: Connection) -> None:
    job, wake = await submitted(connection), asyncio.Event()
    with feed.watching(job, wake) as watched:
        claim = await ledger.claim(connection, job.id)
        assert claim is not None
        await until(watched, wake, Status.RUNNING)
        await ledger.cancel_now(connection, job.id)
        await until(watched, wake, Status.CANCELLED)
        await connection.execute("delete from wherry.jobs")
        await connection.execute("select pg_notify('wherry_jobs', %s)", [str(job.id)])
        await until(watched, wake, None)


async def test_a_change_between_the_reading_of_a_job_and_its_watching_is_seen(
    feed: JobFeed, connection: Connection
) -> None:
    job, wake = await submitted(connection), asyncio.Event()
    await ledger.claim(connection, job.id)
    with feed.watching(job, wake) as watched:
        await until(watched, wake, Status.RUNNING)


async def test_one_who_comes_later_sees_nothing_older_than_what_was_read(feed: JobFeed, connection: Connection) -> None:
    job, wake = await submitted(connection), asyncio.Event()
    with feed.watching(job, wake):
        await ledger.claim(connection, job.id)
        newer = await ledger.get(connection, job.id)
        assert newer is not None
        with feed.watching(newer, asyncio.Event()) as watched:
            assert watched.job == newer
            with feed.watching(job, asyncio.Event()) as watched:
                assert watched.job == newer


async def test_changes_of_many_jobs_are_read_together_whoever_watches(
    feed: JobFeed, connection: Connection, proxy: CountingProxy
) -> None:
    jobs = [await submitted(connection) for _ in range(10)]
    leases = []
    for job in jobs:
        claim = await ledger.claim(connection, job.id)
        assert claim is not None
        leases.append(claim.lease)
    wakes = [asyncio.Event() for _ in range(100)]
    watching = [feed.watching(jobs[number % 10], wake) for number, wake in enumerate(wakes)]
    watched = [each.__enter__() for each in watching]
    for each, wake in zip(watched, wakes, strict=True):
        await until(each, wake, Status.RUNNING)
    before = proxy.counts[APPLICATION]
    async with connection.transaction():
        for lease in leases:
            await ledger.advance(connection, lease, Advance(successes=1))
    for each, wake in zip(watched, wakes, strict=True):
        async with asyncio.timeout(10):
            while each.job is None or each.job.success_count == 0:
                await wake.wait()
                wake.clear()
    assert proxy.counts[APPLICATION] - before <= 6
    for each in watching:
        each.__exit__(None, None, None)


async def test_the_feed_goes_on_after_its_connection_was_lost(feed: JobFeed, connection: Connection) -> None:
    job, wake = await submitted(connection), asyncio.Event()
    with feed.watching(job, wake) as watched:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = %s",
            [APPLICATION],
        )
        await ledger.claim(connection, job.id)
        await until(watched, wake, Status.RUNNING)
