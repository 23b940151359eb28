"""Kinds of jobs are paused and resumed, jobs are retried, and operators see the queue and its workers."""

from __future__ import annotations

import asyncio
import os
import socket
from importlib.metadata import version
from uuid import UUID

import pytest

from tests.factories import new_user, submitted
from tests.integration.jobs.working import Gated, Recorder, working
from wherry.database.pools import Connection, connect, make_pool
from wherry.jobs import ledger, queue, steering, worker_app
from wherry.jobs.executor import Executor
from wherry.jobs.models import Outcome
from wherry.jobs.runs import Run
from wherry.jobs.states import Kind, Status
from wherry.jobs.steering import KindState

RESUMED_SECONDS = 2.0


async def _queue_rows(connection: Connection) -> list[int]:
    rows = await (await connection.execute("select id from wherry.procrastinate_jobs order by id")).fetchall()
    return [int(id_) for (id_,) in rows]


@pytest.mark.parametrize("poll_seconds", [1.0, 60.0], ids=["polled", "notified"])
async def test_jobs_of_a_paused_kind_wait_across_restarts_of_the_worker_and_start_once_it_is_resumed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, poll_seconds: float
) -> None:
    monkeypatch.setattr(worker_app, "POLL_SECONDS", poll_seconds)
    async with await connect(database_url, name="test") as connection:
        operator = await new_user(connection)
        await steering.pause(connection, Kind.IMPORT, operator)
        waiting = await submitted(connection)
        for _ in range(2):
            export = await submitted(connection, kind=Kind.EXPORT)
            recorder = Recorder()
            async with working(database_url, recorder):
                await asyncio.wait_for(recorder.ran.wait(), 10)
            assert recorder.seen == [export.id]
        async with working(database_url, recorder := Recorder()):
            export = await submitted(connection, kind=Kind.EXPORT)
            await asyncio.wait_for(recorder.ran.wait(), 10)
            recorder.ran.clear()
            async with asyncio.timeout(10):
                while len(await _queue_rows(connection)) > 1:
                    pass
            await steering.resume(connection, Kind.IMPORT)
            await asyncio.wait_for(recorder.ran.wait(), RESUMED_SECONDS)
        assert recorder.seen == [export.id, waiting.id]


async def test_a_job_that_runs_goes_on_when_its_kind_is_paused(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        running = await submitted(connection)
        gated = Gated([running.id])
        async with working(database_url, gated):
            assert await gated.next() == running.id
            await steering.pause(connection, Kind.IMPORT, await new_user(connection))
            gated.gate.set()
        assert await _queue_rows(connection) == []


async def test_pausing_and_resuming_twice_is_the_same_as_once(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        for _ in range(2):
            await steering.pause(connection, Kind.EXPORT, await new_user(connection, os.urandom(4).hex()))
        assert (await steering.overview(connection)).kinds[Kind.EXPORT].paused
        for _ in range(2):
            await steering.resume(connection, Kind.EXPORT)
        assert not (await steering.overview(connection)).kinds[Kind.EXPORT].paused


async def test_the_overview_counts_jobs_and_shows_the_longest_wait(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        jobs = [await submitted(connection) for _ in range(3)]
        await ledger.claim(connection, jobs[0].id)
        await ledger.cancel(connection, jobs[1].id)
        await connection.execute("update wherry.jobs set queued_at = now() - interval '1 hour'")
        shown = await steering.overview(connection)
    oldest = shown.kinds[Kind.IMPORT].oldest_seconds
    assert oldest == pytest.approx(3600, abs=60)
    assert shown.kinds == {
        Kind.IMPORT: KindState(queued=1, running=1, oldest_seconds=oldest, paused=False),
        Kind.EXPORT: KindState(queued=0, running=0, oldest_seconds=None, paused=False),
        Kind.CAPSULE: KindState(queued=0, running=0, oldest_seconds=None, paused=False),
    }
    assert shown.workers == []


async def test_the_overview_shows_workers_until_they_stop(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        jobs = {(await submitted(connection)).id for _ in range(2)}
        gated = Gated(jobs)
        async with working(database_url, gated):
            assert {await gated.next() for _ in jobs} == jobs
            (shown,) = (await steering.overview(connection)).workers
            assert (shown.host, shown.pid, shown.version) == (socket.gethostname(), os.getpid(), version("wherry"))
            assert 0 <= shown.heartbeat_age_seconds < 10
            assert set(shown.jobs) == jobs
            gated.gate.set()
        assert (await steering.overview(connection)).workers == []
        assert await (await connection.execute("select * from wherry.workers")).fetchall() == []


async def test_the_overview_shows_a_worker_of_an_older_version(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        await connection.execute(
            "insert into wherry.procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')"
        )
        (shown,) = (await steering.overview(connection)).workers
    assert (shown.host, shown.pid, shown.version, shown.jobs) == (None, None, None, [])
    assert shown.heartbeat_age_seconds == pytest.approx(60, abs=10)


async def test_only_the_new_queue_row_of_a_retried_job_runs_it(database_url: str) -> None:
    """The row of a job that was cancelled stays in the queue, so there are two."""
    ran: list[UUID] = []

    class Runner:
        async def run(self, run: Run) -> Outcome:
            ran.append(run.job.id)
            return Outcome(status=Status.SUCCEEDED)

    async with make_pool(database_url, name="test", max_size=2) as pool, pool.connection() as connection:
        job = await submitted(connection)
        await ledger.cancel(connection, job.id)
        async with connection.transaction():
            retried = await queue.retry(connection, job, None)
        assert retried is not None
        assert retried.status is Status.QUEUED
        before, after = await _queue_rows(connection)
        executor = Executor(pool, {Kind.IMPORT: Runner()})
        await executor.execute(job.id, before)
        assert ran == []
        await executor.execute(job.id, after)
        assert ran == [job.id]


async def test_a_job_that_has_not_failed_is_not_retried(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection, connection.transaction():
        job = await submitted(connection)
        rows = await _queue_rows(connection)
        assert await queue.retry(connection, job, None) is None
        assert await _queue_rows(connection) == rows
