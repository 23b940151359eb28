"""What happened to a job is written with the change itself, whatever its kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import new_user, submitted
from wherry.database.pools import Connection, connect
from wherry.jobs import history, ledger
from wherry.jobs.events import events_since
from wherry.jobs.models import Advance, Job, Outcome, new_job_id
from wherry.jobs.states import Kind, Status

Told = list[tuple[str, Mapping[str, Any] | None]]

FAILED = Outcome(status=Status.FAILED, error={"code": "TIMEOUT", "message": "m"})


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


async def _claimed(connection: Connection, job: Job, worker: str = "host:1") -> ledger.Claim:
    claim = await ledger.claim(connection, job.id, worker=worker)
    assert claim is not None
    return claim


async def _told(connection: Connection, job: Job) -> Told:
    return [(event.type, event.meta) for event in await history.timeline(connection, job)]


@pytest.mark.parametrize("kind", Kind)
async def test_the_history_of_a_job_has_its_runs_and_its_end(connection: Connection, kind: Kind) -> None:
    job = await submitted(connection, kind=kind)
    first = await _claimed(connection, job)
    await ledger.advance(connection, first.lease, Advance(successes=3, errors=1, progress=50), sampled=True)
    await ledger.advance(connection, first.lease, Advance(successes=1))
    await ledger.release(connection, first.lease, "the worker is stopping")
    second = await _claimed(connection, job, "host:2")
    await ledger.finish(connection, second.lease, FAILED)
    assert await _told(connection, job) == [
        ("created", None),
        ("claimed", {"worker": "host:1"}),
        ("checkpoint", {"processed": 4, "errors": 1, "progress": 50}),
        ("released", {"reason": "the worker is stopping"}),
        ("claimed", {"worker": "host:2"}),
        ("ended", {"status": "failed", "code": "TIMEOUT"}),
    ]
    events = await history.timeline(connection, job)
    assert [event.epoch for event in events] == [0, 1, 1, 1, 2, 2]
    assert [event.ts for event in events] == sorted(event.ts for event in events)


async def test_a_death_is_told_of_the_worker_that_died_and_before_the_next_claim(connection: Connection) -> None:
    job = await submitted(connection)
    await _claimed(connection, job, "host:1")
    await history.note(connection, [job.id, new_job_id()], "rescued", {"reason": "its worker is gone"})
    await _claimed(connection, job, "host:2")
    events = await history.timeline(connection, job)
    assert [(event.type, event.epoch, event.meta) for event in events[2:]] == [
        ("rescued", 1, {"reason": "its worker is gone"}),
        ("died", 1, {"worker": "host:1", "deaths": 1}),
        ("claimed", 2, {"worker": "host:2"}),
    ]


async def test_two_claims_at_the_same_time_are_one_death(connection: Connection, database_url: str) -> None:
    job = await submitted(connection)

    async def second() -> ledger.Claim:
        async with await connect(database_url, name="second") as other:
            return await _claimed(other, job, "host:2")

    async with asyncio.timeout(30):
        async with connection.transaction():
            await _claimed(connection, job, "host:1")
            claiming = asyncio.create_task(second())
            waiting = "select from pg_stat_activity where application_name = 'second' and wait_event_type = 'Lock'"
            while (await connection.execute(waiting)).rowcount == 0:
                await connection.execute("select pg_stat_clear_snapshot()")
        assert (await claiming).lease.epoch == 2
    events = await history.timeline(connection, job)
    assert [(event.type, event.epoch, (event.meta or {})["worker"]) for event in events[1:]] == [
        ("claimed", 1, "host:1"),
        ("died", 1, "host:1"),
        ("claimed", 2, "host:2"),
    ]


async def test_a_job_that_killed_workers_is_not_claimed_unsuspectingly(connection: Connection) -> None:
    job = await submitted(connection)
    assert await ledger.claim_unsuspected(connection, job.id) is not None
    assert await ledger.claim_unsuspected(connection, job.id) is not None, "one death may be chance"
    assert await ledger.claim_unsuspected(connection, job.id) is None
    await _claimed(connection, job)


async def test_a_cancel_is_told_once_and_with_who_requested_it(connection: Connection) -> None:
    alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
    queued, running = await submitted(connection), await submitted(connection)
    claim = await _claimed(connection, running)
    await ledger.cancel(connection, queued.id, alice)
    await ledger.cancel(connection, running.id, alice)
    await ledger.cancel(connection, running.id, bob)
    await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    assert await _told(connection, queued) == [("created", None), ("ended", {"status": "cancelled", "by": alice})]
    assert (await _told(connection, running))[2:] == [
        ("cancel_requested", {"by": alice}),
        ("ended", {"status": "cancelled"}),
    ]


async def test_a_requested_cancel_shows_at_once(connection: Connection) -> None:
    job = (await _claimed(connection, await submitted(connection))).job
    requested = await ledger.cancel(connection, job.id)
    assert requested is not None
    assert requested.updated_at > job.updated_at
    assert requested.cancel_requested_at is not None
    assert await ledger.cancel(connection, job.id) == requested


async def test_an_artifact_expires_once(connection: Connection) -> None:
    claim = await _claimed(connection, await submitted(connection, kind=Kind.EXPORT))
    outcome = Outcome(status=Status.SUCCEEDED, artifact={"key": "k"}, keep_for=timedelta(hours=1))
    job = await ledger.finish(connection, claim.lease, outcome)
    for _ in range(2):
        await ledger.retire_artifact(connection, job.id)
    assert (await _told(connection, job))[-2:] == [("ended", {"status": "succeeded"}), ("artifact_expired", None)]


@pytest.mark.parametrize("kind", [Kind.IMPORT, Kind.EXPORT])
async def test_only_capsules_have_an_event_log(connection: Connection, kind: Kind) -> None:
    claim = await _claimed(connection, await submitted(connection, kind=kind))
    job = await ledger.finish(connection, claim.lease, FAILED)
    assert await events_since(connection, job.id, 0, 10) == []
    assert job.last_event_seq == 0


async def test_attempts_to_deliver_a_webhook_are_told_among_the_rest(connection: Connection) -> None:
    job = await submitted(connection, kind=Kind.EXPORT, webhook_url="https://receiver.example/")
    claim = await _claimed(connection, job)
    outcome = Outcome(status=Status.SUCCEEDED, artifact={"key": "k"}, keep_for=timedelta(hours=1))
    await ledger.finish(connection, claim.lease, outcome)
    attempt = (
        "insert into wherry.webhook_attempts (event_id, number, response_status, error, duration_ms)"
        " select id, %s, %s, %s, 5 from wherry.webhook_events"
    )
    await connection.execute(attempt, [1, None, "no response"])
    await ledger.retire_artifact(connection, job.id)
    await connection.execute(attempt, [2, 204, None])
    name = f"msg_{job.id.hex}_1"
    assert (await _told(connection, job))[2:] == [
        ("ended", {"status": "succeeded"}),
        ("webhook", {"id": name, "attempt": 1, "error": "no response"}),
        ("artifact_expired", None),
        ("webhook", {"id": name, "attempt": 2, "status": 204}),
    ]
    assert {event.epoch for event in (await history.timeline(connection, job))[1:]} == {1}


async def test_a_long_timeline_shows_the_creation_and_the_newest_events(connection: Connection) -> None:
    job = await submitted(connection)
    claim = await _claimed(connection, job)
    await connection.execute(
        "insert into wherry.job_history (job_id, type, round, epoch) select %s, 'checkpoint', 1, 1"
        " from generate_series(1, 1100)",
        [job.id],
    )
    await ledger.finish(connection, claim.lease, FAILED)
    events = await history.timeline(connection, job)
    assert len(events) == history.MAX_EVENTS
    assert [events[0].type, events[1].type, events[-1].type] == ["created", "checkpoint", "ended"]
