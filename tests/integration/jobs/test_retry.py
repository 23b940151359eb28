"""A job that was cancelled, or whose failure may pass, can be queued again, fenced off from its earlier rounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from psycopg.rows import scalar_row

from tests.factories import new_job, new_user, submitted
from wherry.database.pools import Connection, connect
from wherry.errors import ErrorCode, LeaseLost
from wherry.jobs import history, ledger
from wherry.jobs.models import Advance, Job, Outcome, retryable
from wherry.jobs.queue import retry, submit
from wherry.jobs.states import Kind, Status

URL = "https://receiver.example/"
PASSING = [2003, 2004, 2005, 5001, 5002, 5003, 5004, 5005]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


async def _value(connection: Connection, query: LiteralString, *values: object) -> Any:
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchone()


async def _claim(connection: Connection, job: Job, **queued: int) -> ledger.Claim:
    claim = await ledger.claim(connection, job.id, **queued)
    assert claim is not None
    return claim


async def _retried(connection: Connection, job: Job, by: int | None = None) -> Job | None:
    async with connection.transaction():
        return await retry(connection, job, by)


def _failure(code: ErrorCode) -> Outcome:
    return Outcome(status=Status.FAILED, error={"code": code.name, "number": int(code), "message": "m"}, message="m")


async def _ended(connection: Connection, outcome: Outcome, **changes: Any) -> Job:
    job = await submitted(connection, **changes)
    return await ledger.finish(connection, (await _claim(connection, job)).lease, outcome)


CANCELLED = Outcome(status=Status.CANCELLED)


async def test_a_retried_job_waits_as_a_new_one_but_keeps_what_it_has_done(connection: Connection) -> None:
    job = await submitted(connection, kind=Kind.IMPORT)
    claim = await _claim(connection, job)
    step = Advance(successes=3, errors=1, summary={"PARSE_ERROR": 1}, checkpoint={"index": 4}, progress=40)
    await ledger.advance(connection, claim.lease, step)
    await ledger.cancel(connection, job.id)
    ended = await ledger.finish(connection, claim.lease, CANCELLED)
    retried = await _retried(connection, ended)
    assert retried is not None
    assert (retried.status, retried.round, retried.stage, retried.progress) == (Status.QUEUED, 2, "queued", 0)
    assert (retried.error, retried.completed_at, retried.cancel_requested_at) == (None, None, None)
    assert (retried.success_count, retried.error_count, retried.checkpoint) == (3, 1, {"index": 4})
    assert (retried.error_summary, retried.epoch) == ({"PARSE_ERROR": 1}, 1)
    assert (await _claim(connection, retried)).job.epoch == 2


@pytest.mark.parametrize("kind", [Kind.IMPORT, Kind.EXPORT])
@pytest.mark.parametrize("code", ErrorCode)
async def test_whether_a_failure_may_pass_depends_on_its_code(
    connection: Connection, code: ErrorCode, kind: Kind
) -> None:
    failed = await _ended(connection, _failure(code), kind=kind)
    assert retryable(failed) is (int(code) in PASSING)
    assert (await _retried(connection, failed) is not None) is (int(code) in PASSING)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIAL])
async def test_a_job_with_a_result_cannot_be_retried(connection: Connection, status: Status) -> None:
    assert await _retried(connection, await _ended(connection, Outcome(status=status))) is None


async def test_a_capsule_cannot_be_retried(connection: Connection) -> None:
    for outcome in (CANCELLED, _failure(ErrorCode.INTERNAL_ERROR)):
        assert await _retried(connection, await _ended(connection, outcome, kind=Kind.CAPSULE)) is None


async def test_an_unfinished_job_cannot_be_retried(connection: Connection) -> None:
    job = await submitted(connection)
    assert await _retried(connection, job) is None
    claim = await _claim(connection, job)
    assert await _retried(connection, job) is None
    await ledger.finish(connection, claim.lease, CANCELLED)
    assert await _retried(connection, job) is not None
    assert await _retried(connection, job) is None, "nor a second time"


async def test_a_job_without_its_source_cannot_be_retried(connection: Connection) -> None:
    ended = await _ended(connection, CANCELLED, source={"key": "k"})
    assert await ledger.retire_source(connection, ended.id, timedelta(0))
    assert await _retried(connection, ended) is None


async def test_the_source_of_a_retried_job_is_not_removed(connection: Connection) -> None:
    ended = await _ended(connection, CANCELLED, source={"key": "k"})
    await _retried(connection, ended)
    assert not await ledger.retire_source(connection, ended.id, timedelta(0))
    job = await ledger.get(connection, ended.id)
    assert job is not None
    assert job.source == {"key": "k"}


async def test_a_job_whose_key_now_belongs_to_another_cannot_be_retried(connection: Connection) -> None:
    request = {"idempotency_key": "nightly", "fingerprint": "same"}
    failed = await _ended(connection, _failure(ErrorCode.URL_FETCH_FAILED), **request)
    assert retryable(failed)
    async with connection.transaction():
        _, replayed = await submit(connection, new_job(**request))
    assert not replayed
    assert await _retried(connection, failed) is None


async def test_the_run_of_an_earlier_round_can_write_nothing(connection: Connection) -> None:
    job = await submitted(connection)
    zombie = await _claim(connection, job)
    await ledger.cancel_now(connection, job.id)
    retried = await _retried(connection, job)
    success = Outcome(status=Status.SUCCEEDED, message="Done by a zombie")
    with pytest.raises(LeaseLost):
        await ledger.finish(connection, zombie.lease, success)
    assert await ledger.get(connection, job.id) == retried
    claim = await _claim(connection, job)
    for write in (
        ledger.finish(connection, zombie.lease, success),
        ledger.advance(connection, zombie.lease, Advance(successes=1)),
        ledger.release(connection, zombie.lease),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await ledger.get(connection, job.id) == claim.job


async def test_a_retried_job_cannot_be_claimed_through_its_old_queue_row(connection: Connection) -> None:
    job = await submitted(connection)
    old = await _value(connection, "select id from wherry.procrastinate_jobs")
    await ledger.cancel(connection, job.id)
    await _retried(connection, job)
    new = await _value(connection, "select max(id) from wherry.procrastinate_jobs")
    assert await ledger.claim(connection, job.id, queue_id=old) is None
    claim = await _claim(connection, job, queue_id=new)
    assert await ledger.claim(connection, job.id, queue_id=old) is None, "it would count as a death of its worker"
    assert await ledger.get(connection, job.id) == claim.job


async def test_a_retry_does_not_count_the_deaths_of_earlier_rounds(connection: Connection) -> None:
    job = await submitted(connection)
    for _ in range(3):
        claim = await _claim(connection, job)
    assert claim.job.is_suspect
    ended = await ledger.finish(connection, claim.lease, _failure(ErrorCode.INTERNAL_ERROR))
    await _retried(connection, ended)
    assert await ledger.claim_unsuspected(connection, job.id) is not None
    assert (await _claim(connection, job)).job.deaths == 1


async def test_each_round_has_an_end_and_a_webhook_event_of_its_own(connection: Connection) -> None:
    alice = await new_user(connection)
    job = await _ended(connection, _failure(ErrorCode.TIMEOUT), webhook_url=URL, kind=Kind.EXPORT)
    await _retried(connection, job, alice)
    outcome = Outcome(status=Status.SUCCEEDED, artifact={"key": "k"}, keep_for=timedelta(hours=1))
    await ledger.finish(connection, (await _claim(connection, job)).lease, outcome)
    events = [(event.type, event.round, event.meta) for event in await history.timeline(connection, job)]
    assert [event for event in events if event[0] in ("retried", "ended")] == [
        ("ended", 1, {"status": "failed", "code": "TIMEOUT"}),
        ("retried", 2, {"by": alice}),
        ("ended", 2, {"status": "succeeded"}),
    ]
    announced = "select array_agg((id, type, data ->> 'status')::text order by round) from wherry.webhook_events"
    assert await _value(connection, announced) == [
        f"(msg_{job.id.hex}_1,job.failed,failed)",
        f"(msg_{job.id.hex}_2,job.succeeded,succeeded)",
    ]


async def test_a_file_error_goes_with_the_round_that_it_ended(connection: Connection) -> None:
    job = await submitted(connection)
    claim = await _claim(connection, job)
    reported = (
        "insert into wherry.import_errors (job_id, record_index, code, name, message)"
        " values (%(id)s, 3, 2003, 'FILE_READ_ERROR', 'of a record'),"
        " (%(id)s, -1, 2003, 'FILE_READ_ERROR', 'of the file'),"
        " (%(id)s, 4, 3001, 'PARSE_ERROR', 'of another record')"
    )
    await connection.execute(reported, {"id": job.id})
    await ledger.advance(connection, claim.lease, Advance(errors=2, summary={"FILE_READ_ERROR": 2, "PARSE_ERROR": 1}))
    await _retried(connection, await ledger.finish(connection, claim.lease, _failure(ErrorCode.FILE_READ_ERROR)))
    left = await ledger.get(connection, job.id)
    assert left is not None
    assert left.error_summary == {"FILE_READ_ERROR": 1, "PARSE_ERROR": 1}
    indexes = "select array_agg(record_index order by record_index) from wherry.import_errors"
    assert await _value(connection, indexes) == [3, 4]
