"""Notifications reach the subscribers of a job from any process, even after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.factories import submitted
from tests.faults.proxy import DroppingProxy, serving
from wherry.database.pools import Connection, connect
from wherry.jobs import ledger
from wherry.jobs.models import new_job_id
from wherry.jobs.notifications import IDLE, Notifications, watch_job


@pytest.fixture
async def notifications(database_url: str) -> AsyncIterator[Notifications]:
    """Notifications that are listening: once they are, they wake everybody."""
    notifications = Notifications(database_url)
    with notifications.subscribe(new_job_id()) as listens:
        async with notifications.listening():
            await asyncio.wait_for(listens.wait(), 10)
            yield notifications


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as connection:
        yield connection


async def test_a_change_wakes_only_subscribers_of_its_job(notifications: Notifications, connection: Connection) -> None:
    job = await submitted(connection)
    with notifications.subscribe(job.id) as changed, notifications.subscribe(new_job_id()) as other:
        changed.clear()
        await ledger.claim(connection, job.id)
        await asyncio.wait_for(changed.wait(), 5)
        assert not other.is_set()


async def test_subscribers_are_woken_after_a_reconnect_and_stay_subscribed(
    notifications: Notifications, connection: Connection
) -> None:
    job = await submitted(connection)
    with notifications.subscribe(job.id) as changed:
        changed.clear()
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'wherry notifications'"
        )
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        await ledger.claim(connection, job.id)
        await asyncio.wait_for(changed.wait(), 5)


async def test_subscribers_are_woken_within_five_seconds_of_a_silently_dropped_link(
    database_url: str, connection: Connection
) -> None:
    job = await submitted(connection)
    with serving(DroppingProxy(database_url)) as proxy:
        notifications = Notifications(proxy.url)
        with notifications.subscribe(job.id) as changed:
            async with notifications.listening():
                await asyncio.wait_for(changed.wait(), 10)
                proxy.drop("wherry notifications")
                changed.clear()
                await ledger.claim(connection, job.id)
                await asyncio.wait_for(changed.wait(), 5)


async def test_a_job_is_looked_at_first_and_after_every_change(
    notifications: Notifications, connection: Connection
) -> None:
    job = await submitted(connection)

    async def look() -> int:
        found = await ledger.get(connection, job.id)
        assert found is not None
        return found.epoch

    seen = []
    async for epoch in watch_job(notifications, job.id, look):
        if epoch is IDLE:
            continue
        seen.append(epoch)
        if epoch == 2:
            break
        await ledger.claim(connection, job.id)
    assert seen[0] == 0
    assert seen[-1] == 2
