"""How a run advances its lease, and finds out whether to continue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from tests.factories import submitted
from wherry.database.pools import Connection, Pool, make_pool
from wherry.errors import JobCancelled, JobReleased, LeaseLost
from wherry.jobs import history, ledger
from wherry.jobs.events import events_since
from wherry.jobs.models import Advance, Job
from wherry.jobs.runs import SAMPLE_SECONDS, Run, Sampling
from wherry.jobs.states import Kind


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=2) as opened:
        yield opened


async def _claimed(pool: Pool, **changes: Any) -> Run:
    async with pool.connection() as connection:
        claim = await ledger.claim(connection, (await submitted(connection, **changes)).id)
    assert claim is not None
    return Run(claim.job, claim.lease, pool)


async def _job(run: Run) -> Job:
    async with run.pool.connection() as connection:
        job = await ledger.get(connection, run.job.id)
    assert job is not None
    return job


async def test_an_advance_writes_counters_and_event_in_one_transaction(pool: Pool) -> None:
    run = await _claimed(pool, kind=Kind.CAPSULE)
    await run.advance(Advance(successes=2, message="Halfway"), event="stage_progress", meta={"frames": 2})
    assert (await _job(run)).success_count == 2
    async with pool.connection() as connection:
        event = (await events_since(connection, run.job.id, 1, 10))[-1]
    assert (event.type, event.message, event.meta) == ("stage_progress", "Halfway", {"frames": 2})


async def test_an_advance_of_a_cancelled_job_is_counted_and_ends_the_run(pool: Pool) -> None:
    run = await _claimed(pool)
    async with pool.connection() as connection:
        await ledger.cancel(connection, run.job.id)
    with pytest.raises(JobCancelled):
        await run.advance(Advance(successes=2))
    assert (await _job(run)).success_count == 2


async def test_a_look_changes_nothing(pool: Pool) -> None:
    run = await _claimed(pool)
    before = await _job(run)
    await run.look()
    assert await _job(run) == before


@pytest.mark.parametrize(
    ("change", "raised"),
    [(ledger.claim, LeaseLost), (ledger.cancel, JobCancelled), (ledger.cancel_now, LeaseLost)],
    ids=["claimed", "cancelled", "cancelled now"],
)
async def test_a_look_ends_a_run_that_lost_its_lease_or_was_cancelled(
    pool: Pool, change: Callable[[Connection, UUID], Awaitable[object]], raised: type[Exception]
) -> None:
    run = await _claimed(pool)
    async with pool.connection() as connection:
        await change(connection, run.job.id)
    with pytest.raises(raised):
        await run.look()
    with pytest.raises(raised):
        await run.look_within_step()


async def test_a_stopping_worker_ends_a_run_only_between_steps(pool: Pool) -> None:
    run = await _claimed(pool)
    run.stopping.set()
    await run.look_within_step()
    with pytest.raises(JobReleased):
        await run.look()


async def test_the_history_shows_a_checkpoint_when_one_is_due(pool: Pool) -> None:
    claimed, times = await _claimed(pool), iter((0.0, 1.0, SAMPLE_SECONDS, SAMPLE_SECONDS + 1))
    run = Run(claimed.job, claimed.lease, pool, sampling=Sampling(lambda: next(times)))
    for _ in range(3):
        await run.advance(Advance(successes=1))
    async with pool.connection() as connection:
        events = await history.timeline(connection, run.job)
    assert [event.meta for event in events if event.type == "checkpoint"] == [
        {"processed": 2, "errors": 0, "progress": 0}
    ]
