"""Workers run queued jobs, rescue the jobs of dead workers, and stop on request."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from tests.factories import submitted
from wherry.database.pools import connect
from wherry.errors import JobReleased
from wherry.jobs import rescue
from wherry.jobs.states import Kind
from wherry.jobs.worker_app import JobServices, WorkerApp


class Recorder:
    """Services that record which jobs they run."""

    def __init__(self) -> None:
        self.seen: list[UUID] = []
        self.ran = asyncio.Event()
        self.failures: list[Exception] = []

    async def execute(self, job_id: UUID) -> None:
        self.seen.append(job_id)
        if self.failures:
            raise self.failures.pop()
        self.ran.set()

    async def retain(self) -> None:
        return


@asynccontextmanager
async def _working(url: str, recorder: Recorder) -> AsyncIterator[WorkerApp]:
    @asynccontextmanager
    async def open_services() -> AsyncIterator[JobServices]:
        yield JobServices(recorder.execute, recorder.retain)

    app = WorkerApp(url, concurrency=2, open_services=open_services, slow={Kind.CAPSULE})
    async with app.open_async():
        task = asyncio.create_task(app.run_worker_async())
        try:
            yield app
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 10)


async def test_a_queued_job_is_run(database_url: str) -> None:
    recorder = Recorder()
    async with await connect(database_url, name="test") as connection:
        job = await submitted(connection)
        async with _working(database_url, recorder):
            await asyncio.wait_for(recorder.ran.wait(), 10)
        assert recorder.seen == [job.id]
        left = await (await connection.execute("select count(*) from wherry.procrastinate_jobs")).fetchone()
        assert left == (0,)


async def test_a_released_job_runs_again_at_once(database_url: str) -> None:
    recorder = Recorder()
    recorder.failures.append(JobReleased("the worker was stopping"))
    async with await connect(database_url, name="test") as connection:
        job = await submitted(connection)
        async with _working(database_url, recorder):
            await asyncio.wait_for(recorder.ran.wait(), 10)
        assert recorder.seen == [job.id, job.id]


async def test_the_jobs_of_a_dead_worker_are_queued_again(database_url: str) -> None:
    recorder = Recorder()
    async with await connect(database_url, name="test") as connection:
        job = await submitted(connection)
        await connection.execute(
            "with gone as ("
            " insert into wherry.procrastinate_workers (last_heartbeat) "
            "values (now() - interval '1 minute') returning id)"
            " update wherry.procrastinate_jobs set status = 'doing', worker_id = (select id from gone)"
        )
        app = WorkerApp(database_url, concurrency=1, open_services=lambda: asynccontextmanager(_none)())
        async with app.open_async():
            assert await rescue.rescue_stalled(app.job_manager, 20) == 1
            assert await rescue.rescue_stalled(app.job_manager, 20) == 0
        async with _working(database_url, recorder):
            await asyncio.wait_for(recorder.ran.wait(), 10)
        assert recorder.seen == [job.id]


async def test_a_job_that_its_worker_forgot_is_queued_again_at_the_second_check(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        await submitted(connection)
        cursor = await connection.execute("insert into wherry.procrastinate_workers default values returning id")
        row = await cursor.fetchone()
        assert row is not None
        cursor = await connection.execute(
            "update wherry.procrastinate_jobs set status = 'doing', worker_id = %s returning id", row
        )
        held = await cursor.fetchone()
        assert held is not None
        app = WorkerApp(database_url, concurrency=1, open_services=lambda: asynccontextmanager(_none)())
        async with app.open_async():
            look = rescue.rescue_forgotten
            assert await look(app.job_manager, row[0], {held[0]}, frozenset()) == frozenset()
            suspects = await look(app.job_manager, row[0], set(), frozenset())
            assert suspects == frozenset(held)
            assert await look(app.job_manager, row[0], set(), suspects) == frozenset()
        status = await (await connection.execute("select status from wherry.procrastinate_jobs")).fetchone()
        assert status == ("todo",)


async def test_a_job_without_a_queue_row_is_queued_again(database_url: str) -> None:
    async with await connect(database_url, name="test") as connection:
        job, other = await submitted(connection), await submitted(connection)
        await connection.execute("delete from wherry.procrastinate_jobs where args ->> 'job_id' = %s", [str(job.id)])
        app = WorkerApp(database_url, concurrency=1, open_services=lambda: asynccontextmanager(_none)())
        async with app.open_async():
            assert await rescue.rescue_stalled(app.job_manager, 20) == 1
            assert await rescue.rescue_stalled(app.job_manager, 20) == 0
        rows = await (
            await connection.execute("select args ->> 'job_id', queue_name from wherry.procrastinate_jobs")
        ).fetchall()
        assert sorted(rows) == sorted((str(each.id), "import") for each in (job, other))


@pytest.mark.parametrize("failure", [None, JobReleased("back")], ids=["ended", "given back"])
async def test_a_superseded_run_leaves_the_queue_row_to_the_next(database_url: str, failure: Exception | None) -> None:
    recorder, hold = Recorder(), asyncio.Event()

    class Slow(Recorder):
        async def execute(self, job_id: UUID) -> None:
            recorder.ran.set()
            await hold.wait()
            if failure:
                raise failure

    async with await connect(database_url, name="test") as connection:
        await submitted(connection)
        async with _working(database_url, Slow()):
            await asyncio.wait_for(recorder.ran.wait(), 10)
            # taken for dead, given back, and fetched by another worker
            await connection.execute(
                "update wherry.procrastinate_jobs set attempts = attempts + 1, worker_id = null "
                "where queue_name = 'import'"
            )
            hold.set()
        cursor = await connection.execute(
            "select status, attempts from wherry.procrastinate_jobs where queue_name = 'import'"
        )
        left = await cursor.fetchall()
        assert left == [("doing", 1)]


class Gated(Recorder):
    """Runs that end when the test releases them."""

    def __init__(self, kinds: dict[UUID, Kind]) -> None:
        super().__init__()
        self.kinds = kinds
        self.gate = asyncio.Event()
        self.begun: asyncio.Queue[Kind] = asyncio.Queue()

    async def execute(self, job_id: UUID) -> None:
        self.begun.put_nowait(self.kinds[job_id])
        if self.kinds[job_id] is Kind.CAPSULE:
            await self.gate.wait()


async def test_capsules_use_at_most_half_of_the_slots(database_url: str) -> None:
    """The worker runs two jobs at a time: one capsule, and one job of another kind."""
    async with await connect(database_url, name="test") as connection:
        jobs = [await submitted(connection, kind=kind) for kind in (Kind.CAPSULE,) * 3 + (Kind.IMPORT, Kind.EXPORT)]
        gated = Gated({job.id: job.kind for job in jobs})
        async with _working(database_url, gated):
            begun = [await asyncio.wait_for(gated.begun.get(), 10) for _ in range(3)]
            assert sorted(begun) == [Kind.CAPSULE, Kind.EXPORT, Kind.IMPORT]
            gated.gate.set()
            assert [await asyncio.wait_for(gated.begun.get(), 10) for _ in range(2)] == [Kind.CAPSULE] * 2


async def _none() -> AsyncIterator[JobServices]:
    yield JobServices(Recorder().execute, Recorder().retain)
