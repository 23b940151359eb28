"""The ledger: leases fence every write, counters are exact, and idempotency survives races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import LockNotAvailable

from tests.factories import new_job, new_user, submitted
from wherry.database.pools import Connection, connect
from wherry.errors import Invalid, LeaseLost
from wherry.jobs import ledger, queue
from wherry.jobs.events import append_event, events_since
from wherry.jobs.models import Advance, Lease, Outcome, new_job_id
from wherry.jobs.queue import submit
from wherry.jobs.states import Kind, Status


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


async def _queue_rows(connection: Connection) -> int:
    row = await (await connection.execute("select count(*) from wherry.procrastinate_jobs")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_job_and_its_queue_row_are_written_together_or_not_at_all(connection: Connection) -> None:
    job = await submitted(connection)
    assert await _queue_rows(connection) == 1
    async with connection.transaction(force_rollback=True):
        abandoned, _ = await submit(connection, new_job())
    assert await ledger.get(connection, abandoned.id) is None
    assert await ledger.get(connection, job.id) is not None
    assert await _queue_rows(connection) == 1


async def _claimed(connection: Connection, **changes: Any) -> ledger.Claim:
    claim = await ledger.claim(connection, (await submitted(connection, **changes)).id)
    assert claim is not None
    return claim


async def test_a_second_claim_raises_the_epoch_and_keeps_the_time_of_the_first(connection: Connection) -> None:
    first = await _claimed(connection)
    second = await ledger.claim(connection, first.job.id)
    assert second is not None
    assert second.lease.epoch == first.lease.epoch + 1
    assert second.job.started_at == first.job.started_at
    assert (await ledger.advance(connection, second.lease, Advance(successes=2))).success_count == 2


FENCED: dict[str, Callable[[Connection, Lease], Awaitable[object]]] = {
    "advance": lambda connection, lease: ledger.advance(connection, lease, Advance(successes=1)),
    "look": ledger.look,
    "finish": lambda connection, lease: ledger.finish(connection, lease, Outcome(status=Status.SUCCEEDED)),
    "release": ledger.release,
    "restart": ledger.restart,
    "hold": ledger.hold,
    "record_source": lambda connection, lease: ledger.record_source(connection, lease, {"fileSize": 1}),
    "record_format": lambda connection, lease: ledger.record_format(connection, lease, "json"),
}


@pytest.mark.parametrize("lose", [ledger.claim, ledger.cancel_now], ids=["claimed", "cancelled"])
@pytest.mark.parametrize("write", FENCED.values(), ids=FENCED)
async def test_a_run_that_lost_its_lease_changes_nothing(
    connection: Connection,
    write: Callable[[Connection, Lease], Awaitable[object]],
    lose: Callable[[Connection, UUID], Awaitable[object]],
) -> None:
    claim = await _claimed(connection)
    await ledger.advance(connection, claim.lease, Advance(successes=1, checkpoint={"index": 1}))
    await lose(connection, claim.job.id)
    before = await ledger.get(connection, claim.job.id)
    with pytest.raises(LeaseLost):
        await write(connection, claim.lease)
    assert await ledger.get(connection, claim.job.id) == before


async def test_a_job_that_is_held_cannot_be_claimed_until_the_transaction_ends(
    connection: Connection, database_url: str
) -> None:
    claim = await _claimed(connection)
    async with await connect(database_url, name="test") as other:
        await other.execute("set lock_timeout = '100ms'")
        async with connection.transaction():
            await ledger.hold(connection, claim.lease)
            with pytest.raises(LockNotAvailable):
                await ledger.claim(other, claim.job.id)
        assert await ledger.claim(other, claim.job.id) is not None


async def test_a_restart_forgets_all_that_was_counted(connection: Connection) -> None:
    claim = await _claimed(connection)
    step = Advance(successes=3, errors=1, summary={"PARSE_ERROR": 1}, checkpoint={"index": 4}, total_records=4)
    await ledger.advance(connection, claim.lease, step)
    await ledger.restart(connection, claim.lease)
    job = await ledger.get(connection, claim.job.id)
    assert job is not None
    assert (job.success_count, job.error_count, job.total_records) == (0, 0, None)
    assert (job.error_summary, job.checkpoint) == ({}, None)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIAL, Status.FAILED])
async def test_a_job_whose_owner_has_cancelled_it_ends_as_cancelled_unless_it_fails(
    connection: Connection, status: Status
) -> None:
    claim = await _claimed(connection)
    await ledger.cancel(connection, claim.job.id)
    ended = await ledger.finish(connection, claim.lease, Outcome(status=status))
    assert ended.status is (Status.FAILED if status is Status.FAILED else Status.CANCELLED)


async def test_an_ended_job_cannot_be_claimed_or_ended_again(connection: Connection) -> None:
    claim = await _claimed(connection)
    job = claim.job
    await ledger.finish(connection, claim.lease, Outcome(status=Status.FAILED, error={"code": "X", "message": "y"}))
    assert await ledger.claim(connection, job.id) is None
    with pytest.raises(LeaseLost):
        await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    ended = await ledger.get(connection, job.id)
    assert ended is not None
    assert (ended.status, ended.error) == (Status.FAILED, {"code": "X", "message": "y"})


async def test_a_job_whose_url_could_not_be_fetched_releases_its_key(connection: Connection, database_url: str) -> None:
    request = {"owner_id": await new_user(connection), "idempotency_key": "nightly", "fingerprint": "same"}
    failed = await submitted(connection, **request)
    claim = await ledger.claim(connection, failed.id)
    assert claim is not None
    error = {"code": "URL_FETCH_FAILED", "message": "the host did not answer"}
    await ledger.finish(connection, claim.lease, Outcome(status=Status.FAILED, error=error))

    async def request_again() -> tuple[UUID, bool]:
        async with await connect(database_url, name="test") as other, other.transaction():
            job, replayed = await submit(other, new_job(**request))
            return job.id, replayed

    answers = await asyncio.gather(*(request_again() for _ in range(5)))
    assert len({job_id for job_id, _ in answers} | {failed.id}) == 2
    assert sorted(replayed for _, replayed in answers) == [False, True, True, True, True]


@pytest.mark.parametrize("code", ["FILE_TOO_LARGE", "URL_NOT_ALLOWED"])
async def test_a_job_that_failed_for_another_reason_keeps_its_key(connection: Connection, code: str) -> None:
    failed = await submitted(connection, idempotency_key="nightly", fingerprint="same")
    claim = await ledger.claim(connection, failed.id)
    assert claim is not None
    await ledger.finish(connection, claim.lease, Outcome(status=Status.FAILED, error={"code": code, "message": "m"}))
    async with connection.transaction():
        again, replayed = await submit(connection, new_job(idempotency_key="nightly", fingerprint="same"))
    assert (again.id, replayed) == (failed.id, True)


async def test_advances_add_up_and_progress_never_falls(connection: Connection) -> None:
    job = await submitted(connection)
    claim = await ledger.claim(connection, job.id)
    assert claim is not None
    step = Advance(successes=3, errors=1, summary={"PARSE_ERROR": 1}, checkpoint={"index": 4}, progress=50)
    await ledger.advance(connection, claim.lease, step)
    step = Advance(successes=1, errors=2, summary={"PARSE_ERROR": 1, "OTHER": 1}, checkpoint={"index": 7}, progress=20)
    position = await ledger.advance(connection, claim.lease, step)
    assert (position.success_count, position.error_count) == (4, 3)
    now = await ledger.get(connection, job.id)
    assert now is not None
    assert (now.processed_records, now.progress, now.checkpoint) == (7, 50, {"index": 7})
    assert now.error_summary == {"PARSE_ERROR": 2, "OTHER": 1}
    await ledger.advance(connection, claim.lease, Advance(message="Still here"))
    after = await ledger.get(connection, job.id)
    assert after is not None
    assert (after.processed_records, after.progress, after.checkpoint) == (7, 50, {"index": 7})


async def test_deaths_count_only_at_one_checkpoint_and_not_after_a_release(connection: Connection) -> None:
    job = await submitted(connection)

    async def claimed() -> ledger.Claim:
        claim = await ledger.claim(connection, job.id)
        assert claim is not None
        return claim

    assert (await claimed()).job.deaths == 0
    assert (await claimed()).job.deaths == 1
    claim = await claimed()
    assert claim.job.deaths == 2
    await ledger.advance(connection, claim.lease, Advance(checkpoint={"index": 1}))
    claim = await claimed()
    assert claim.job.deaths == 1
    await ledger.release(connection, claim.lease)
    assert (await claimed()).job.deaths == 0


async def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_requested_to_stop(connection: Connection) -> None:
    queued, running = await submitted(connection), await submitted(connection)
    cancelled = await ledger.cancel(connection, queued.id)
    assert cancelled is not None
    assert cancelled.status is Status.CANCELLED
    claim = await ledger.claim(connection, running.id)
    assert claim is not None
    asked = await ledger.cancel(connection, running.id)
    assert asked is not None
    assert asked.status is Status.RUNNING
    assert (await ledger.advance(connection, claim.lease, Advance())).cancel_requested


async def test_a_job_that_is_released_while_it_is_cancelled_is_cancelled(
    connection: Connection, database_url: str
) -> None:
    claim = await _claimed(connection)

    async def cancelled() -> Status:
        async with await connect(database_url, name="canceller") as other, other.transaction():
            job = await ledger.cancel(other, claim.job.id)
            assert job is not None
            return job.status

    async with asyncio.timeout(30):
        async with connection.transaction():
            await ledger.release(connection, claim.lease)
            cancelling = asyncio.create_task(cancelled())
            waiting = "select from pg_stat_activity where application_name = 'canceller' and wait_event_type = 'Lock'"
            while (await connection.execute(waiting)).rowcount == 0:
                await connection.execute("select pg_stat_clear_snapshot()")
        assert await cancelling is Status.CANCELLED


async def test_an_artifact_expires_once(connection: Connection) -> None:
    claim = await _claimed(connection, kind=Kind.EXPORT)
    assert await ledger.expire_artifact(connection, claim.job.id) is None
    outcome = Outcome(status=Status.SUCCEEDED, artifact={"key": "k"}, keep_for=timedelta(hours=1))
    await ledger.finish(connection, claim.lease, outcome)
    expired = await ledger.expire_artifact(connection, claim.job.id)
    assert expired is not None
    assert expired.artifact_is_past
    assert await ledger.expire_artifact(connection, claim.job.id) is None
    assert await ledger.get(connection, claim.job.id) == expired


async def test_cancelling_at_once_takes_the_lease_away(connection: Connection) -> None:
    job = await submitted(connection, kind=Kind.CAPSULE)
    claim = await ledger.claim(connection, job.id)
    assert claim is not None
    cancelled = await ledger.cancel_now(connection, job.id)
    assert cancelled is not None
    assert (cancelled.status, cancelled.stage) == (Status.CANCELLED, "cancelled")
    with pytest.raises(LeaseLost):
        await ledger.advance(connection, claim.lease, Advance())


async def test_every_run_is_logged_from_its_start_to_its_end(connection: Connection) -> None:
    job = await submitted(connection, kind=Kind.CAPSULE)
    claim = await ledger.claim(connection, job.id)
    assert claim is not None
    await ledger.advance(connection, claim.lease, Advance(stage="write_capsule", progress=40, message="Writing"))
    await append_event(connection, job.id, "stage_progress", {"frames": 3})
    await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED, keep_for=timedelta(hours=1)))
    events = await events_since(connection, job.id, 0, 10)
    assert [(e.seq, e.type, e.stage, e.progress) for e in events] == [
        (1, "job_started", "running", 0),
        (2, "stage_progress", "write_capsule", 40),
        (3, "job_completed", "succeeded", 100),
    ]
    assert [e.seq for e in await events_since(connection, job.id, 1, 1)] == [2]


async def test_the_same_key_gives_the_same_job_and_another_request_is_refused(connection: Connection) -> None:
    asked = {"idempotency_key": "k", "fingerprint": "f"}
    job = await submitted(connection, **asked)
    again, replayed = await ledger.create(connection, new_job(**asked))
    assert (again.id, replayed) == (job.id, True)
    with pytest.raises(Invalid) as refused:
        await ledger.create(connection, new_job(idempotency_key="k", fingerprint="g"))
    assert refused.value.code == "IDEMPOTENCY_KEY_REUSED"
    _, replayed = await ledger.create(connection, new_job(**asked, resource="articles"))
    assert not replayed


async def test_owners_may_use_the_same_key(connection: Connection) -> None:
    alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
    asked = {"idempotency_key": "k", "fingerprint": "f"}
    first, second = (
        await submitted(connection, owner_id=alice, **asked),
        await submitted(connection, owner_id=bob, **asked),
    )
    assert first.id != second.id


async def test_concurrent_requests_with_the_same_key_create_one_job(database_url: str) -> None:
    async def ask() -> tuple[str, bool]:
        async with await connect(database_url, name="test") as connection, connection.transaction():
            asked = new_job(id=new_job_id(), idempotency_key="k", fingerprint="f")
            job, replayed = await submit(connection, asked)
            return str(job.id), replayed

    answers = await asyncio.gather(*(ask() for _ in range(20)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert [replayed for _, replayed in answers].count(False) == 1
    async with await connect(database_url, name="test") as connection:
        assert await _queue_rows(connection) == 1


async def test_a_page_has_only_the_owners_jobs_newest_first(connection: Connection) -> None:
    alice, bob = await new_user(connection), await new_user(connection, "bob@example.com")
    mine = [await submitted(connection, owner_id=alice) for _ in range(3)]
    await submitted(connection, owner_id=bob)
    page = await ledger.page_of_jobs(connection, alice, limit=2)
    assert [job.id for job in page] == [mine[2].id, mine[1].id]
    rest = await ledger.page_of_jobs(connection, alice, before=page[-1].id, limit=2)
    assert [job.id for job in rest] == [mine[0].id]
    assert await ledger.page_of_jobs(connection, alice, kind=Kind.EXPORT, limit=2) == []


async def test_everybodys_jobs_and_those_of_one_resource_can_be_listed(connection: Connection) -> None:
    alice = await new_user(connection)
    mine, nobodys = await submitted(connection, owner_id=alice), await submitted(connection, resource="articles")
    assert [job.id for job in await ledger.page_of_jobs(connection, None, limit=9)] == [nobodys.id, mine.id]
    articles = await ledger.page_of_jobs(connection, None, resource="articles", limit=9)
    assert [job.id for job in articles] == [nobodys.id]


async def test_several_jobs_are_read_at_once(connection: Connection) -> None:
    jobs = [await submitted(connection) for _ in range(2)]
    assert await ledger.many(connection, [new_job_id(), *(job.id for job in jobs)]) == {job.id: job for job in jobs}


async def test_a_job_is_claimed_only_through_its_newest_queue_row(connection: Connection) -> None:
    job = await submitted(connection)
    await queue.enqueue(connection, job.id)
    rows = await (await connection.execute("select id from wherry.procrastinate_jobs order by id")).fetchall()
    old, new = (row[0] for row in rows)
    assert await ledger.claim(connection, job.id, queue_id=old) is None
    assert await ledger.claim_unsuspected(connection, job.id, queue_id=old) is None
    assert await ledger.claim(connection, job.id, queue_id=new) is not None
    assert await ledger.claim(connection, job.id, queue_id=old) is None, "nor while it runs"


async def test_a_job_of_an_older_version_is_claimed_through_any_queue_row(connection: Connection) -> None:
    job = await submitted(connection)
    await connection.execute("update wherry.jobs set queue_id = null")
    assert await ledger.claim(connection, job.id, queue_id=7) is not None
