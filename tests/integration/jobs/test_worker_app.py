"""Workers run queued jobs, rescue the jobs of dead workers, and stop on request."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.factories import submitted
from tests.faults.proxy import DroppingProxy, serving
from tests.integration.jobs.working import Gated, Recorder, working
from tests.outages import shut_down
from wherry.database.migrations import migrate
from wherry.database.pools import Connection, connect
from wherry.errors import JobReleased
from wherry.jobs import rescue, worker_app
from wherry.jobs.states import Kind
from wherry.jobs.worker_app import JobServices, WorkerApp
from wherry.local.embedded import EmbeddedPostgres

LISTEN = "wherry queue listen"
BACK_SECONDS = 5.0
NOTIFIED_SECONDS = 5.0
"""Much less than `without_polling` waits, so only a notification can be so fast."""


async def test_a_queued_job_is_run(database_url: str) -> None:
    recorder = Recorder()
    async with await connect(database_url, name="test") as connection:
        job = await submitted(connection)
        async with working(database_url, recorder):
            await asyncio.wait_for(recorder.ran.wait(), 10)
        assert recorder.seen == [job.id]
        left = await (await connection.execute("select count(*) from wherry.procrastinate_jobs")).fetchone()
        assert left == (0,)


async def test_a_released_job_runs_again_at_once(database_url: str) -> None:
    recorder = Recorder()
    recorder.failures.append(JobReleased("the worker was stopping"))
    async with await connect(database_url, name="test") as connection:
        job = await submitted(connection)
        async with working(database_url, recorder):
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
        async with working(database_url, recorder):
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
        async def execute(self, job_id: UUID, queue_id: int) -> None:
            recorder.ran.set()
            await hold.wait()
            if failure:
                raise failure

    async with await connect(database_url, name="test") as connection:
        await submitted(connection)
        async with working(database_url, Slow()):
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


async def test_capsules_use_at_most_half_of_the_slots(database_url: str) -> None:
    """The worker runs two jobs at a time: one capsule, and one job of another kind."""
    async with await connect(database_url, name="test") as connection:
        jobs = [await submitted(connection, kind=kind) for kind in (Kind.CAPSULE,) * 3 + (Kind.IMPORT, Kind.EXPORT)]
        gated = Gated(job.id for job in jobs if job.kind is Kind.CAPSULE)
        kinds = {job.id: job.kind for job in jobs}
        async with working(database_url, gated):
            begun = [kinds[await gated.next()] for _ in range(3)]
            assert sorted(begun) == [Kind.CAPSULE, Kind.EXPORT, Kind.IMPORT]
            gated.gate.set()
            assert [kinds[await gated.next()] for _ in range(2)] == [Kind.CAPSULE] * 2


@pytest.fixture
def without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are found by notifications only."""
    monkeypatch.setattr(worker_app, "POLL_SECONDS", 60.0)


async def _listens(connection: Connection, *, instead_of: int | None = None) -> int:
    """Wait until the worker listens, on a connection other than this; returns the process id of its session."""
    statement = (
        "select pid from pg_stat_activity where application_name = %s and datname = current_database()"
        " and query_start is not null and state = 'idle' and pid is distinct from %s"
    )
    async with asyncio.timeout(BACK_SECONDS):
        while (row := await (await connection.execute(statement, [LISTEN, instead_of])).fetchone()) is None:
            pass
    return int(row[0])


async def _worker_ids(connection: Connection) -> list[int]:
    rows = await (await connection.execute("select id from wherry.procrastinate_workers")).fetchall()
    return [int(id_) for (id_,) in rows]


async def _is_notified(connection: Connection, recorder: Recorder) -> None:
    """A job that is submitted now is run at once."""
    recorder.ran.clear()
    await submitted(connection)
    await asyncio.wait_for(recorder.ran.wait(), NOTIFIED_SECONDS)


@pytest.mark.usefixtures("without_polling")
async def test_jobs_are_notified_again_after_a_silently_dropped_link(database_url: str) -> None:
    recorder = Recorder()
    with serving(DroppingProxy(database_url)) as proxy:
        async with await connect(database_url, name="test") as connection, working(proxy.url, recorder):
            await _is_notified(connection, recorder)
            first, workers = await _listens(connection), await _worker_ids(connection)
            proxy.drop(LISTEN)
            recorder.ran.clear()
            await submitted(connection)  # its notification is lost
            await _listens(connection, instead_of=first)
            await asyncio.wait_for(recorder.ran.wait(), NOTIFIED_SECONDS)
            await _is_notified(connection, recorder)
            assert await _worker_ids(connection) == workers, "losing the LISTEN must not end the worker"


@pytest.mark.usefixtures("without_polling")
async def test_jobs_are_notified_again_after_a_restart_of_the_database(own_postgres: EmbeddedPostgres) -> None:
    recorder, lost = Recorder(), "notifications lost their connection"
    await migrate(own_postgres.url)
    async with working(own_postgres.url, recorder):
        async with await connect(own_postgres.url, name="test") as connection:
            await _is_notified(connection, recorder)
        with capture_logs() as lines, shut_down(own_postgres):
            async with asyncio.timeout(10):
                while [line["event"] for line in lines].count(lost) < 2:  # it has tried to reconnect
                    await asyncio.to_thread(bool)
        async with await connect(own_postgres.url, name="test") as connection:
            await _listens(connection)
            await _is_notified(connection, recorder)


@pytest.mark.usefixtures("without_polling")
async def test_a_notification_that_arrives_while_the_worker_fetches_is_not_lost(database_url: str) -> None:
    """The worker fetches again as soon as a run begins, and the next job is submitted at that moment."""
    recorder = Recorder()
    async with await connect(database_url, name="test") as connection, working(database_url, recorder):
        await _listens(connection)
        for _ in range(50):
            await _is_notified(connection, recorder)


@pytest.mark.usefixtures("without_polling")
@pytest.mark.parametrize("payload", ["", "nonsense", "[]", '{"type": "something new"}'])
async def test_a_notification_of_somebody_else_is_ignored(database_url: str, payload: str) -> None:
    recorder = Recorder()
    async with await connect(database_url, name="test") as connection, working(database_url, recorder):
        first = await _listens(connection)
        await connection.execute("select pg_notify('procrastinate_any_queue_v1', %s)", [payload])
        await _is_notified(connection, recorder)
        assert await _listens(connection) == first


async def test_a_worker_whose_links_are_dropped_finds_jobs_again(database_url: str) -> None:
    """The statements that it waits for get no response, but new connections work."""
    recorder = Recorder()
    with serving(DroppingProxy(database_url)) as proxy:
        async with await connect(database_url, name="test") as connection, working(proxy.url, recorder):
            await _listens(connection)
            proxy.drop("wherry queue")
            proxy.drop(LISTEN)
            await submitted(connection)
            await asyncio.wait_for(recorder.ran.wait(), 30)


async def test_a_worker_stops_although_its_links_are_dropped(database_url: str) -> None:
    with serving(DroppingProxy(database_url)) as proxy:
        async with await connect(database_url, name="test") as connection:
            async with working(proxy.url, Recorder()):
                await _listens(connection)
                proxy.drop_everything()


async def test_a_job_hears_of_a_stop_before_the_queue_responds(database_url: str) -> None:
    """It has all of its time for its checkpoint, however long the queue waits for a dropped link."""
    told = asyncio.Event()

    class Told(Recorder):
        async def execute(self, job_id: UUID, queue_id: int) -> None:
            self.ran.set()
            await told.wait()

        def stop(self) -> None:
            told.set()

    recorder = Told()
    with serving(DroppingProxy(database_url)) as proxy:
        async with await connect(database_url, name="test") as connection:
            await submitted(connection)
            async with working(proxy.url, recorder):
                await asyncio.wait_for(recorder.ran.wait(), 10)
                proxy.drop_everything()
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(told.wait(), 1)


async def test_a_long_task_of_any_kind_is_not_taken_for_a_forgotten_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, recorder = asyncio.Event(), asyncio.Event(), Recorder()

    async def take_long() -> None:
        begun.set()
        await may_end.wait()

    monkeypatch.setattr(rescue, "RESCUE_SECONDS", 0.05)
    async with await connect(database_url, name="test") as connection, working(database_url, recorder) as app:
        await app.task(name="long", queue="maintenance", pass_context=False)(take_long).defer_async()
        await asyncio.wait_for(begun.wait(), 10)
        async with connection.transaction():
            forgotten = await submitted(connection)
            await connection.execute(
                "update wherry.procrastinate_jobs set status = 'doing', worker_id = (select id from"
                " wherry.procrastinate_workers) where args ->> 'job_id' = %s",
                [str(forgotten.id)],
            )
        await asyncio.wait_for(recorder.ran.wait(), 10)  # so rows have been looked at twice
        held = "select status, attempts from wherry.procrastinate_jobs where task_name = 'long'"
        assert await (await connection.execute(held)).fetchall() == [("doing", 0)]
        may_end.set()


async def _none() -> AsyncIterator[JobServices]:
    yield Recorder().services()
