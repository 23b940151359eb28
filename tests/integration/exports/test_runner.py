"""What a run of an export job leaves behind: its artifact and figures, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.exports.conftest import Exports
from wherry.errors import JobReleased, LeaseLost
from wherry.exports import snapshot
from wherry.exports.view import export_job
from wherry.jobs import ledger
from wherry.jobs.models import Advance, Job
from wherry.jobs.runs import Run
from wherry.jobs.states import Status


async def test_an_artifact_is_described_exactly(exports: Exports) -> None:
    await exports.fill(250)
    job = await exports.execute(await exports.submit(resource="articles", compression="gzip"), export_batch_size=100)
    content = await exports.content(job)
    shown = export_job(job, exports.settings.model_copy(update={"export_download_base_url": "https://x.example"}))
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
    shown = export_job(await exports.submit(resource="users"), exports.settings)
    absent = ("downloadUrl", "fileSize", "sha256", "startedAt", "completedAt", "expiresAt", "totalRecords", "error")
    assert {name: shown[name] for name in absent} == dict.fromkeys(absent)
    assert (shown["status"], shown["processedRecords"], shown["progress"]) == ("queued", 0, 0.0)


@pytest.mark.parametrize(("limit", "truncated"), [(9, True), (10, False), (11, False)])
async def test_an_export_is_cut_at_the_limit_and_says_so(exports: Exports, limit: int, truncated: bool) -> None:
    await exports.fill(10)
    job = await exports.execute(await exports.submit(resource="users"), export_max_records=limit, export_batch_size=4)
    shown = export_job(job, exports.settings)
    assert shown["totalRecords"] == shown["processedRecords"] == min(limit, 10)
    assert (await exports.content(job)).count(b"\n") == min(limit, 10)
    reason = ("max_records_reached", limit) if truncated else (None, None)
    assert (shown["truncated"], shown["reason"], shown["recordLimit"]) == (truncated, *reason)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 1000])
async def test_windows_of_any_size_give_the_same_bytes(exports: Exports, batch_size: int) -> None:
    await exports.fill(20)
    whole = await exports.exported(resource="articles", fields="slug,title")
    assert await exports.exported(resource="articles", fields="slug,title", settings={"export_batch_size": batch_size}) == whole
    assert whole.count(b"\n") == 20


async def test_large_rows_are_read_a_few_at_a_time(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory follows bytes, not rows: a batch of rows of 100 kB is not a thousand of them."""
    await exports.sql(
        "insert into users (email, username, name) "
        "select n, n, (select string_agg(md5(random()::text), '') from generate_series(1, 3000)) from generate_series(1, 40) n"
    )
    await exports.sql("vacuum analyze users")
    sizes: list[int] = []
    original = snapshot.Snapshot.batches

    def watched(self: snapshot.Snapshot) -> Any:
        for batch in original(self):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(snapshot.Snapshot, "batches", watched)
    assert (await exports.exported(resource="users")).count(b"\n") == 40
    assert max(sizes) <= 12


class Blocked:
    """Holds a table so that an export of it stands still until the test lets go."""

    def __init__(self, exports: Exports, table: str) -> None:
        self.exports = exports
        self.table = table

    async def __aenter__(self) -> Blocked:
        self.connection = await psycopg.AsyncConnection.connect(self.exports.url)
        await self.connection.execute(f"lock table {self.table} in access exclusive mode".encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def until_waiting(self) -> None:
        """Until the export's own session waits for the table."""
        while not await self.exports.sql(
            "select from pg_stat_activity where application_name = 'wherry export' and wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def started(exports: Exports, job: Job, **changed: Any) -> Run:
    async with exports.pool.connection() as connection, connection.transaction():
        claim = await ledger.claim(connection, job.id)
    assert claim is not None
    return Run(claim.job, claim.lease)


async def sessions(exports: Exports) -> int:
    rows = await exports.sql("select count(*) from pg_stat_activity where application_name = 'wherry export'")
    return int(rows[0][0])


async def until_no_session(exports: Exports) -> None:
    while await sessions(exports):
        await asyncio.sleep(0.01)


async def test_a_cancelled_job_ends_at_once_in_the_middle_of_a_statement_and_leaves_nothing(exports: Exports) -> None:
    await exports.fill(10)
    job = await exports.submit(resource="comments")
    async with Blocked(exports, "comments") as block:
        # The estimate would wait for the lock too, so it is made before the table is taken.
        running = asyncio.create_task(exports.execute(job))
        await running if False else None
        await block_after_estimate(exports, block, running, job)
    assert (await exports.get(job)).status is Status.CANCELLED
    assert await exports.keys() == []
    await asyncio.wait_for(until_no_session(exports), 5)


async def block_after_estimate(exports: Exports, block: Blocked, running: asyncio.Task[Job], job: Job) -> None:
    raise NotImplementedError
