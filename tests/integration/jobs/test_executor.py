"""How a run ends, whatever its runner does."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from tests.factories import submitted
from wherry.database.pools import Pool, make_pool
from wherry.errors import ErrorCode, JobCancelled, JobFailed, JobReleased, LeaseLost
from wherry.jobs import ledger
from wherry.jobs.executor import MAX_DEATHS, Executor
from wherry.jobs.models import Advance, Job, Outcome
from wherry.jobs.runs import Run
from wherry.jobs.states import Kind, Status

Work = Callable[[Run], Awaitable[Outcome]]


class Doing:
    """A runner that does what the test tells it to."""

    def __init__(self, work: Work) -> None:
        self.run = work


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=4) as opened:
        yield opened


async def _submit(pool: Pool) -> UUID:
    async with pool.connection() as connection:
        return (await submitted(connection)).id


async def _job(pool: Pool, job_id: UUID) -> Job:
    async with pool.connection() as connection:
        job = await ledger.get(connection, job_id)
    assert job is not None
    return job


def _executor(pool: Pool, work: Work) -> Executor:
    return Executor(pool, {Kind.IMPORT: Doing(work)})


async def test_a_run_that_returns_ends_the_job(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        return Outcome(status=Status.SUCCEEDED, total_records=3)

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    job = await _job(pool, job_id)
    assert (job.status, job.total_records, job.progress) == (Status.SUCCEEDED, 3, 100)


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (JobFailed(ErrorCode.EMPTY_FILE, "The file holds no record"), Status.FAILED, "EMPTY_FILE"),
        (RuntimeError("a bug, with a secret in it"), Status.FAILED, "INTERNAL_ERROR"),
        (JobCancelled("asked for"), Status.CANCELLED, None),
    ],
)
async def test_the_exception_of_a_run_decides_how_the_job_ends(
    pool: Pool, raised: Exception, status: Status, code: str | None
) -> None:
    async def work(run: Run) -> Outcome:
        raise raised

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    job = await _job(pool, job_id)
    assert job.status is status
    assert (job.error or {}).get("code") == code
    assert "secret" not in str(job.error)


async def test_an_outcome_that_the_database_refuses_fails_the_job(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        return Outcome(status=Status.SUCCEEDED, artifact={"key": "k"}, keep_for=timedelta(days=900_000_000))

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    job = await _job(pool, job_id)
    assert (job.status, (job.error or {})["code"], job.epoch) == (Status.FAILED, "INTERNAL_ERROR", 1)


@pytest.mark.parametrize("error", [psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout])
async def test_a_lost_connection_releases_the_job(pool: Pool, error: type[psycopg.Error]) -> None:
    async def work(run: Run) -> Outcome:
        raise error("server closed the connection unexpectedly")

    job_id = await _submit(pool)
    with pytest.raises(JobReleased):
        await _executor(pool, work).execute(job_id)
    assert (await _job(pool, job_id)).status is Status.QUEUED


async def test_a_run_that_lost_its_lease_writes_nothing(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        async with pool.connection() as connection:
            await ledger.claim(connection, run.job.id)
        return Outcome(status=Status.SUCCEEDED)

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    assert (await _job(pool, job_id)).status is Status.RUNNING


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "cancelled"])
async def test_the_artifact_of_a_cancelled_job_is_discarded(pool: Pool, kept: bool) -> None:
    discarded = asyncio.Event()
    artifact = {"key": "k"}

    async def discard() -> None:
        discarded.set()

    async def work(run: Run) -> Outcome:
        outcome = Outcome(status=Status.SUCCEEDED, artifact=artifact, discard=discard)
        async with pool.connection() as connection, connection.transaction():
            if kept:
                await ledger.finish(connection, run.lease, outcome)  # and its answer is lost
            else:
                await ledger.cancel_now(connection, run.job.id)
        return outcome

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    assert discarded.is_set() is not kept


async def test_a_job_with_a_confirmed_cancel_does_not_succeed(pool: Pool) -> None:
    discarded = asyncio.Event()

    async def discard() -> None:
        discarded.set()

    async def work(run: Run) -> Outcome:
        async with pool.connection() as connection, connection.transaction():
            await ledger.cancel(connection, run.job.id)
        return Outcome(status=Status.SUCCEEDED, total_records=3, artifact={"key": "k"}, discard=discard)

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    job = await _job(pool, job_id)
    assert (job.status, job.artifact, job.total_records) == (Status.CANCELLED, None, 3)
    assert discarded.is_set()


async def test_a_stopping_worker_completes_the_batch_and_releases_the_job(pool: Pool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(run: Run) -> Outcome:
        begun.set()
        await go_on.wait()
        await run.advance(Advance(successes=5, checkpoint={"index": 5}))
        raise AssertionError("the run should have been stopped")

    job_id = await _submit(pool)
    task = asyncio.create_task(_executor(pool, work).execute(job_id))
    await begun.wait()
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(JobReleased):
        await task
    job = await _job(pool, job_id)
    assert (job.status, job.success_count, job.checkpoint) == (Status.QUEUED, 5, {"index": 5})


async def test_a_stop_lets_every_run_reach_its_checkpoint_however_often_it_is_cancelled_meanwhile(pool: Pool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(run: Run) -> Outcome:
        begun.set()
        await run.stopping.wait()
        await go_on.wait()
        await run.advance(Advance(successes=5, checkpoint={"index": 5}))
        raise AssertionError("the run should have been stopped")

    job_id = await _submit(pool)
    executor = _executor(pool, work)
    task = asyncio.create_task(executor.execute(job_id))
    await begun.wait()
    executor.stop()
    for _ in range(3):
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
    go_on.set()
    with pytest.raises(JobReleased):
        await task
    job = await _job(pool, job_id)
    assert (job.status, job.success_count, job.checkpoint) == (Status.QUEUED, 5, {"index": 5})


async def test_a_stopping_worker_claims_no_job(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise AssertionError("the job must not be run")

    job_id = await _submit(pool)
    executor = _executor(pool, work)
    executor.stop()
    with pytest.raises(JobReleased):
        await executor.execute(job_id)
    assert (await _job(pool, job_id)).epoch == 0


async def test_a_worker_that_stops_still_writes_the_outcome(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        await other.execute("select from wherry.jobs where id = %s for update", [run.job.id])
        return Outcome(status=Status.SUCCEEDED, total_records=3)

    job_id = await _submit(pool)
    async with pool.connection() as other:
        async with other.transaction():
            task = asyncio.create_task(_executor(pool, work).execute(job_id))
            async with asyncio.timeout(10):
                while not await _someone_waits_for_a_lock(pool):
                    pass
            task.cancel()
            await asyncio.sleep(0)
        await task
    assert (await _job(pool, job_id)).status is Status.SUCCEEDED


async def _someone_waits_for_a_lock(pool: Pool) -> bool:
    async with pool.connection() as connection:
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        return (await connection.execute(waiting)).rowcount > 0


async def test_a_job_that_kills_its_workers_fails_with_its_checkpoint(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise AssertionError("the job must not be run again")

    job_id = await _submit(pool)
    async with pool.connection() as connection:
        claim = await ledger.claim(connection, job_id)
        assert claim is not None
        await ledger.advance(connection, claim.lease, Advance(checkpoint={"index": 7, "offset": 90}))
        for _ in range(MAX_DEATHS - 1):
            await ledger.claim(connection, job_id)
    await _executor(pool, work).execute(job_id)
    job = await _job(pool, job_id)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error["code"] == "INTERNAL_ERROR"
    assert job.error["detail"] == {"checkpoint": {"index": 7, "offset": 90}}


async def test_jobs_whose_workers_died_twice_run_one_at_a_time(pool: Pool) -> None:
    running, most = 0, 0

    async def work(run: Run) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await run.advance(Advance(successes=1, checkpoint={"index": 1}))
        running -= 1
        return Outcome(status=Status.SUCCEEDED)

    job_ids = [await _submit(pool) for _ in range(3)]
    async with pool.connection() as connection:
        for job_id in job_ids:
            await ledger.claim(connection, job_id)
            await ledger.claim(connection, job_id)
    executor = _executor(pool, work)
    await asyncio.gather(*(executor.execute(job_id) for job_id in job_ids))
    assert most == 1
    assert [(await _job(pool, job_id)).status for job_id in job_ids] == [Status.SUCCEEDED] * 3


async def test_a_waiting_suspect_is_not_blamed_for_the_death_of_a_running_one(pool: Pool) -> None:
    begun = asyncio.Event()

    async def work(run: Run) -> Outcome:
        begun.set()
        await run.stopping.wait()
        raise JobReleased("stopped")

    first, second = await _submit(pool), await _submit(pool)
    async with pool.connection() as connection:
        for job_id in (first, second):
            await ledger.claim(connection, job_id)
            await ledger.claim(connection, job_id)
    executor = _executor(pool, work)
    tasks = [asyncio.create_task(executor.execute(job_id)) for job_id in (first, second)]
    await begun.wait()
    deaths = sorted([(await _job(pool, job_id)).deaths for job_id in (first, second)])
    assert deaths == [1, 2], "only the one that runs was claimed"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_other_jobs_do_not_wait_for_a_suspect(pool: Pool) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work(run: Run) -> Outcome:
        if run.job.id == suspect:
            begun.set()
            await may_end.wait()
        return Outcome(status=Status.SUCCEEDED)

    suspect, queued, ended = [await _submit(pool) for _ in range(3)]
    async with pool.connection() as connection:
        await ledger.claim(connection, suspect)
        await ledger.claim(connection, suspect)
        await ledger.cancel(connection, ended)
    executor = _executor(pool, work)
    suspected = asyncio.create_task(executor.execute(suspect))
    await begun.wait()
    await asyncio.wait_for(executor.execute(queued), 10)
    await asyncio.wait_for(executor.execute(ended), 10)
    assert (await _job(pool, queued)).status is Status.SUCCEEDED
    may_end.set()
    await suspected


async def test_a_claim_names_the_worker(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        return Outcome(status=Status.SUCCEEDED)

    job_id = await _submit(pool)
    await _executor(pool, work).execute(job_id)
    async with pool.connection() as connection:
        cursor = await connection.execute("select worker from wherry.jobs where id = %s", [job_id])
        assert await cursor.fetchone() == (f"{socket.gethostname()}:{os.getpid()}",)


async def test_a_finished_job_is_not_run(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise AssertionError("an ended job must not be run")

    job_id = await _submit(pool)
    async with pool.connection() as connection:
        await ledger.cancel(connection, job_id)
    await _executor(pool, work).execute(job_id)
    assert (await _job(pool, job_id)).status is Status.CANCELLED


async def _logged(pool: Pool, work: Work, job_id: UUID) -> list[dict[str, object]]:
    """Run a job; returns what was logged meanwhile."""
    with capture_logs([merge_contextvars]) as lines, suppress(JobReleased):
        await _executor(pool, work).execute(job_id)
    return [dict(line) for line in lines]


@pytest.mark.parametrize(
    "raised",
    [JobFailed("EXPORT_FAILED", "The stored request is gone"), LeaseLost("no longer held"), FileNotFoundError("gone")],
)
async def test_a_run_that_stops_because_its_job_was_cancelled_is_logged_as_cancelled(
    pool: Pool, raised: Exception
) -> None:
    async def work(run: Run) -> Outcome:
        async with pool.connection() as connection:
            await ledger.cancel_now(connection, run.job.id)
        raise raised

    started, ended = await _logged(pool, work, await _submit(pool))
    assert started["event"] == "job.started"
    assert (ended["event"], ended["status"], ended["log_level"]) == ("job.completed", "cancelled", "info")


async def test_a_superseded_run_logs_the_newer_epoch(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        async with pool.connection() as connection:
            await ledger.claim(connection, run.job.id)
        return Outcome(status=Status.SUCCEEDED)

    job_id = await _submit(pool)
    _, ended = await _logged(pool, work, job_id)
    assert (ended["event"], ended["jobId"], ended["epoch"], ended["byEpoch"]) == ("job.superseded", str(job_id), 1, 2)


async def test_each_run_of_a_released_job_has_its_own_log_lines(pool: Pool) -> None:
    async def give_back(run: Run) -> Outcome:
        async with pool.connection() as connection, connection.transaction():
            await run.advance_within(connection, Advance(successes=5, checkpoint={"index": 5}))
        raise JobReleased("the worker is stopping")

    async def go_on(run: Run) -> Outcome:
        async with pool.connection() as connection, connection.transaction():
            await run.advance_within(connection, Advance(successes=3, checkpoint={"index": 8}))
        return Outcome(status=Status.SUCCEEDED)

    job_id = await _submit(pool)
    lines = await _logged(pool, give_back, job_id) + await _logged(pool, go_on, job_id)
    assert [(line["event"], line["epoch"]) for line in lines] == [
        ("job.started", 1),
        ("job.released", 1),
        ("job.started", 2),
        ("job.completed", 2),
    ]
    assert [line["processedRecords"] for line in lines] == [0, 5, 5, 8]
    assert "the worker is stopping" in str(lines[1]["reason"])


async def test_a_failed_run_logs_the_error_that_its_owner_sees(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise JobFailed(ErrorCode.EMPTY_FILE, "The file holds no record")

    ended = (await _logged(pool, work, await _submit(pool)))[-1]
    told = ("failed", "EMPTY_FILE", "The file holds no record")
    assert (ended["status"], ended["code"], ended["reason"]) == told


async def test_a_crash_is_logged_with_its_traceback(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise RuntimeError("a bug")

    _, crash, ended = await _logged(pool, work, await _submit(pool))
    assert (crash["event"], crash["log_level"], str(crash["exc_info"])) == ("job crashed", "error", "a bug")
    assert ended["status"] == "failed"


async def test_progress_is_logged_at_debug_level(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        await run.advance(Advance(successes=4, errors=1, progress=50))
        return Outcome(status=Status.PARTIAL)

    job_id = await _submit(pool)
    _, progress, _ = await _logged(pool, work, job_id)
    assert (progress["event"], progress["log_level"], progress["jobId"]) == ("job.progress", "debug", str(job_id))
    assert (progress["progress"], progress["processedRecords"], progress["errorCount"]) == (50, 5, 1)


async def _cancelled_while_it_runs(pool: Pool) -> UUID:
    job_id = await _submit(pool)
    async with pool.connection() as connection:
        assert await ledger.claim(connection, job_id) is not None
        await ledger.cancel(connection, job_id)
    return job_id


async def test_a_job_whose_worker_died_after_a_cancel_was_requested_is_not_run_again(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        raise AssertionError("it was run")

    job_id = await _cancelled_while_it_runs(pool)
    await _executor(pool, work).execute(job_id)
    assert (await _job(pool, job_id)).status is Status.CANCELLED


async def test_a_release_after_a_cancel_was_requested_ends_the_job(pool: Pool) -> None:
    async def work(run: Run) -> Outcome:
        async with pool.connection() as connection:
            await ledger.cancel(connection, run.job.id)
        raise JobReleased("the worker is stopping")

    job_id = await _submit(pool)
    with pytest.raises(JobReleased):  # so that its queue row is fetched again, and finished
        await _executor(pool, work).execute(job_id)
    assert (await _job(pool, job_id)).status is Status.CANCELLED
