"""Each end of a job has exactly one webhook event, which is queued in the transaction that ends the job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from psycopg.rows import dict_row

from tests.factories import submitted
from wherry.database.pools import Connection, Pool, make_pool
from wherry.errors import LeaseLost
from wherry.jobs import ledger
from wherry.jobs.executor import MAX_DEATHS, Executor
from wherry.jobs.models import Job, Outcome
from wherry.jobs.states import Kind, Status

URL = "https://receiver.example/hook"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=2) as opened:
        yield opened


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.connection() as opened:
        yield opened


async def _claim(connection: Connection, job_id: UUID) -> ledger.Claim:
    claim = await ledger.claim(connection, job_id)
    assert claim is not None
    return claim


async def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(query.encode())).fetchall()


async def _only_event(connection: Connection, job: Job) -> Mapping[str, Any]:
    """The job's one event, which waits to be delivered."""
    (event,) = await _rows(connection, "select * from wherry.webhook_events")
    assert (event["job_id"], event["id"], event["url"]) == (job.id, f"msg_{job.id.hex}_1", URL)
    assert event["status"] == "pending"
    waiting = await _rows(
        connection,
        "select queue_name, status::text, args from wherry.procrastinate_jobs where task_name = 'wherry.deliver'",
    )
    assert waiting == [{"queue_name": "webhook", "status": "todo", "args": {"event_id": event["id"]}}]
    ends = await _rows(connection, "select meta ->> 'status' as status from wherry.job_history where type = 'ended'")
    assert [f"job.{end['status']}" for end in ends] == [event["type"]]
    return event


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.CANCELLED])
async def test_a_run_that_ends(connection: Connection, status: Status) -> None:
    job = await submitted(
        connection, webhook_url=URL, options={"secret": 1, "webhookUrl": URL}, source={"key": "k"}, fingerprint="f"
    )
    claim = await _claim(connection, job.id)
    ended = await ledger.finish(connection, claim.lease, Outcome(status=status, message="Done"))
    event = await _only_event(connection, job)
    assert (event["type"], event["ended_at"]) == (f"job.{status}", ended.completed_at)
    data = event["data"]
    assert (data["id"], data["status"], data["message"], data["epoch"]) == (str(job.id), status, "Done", 1)
    assert not {"checkpoint", "death_checkpoint", "fingerprint", "traceparent", "webhook_url"} & data.keys()
    assert data["options"] == {"webhookUrl": URL}


async def test_a_queued_job_that_is_cancelled(connection: Connection) -> None:
    job = await submitted(connection, webhook_url=URL)
    for _ in range(2):
        await ledger.cancel(connection, job.id)
    assert (await _only_event(connection, job))["type"] == "job.cancelled"


async def test_a_running_capsule_that_is_cancelled_at_once(connection: Connection) -> None:
    job = await submitted(connection, kind=Kind.CAPSULE, webhook_url=URL)
    claim = await _claim(connection, job.id)
    await ledger.cancel_now(connection, job.id)
    with pytest.raises(LeaseLost):
        await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    await ledger.cancel_now(connection, job.id)
    assert (await _only_event(connection, job))["type"] == "job.cancelled"


async def test_a_job_whose_workers_have_died_too_often(pool: Pool, connection: Connection) -> None:
    job = await submitted(connection, webhook_url=URL)
    for _ in range(MAX_DEATHS):
        await _claim(connection, job.id)
    await Executor(pool, {}).execute(job.id)
    event = await _only_event(connection, job)
    assert (event["type"], event["data"]["error"]["code"]) == ("job.failed", "INTERNAL_ERROR")


async def test_an_end_that_is_written_again_because_the_answer_was_lost(connection: Connection) -> None:
    job = await submitted(connection, webhook_url=URL)
    claim = await _claim(connection, job.id)
    await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    for status in (Status.SUCCEEDED, Status.FAILED):
        with pytest.raises(LeaseLost):
            await ledger.finish(connection, claim.lease, Outcome(status=status))
    assert (await _only_event(connection, job))["type"] == "job.succeeded"


async def test_an_end_that_is_rolled_back_has_no_event(connection: Connection) -> None:
    job = await submitted(connection, webhook_url=URL)
    claim = await _claim(connection, job.id)
    async with connection.transaction(force_rollback=True):
        await ledger.finish(connection, claim.lease, Outcome(status=Status.SUCCEEDED))
    assert await _rows(connection, "select from wherry.webhook_events") == []


async def test_neither_a_release_nor_a_job_without_a_url_has_an_event(connection: Connection) -> None:
    released, silent = await submitted(connection, webhook_url=URL), await submitted(connection)
    await ledger.release(connection, (await _claim(connection, released.id)).lease)
    await ledger.finish(connection, (await _claim(connection, silent.id)).lease, Outcome(status=Status.SUCCEEDED))
    assert await _rows(connection, "select from wherry.webhook_events") == []
    assert await _rows(connection, "select from wherry.procrastinate_jobs where queue_name = 'webhook'") == []
