"""A run of an export job leaves its artifact and counters, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from tests.integration.exports.conftest import Exports
from wherry.errors import JobReleased
from wherry.exports import snapshot
from wherry.exports.view import export_job
from wherry.jobs import ledger
from wherry.jobs.models import Advance, Job
from wherry.jobs.queue import retry
from wherry.jobs.runs import Run
from wherry.jobs.states import Status


async def test_an_artifact_is_described_exactly(exports: Exports) -> None:
    await exports.fill(250)
    job = await exports.execute(await exports.submit(resource="articles", compression="gzip"), export_batch_size=100)
    content = await exports.content(job)
    settings = exports.settings.model_copy(update={"export_download_base_url": "https://x.example"})
    shown = msgspec.to_builtins(export_job(job, settings))
    expected = {
        "status": "succeeded",
        "entityType": "articles",
        "format": "ndjson",
        "compression": "gzip",
        "totalRecords": 250,
        "processedRecords": 250,
        "progress": 100.0,
        "fileSize": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "fileName": f"{job.id}.ndjson.gz",
        "contentType": "application/gzip",
        "downloadUrl": f"https://x.example/api/v1/exports/{job.id}/download",
        "truncated": False,
        "recordLimit": None,
        "reason": None,
        "error": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert job.completed_at is not None
    assert job.expires_at == job.completed_at + timedelta(hours=exports.settings.export_file_retention_hours)
    assert await exports.keys() == [f"{job.id}/1.ndjson.gz"]


async def test_a_queued_job_shows_no_artifact(exports: Exports) -> None:
    shown = msgspec.to_builtins(export_job(await exports.submit(resource="users"), exports.settings))
    absent = ("downloadUrl", "fileSize", "sha256", "startedAt", "completedAt", "expiresAt", "totalRecords", "error")
    assert {name: shown[name] for name in absent} == dict.fromkeys(absent)
    assert (shown["status"], shown["processedRecords"], shown["progress"]) == ("queued", 0, 0.0)


@pytest.mark.parametrize(("limit", "truncated"), [(9, True), (10, False), (11, False)])
async def test_an_export_is_truncated_at_the_limit_and_says_so(exports: Exports, limit: int, truncated: bool) -> None:
    await exports.fill(10)
    job = await exports.execute(await exports.submit(resource="users"), export_max_records=limit, export_batch_size=4)
    shown = export_job(job, exports.settings)
    assert (shown.processed_records, shown.total_records) == (min(limit, 10), 10)
    assert (await exports.content(job)).count(b"\n") == min(limit, 10)
    reason = ("max_records_reached", limit) if truncated else (None, None)
    assert (shown.truncated, shown.reason, shown.record_limit) == (truncated, *reason)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 1000])
async def test_batches_of_any_size_give_the_same_bytes(exports: Exports, batch_size: int) -> None:
    await exports.fill(20)
    whole = await exports.exported(resource="articles", fields="slug,title")
    assert (
        await exports.exported(resource="articles", fields="slug,title", settings={"export_batch_size": batch_size})
        == whole
    )
    assert whole.count(b"\n") == 20


async def test_large_rows_are_read_a_few_at_a_time(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory depends on bytes, not on rows: a batch of rows of 100 kB has fewer rows."""
    await exports.sql(
        "insert into wherry.users (email, username, name) "
        "select n, n, (select string_agg(md5(random()::text), '') from generate_series(1, 3000)) "
        "from generate_series(1, 40) n"
    )
    await exports.sql("vacuum analyze wherry.users")
    sizes: list[int] = []
    original = snapshot.Snapshot.batches

    def watched(self: snapshot.Snapshot) -> Any:
        for batch in original(self):
            sizes.append(len(batch[0]))
            yield batch

    monkeypatch.setattr(snapshot.Snapshot, "batches", watched)
    assert (await exports.exported(resource="users")).count(b"\n") == 40
    assert max(sizes) <= 12


class Blocked:
    """Locks a table, so that its export waits until the test releases the lock."""

    def __init__(self, exports: Exports, table: str) -> None:
        self.exports = exports
        self.table = table

    async def __aenter__(self) -> Blocked:
        self.connection = await psycopg.AsyncConnection.connect(self.exports.url)
        await self.connection.execute(f"lock table wherry.{self.table} in access exclusive mode".encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def until_waiting(self) -> None:
        """Wait until the export's session waits for the table."""
        waiting = "select 1 from pg_stat_activity where application_name = 'wherry export' and wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not await self.exports.sql(waiting):  # noqa: ASYNC110  # another process's state is no event
                await asyncio.sleep(0.01)


async def started(exports: Exports, job: Job) -> Run:
    """Claim the job as a worker does."""
    async with exports.pool.connection() as connection, connection.transaction():
        claim = await ledger.claim(connection, job.id)
    assert claim is not None
    return Run(claim.job, claim.lease, exports.pool)


async def sessions(exports: Exports) -> int:
    rows = await exports.sql("select count(*) from pg_stat_activity where application_name = 'wherry export'")
    return int(rows[0][0])


async def until_no_session(exports: Exports) -> None:
    while await sessions(exports):  # noqa: ASYNC110  # another process's state is no event of ours
        await asyncio.sleep(0.01)


async def cancelled_while_it_reads(exports: Exports, job: Job) -> Job:
    """Run an export of comments, and cancel it before it has read them."""
    async with Blocked(exports, "comments") as block:
        running = asyncio.create_task(exports.execute(job))
        await block.until_waiting()
        async with exports.pool.connection() as connection, connection.transaction():
            await ledger.cancel(connection, job.id)
        return await asyncio.wait_for(running, 5)


async def test_a_cancelled_job_ends_within_a_statement_and_leaves_no_file(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    ended = await cancelled_while_it_reads(exports, job)
    assert ended.status is Status.CANCELLED
    assert await exports.keys() == []
    await asyncio.wait_for(until_no_session(exports), 5)


async def test_a_stopping_worker_releases_the_job_and_the_next_run_is_complete(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    async with Blocked(exports, "comments") as block:
        running = asyncio.create_task(exports.execute(job))
        await block.until_waiting()
        running.cancel()
        with pytest.raises(JobReleased):
            await asyncio.wait_for(running, 5)
    assert (await exports.get(job)).status is Status.QUEUED
    assert await exports.keys() == []
    ended = await exports.execute(job)
    assert (ended.status, ended.processed_records, ended.epoch) == (Status.SUCCEEDED, 10, 2)
    assert await exports.keys() == [f"{job.id}/2.ndjson"]


async def test_a_run_that_lost_its_lease_leaves_no_file_and_does_not_touch_the_other_run(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    async with Blocked(exports, "comments") as block:
        zombie = asyncio.create_task(exports.execute(job))
        await block.until_waiting()
        claimed = await started(exports, job)
    ended = await exports.runner().run(claimed)
    await asyncio.wait_for(zombie, 5)
    assert ended.artifact is not None
    assert ended.artifact["key"] == f"{job.id}/2.ndjson"
    assert await exports.keys() == [f"{job.id}/2.ndjson"]
    assert (await exports.get(job)).processed_records == 10


async def test_a_rescued_run_removes_the_old_file_and_counts_from_zero(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="users")
    first = await started(exports, job)
    async with exports.pool.connection() as connection, connection.transaction():
        await ledger.advance(connection, first.lease, Advance(successes=7))
    await exports.store.put(f"{job.id}/1.ndjson", chunks_of(b"seven records"))
    await exports.store.put(f"{job.id}/3.ndjson", chunks_of(b"a newer run's"))
    ended = await exports.execute(job)
    assert (ended.status, ended.processed_records, ended.total_records) == (Status.SUCCEEDED, 10, 10)
    assert await exports.keys() == [f"{job.id}/2.ndjson", f"{job.id}/3.ndjson"]


async def test_a_lost_connection_releases_the_job(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    async with Blocked(exports, "comments") as block:
        running = asyncio.create_task(exports.execute(job))
        await block.until_waiting()
        await exports.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name = 'wherry export'"
        )
        with pytest.raises(JobReleased):
            await asyncio.wait_for(running, 5)
    assert await exports.keys() == []
    assert (await exports.execute(job)).status is Status.SUCCEEDED


async def test_a_database_error_fails_the_job_without_revealing_secrets(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    async with Blocked(exports, "comments") as block:
        running = asyncio.create_task(exports.execute(job))
        await block.until_waiting()
        await exports.sql(
            "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'wherry export'"
        )
        ended = await asyncio.wait_for(running, 5)
    assert ended.status is Status.FAILED
    assert ended.error is not None
    assert (ended.error["code"], ended.error["detail"]) == ("DATABASE_ERROR", {"sqlstate": "57014"})
    assert export_job(ended, exports.settings).download_url is None
    assert await exports.keys() == []


async def test_a_failure_of_storage_fails_the_job(exports: Exports, tmp_path: Path) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    replace_by_file(tmp_path / "store")
    ended = await exports.execute(job)
    assert ended.status is Status.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "STORAGE_ERROR"
    await until_no_session(exports)


async def test_progress_is_reported_while_the_export_runs(exports: Exports) -> None:
    """The estimate is known before the first record, and the count never exceeds what was read."""
    await exports.fill(100)
    await exports.sql("analyze wherry.comments")
    job = await exports.submit(resource="comments")
    run = await started(exports, job)
    seen: list[tuple[int | None, int, float]] = []

    async def watch() -> None:
        async with await psycopg.AsyncConnection.connect(exports.url, autocommit=True) as listener:
            await listener.execute("listen wherry_jobs")
            listening.set()
            async for _ in listener.notifies():
                now = await exports.get(job)
                seen.append((now.total_records, now.processed_records, now.progress))
                if now.progress == 99:
                    return

    listening = asyncio.Event()
    watching = asyncio.create_task(watch())
    await listening.wait()
    async with Blocked(exports, "comments") as block:
        running = asyncio.create_task(exports.runner().run(run))
        await block.until_waiting()
    await asyncio.wait_for(running, 10)
    await asyncio.wait_for(watching, 10)
    assert seen[-1] == (100, 100, 99.0)
    assert seen == sorted(seen, key=lambda each: each[1:])


def replace_by_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("a file where the directory was")


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.parametrize("change", ["role = 'user'", "active = false"])
async def test_an_export_whose_owner_lost_the_role_meanwhile_leaves_no_file(exports: Exports, change: str) -> None:
    await exports.fill(3)
    job = await exports.submit(owner_id=1, resource="users")
    await exports.sql(f"update wherry.users set {change} where id = 1")
    done = await exports.execute(job)

    assert done.error is not None
    assert (done.status, done.error["code"], done.error["number"]) == ("failed", "FORBIDDEN", 4003)
    assert await exports.keys() == []


async def test_a_retried_export_starts_over(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    cancelled = await cancelled_while_it_reads(exports, job)
    async with exports.pool.connection() as connection, connection.transaction():
        assert await retry(connection, cancelled, None) is not None
    ended = await exports.execute(job)
    assert (ended.status, ended.round, ended.processed_records, ended.total_records) == (Status.SUCCEEDED, 2, 10, 10)
    assert await exports.keys() == [f"{job.id}/2.ndjson"]
    assert (await exports.content(ended)).count(b"\n") == 10
