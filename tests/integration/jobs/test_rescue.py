"""What a rescue queues again, and what it writes into the histories of the jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import pytest
from psycopg.rows import scalar_row

from tests.factories import submitted
from wherry.database.pools import Connection, connect
from wherry.jobs import history, ledger, rescue
from wherry.jobs.models import Job, Outcome
from wherry.jobs.states import Status
from wherry.jobs.worker_app import RETENTION, WorkerApp

WORKER = "insert into wherry.procrastinate_workers (last_heartbeat) values (now() - %s * interval '1 s') returning id"
HELD = "update wherry.procrastinate_jobs set status = 'doing', worker_id = %s where args ->> 'job_id' = %s returning id"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[WorkerApp]:
    @asynccontextmanager
    async def nothing() -> AsyncIterator[Any]:
        yield None

    app = WorkerApp(database_url, concurrency=1, open_services=nothing)
    async with app.open_async():
        yield app


async def _value(connection: Connection, query: LiteralString, *values: object) -> Any:
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchone()


async def _held(connection: Connection, job: Job, *, silent_for: int) -> tuple[int, int]:
    """A worker that was last heard of so many seconds ago, and the queue row that it has taken."""
    worker = await _value(connection, WORKER, silent_for)
    return worker, await _value(connection, HELD, worker, str(job.id))


async def _reasons(connection: Connection, job: Job) -> list[str]:
    events = await history.timeline(connection, job)
    return [str((event.meta or {})["reason"]) for event in events if event.type == "rescued"]


async def test_the_job_of_a_dead_worker(connection: Connection, app: WorkerApp) -> None:
    job = await submitted(connection)
    await _held(connection, job, silent_for=60)
    for _ in range(2):
        await rescue.rescue_stalled(app.job_manager, 20)
    assert await _reasons(connection, job) == ["its worker is gone"]


async def test_a_job_without_a_queue_row_can_be_claimed_only_by_its_new_one(
    connection: Connection, app: WorkerApp
) -> None:
    job = await submitted(connection)
    old = await _value(connection, "delete from wherry.procrastinate_jobs returning id")
    await rescue.rescue_stalled(app.job_manager, 20)
    assert await _reasons(connection, job) == ["it has no queue row"]
    assert await ledger.claim(connection, job.id, queue_id=old) is None
    new = await _value(connection, "select id from wherry.procrastinate_jobs")
    assert await ledger.claim(connection, job.id, queue_id=new) is not None


async def test_a_job_that_its_worker_forgot(connection: Connection, app: WorkerApp) -> None:
    job = await submitted(connection)
    worker, row = await _held(connection, job, silent_for=0)
    suspects = await rescue.rescue_forgotten(app.job_manager, worker, set(), frozenset())
    assert await _reasons(connection, job) == []
    assert suspects == {row}
    await rescue.rescue_forgotten(app.job_manager, worker, set(), suspects)
    assert await _reasons(connection, job) == ["its worker never started it, or never finished its queue row"]


async def _undelivered(connection: Connection) -> str:
    """An event that no worker will deliver."""
    job = await submitted(connection, webhook_url="https://receiver.example/")
    claim = await ledger.claim(connection, job.id)
    assert claim is not None
    await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    await connection.execute("delete from wherry.procrastinate_jobs")
    return str(await _value(connection, "select id from wherry.webhook_events"))


async def test_an_overdue_webhook_event_without_a_queue_row(connection: Connection, app: WorkerApp) -> None:
    event_id = await _undelivered(connection)
    waiting: LiteralString = (
        "select array_agg(args ->> 'event_id') from wherry.procrastinate_jobs where queue_name = 'webhook'"
    )
    await rescue.rescue_stalled(app.job_manager, 20)
    assert await _value(connection, waiting) is None, "its worker may be about to write when it will try again"
    await connection.execute("update wherry.webhook_events set next_at = now() - interval '61 s'")
    for _ in range(2):
        await rescue.rescue_stalled(app.job_manager, 20)
    assert await _value(connection, waiting) == [event_id]


@pytest.mark.parametrize("status", ["delivered", "failed"])
async def test_no_webhook_event_that_is_settled(connection: Connection, app: WorkerApp, status: str) -> None:
    await _undelivered(connection)
    await connection.execute("update wherry.webhook_events set next_at = '2026-01-01', status = %s", [status])
    await rescue.rescue_stalled(app.job_manager, 20)
    assert await _value(connection, "select count(*) from wherry.procrastinate_jobs") == 0


async def test_a_worker_that_is_gone_is_no_longer_described(connection: Connection, app: WorkerApp) -> None:
    alive = await _value(connection, WORKER, 0)
    described = "insert into wherry.workers (worker_id, host, pid, version) values (%s, 'host', 1, '2.0')"
    for worker in (alive, alive + 1):
        await connection.execute(described, [worker])
    await rescue.rescue_stalled(app.job_manager, 20)
    assert await _value(connection, "select array_agg(worker_id) from wherry.workers") == [alive]


async def test_the_periodic_task_of_a_dead_worker_does_not_keep_jobs_from_being_rescued(
    connection: Connection, app: WorkerApp
) -> None:
    retention = app.tasks[RETENTION]
    await retention.defer_async(timestamp=1)
    worker = await _value(connection, WORKER, 60)
    await connection.execute("update wherry.procrastinate_jobs set status = 'doing', worker_id = %s", [worker])
    await retention.defer_async(timestamp=2)
    job = await submitted(connection)
    await _held(connection, job, silent_for=60)
    await rescue.rescue_stalled(app.job_manager, 20)
    assert await _reasons(connection, job) == ["its worker is gone"]
    query: LiteralString = "select array_agg(status::text) from wherry.procrastinate_jobs where task_name = %s"
    assert await _value(connection, query, RETENTION) == ["todo"]
