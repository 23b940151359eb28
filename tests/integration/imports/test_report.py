"""The error report, and the view of an import."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from tests.integration.imports.harness import Bench, article, user
from wherry.errors import Invalid
from wherry.imports.models import ImportOptions
from wherry.imports.readers.json import JSON
from wherry.imports.readers.model import RecordsFormat
from wherry.imports.readers.ndjson import NDJSON
from wherry.imports.report import exists, page, stream
from wherry.imports.view import import_job, import_status
from wherry.jobs.models import Job

MEMBERS = ["recordIndex", "recordId", "errorCode", "errorName", "message", "field", "value", "details", "createdAt"]


async def faulty(bench: Bench, records: int) -> Job:
    return await bench.run("users", [user(n, name="", role=[n, 1.10, "é"]) for n in range(1, records + 1)])


async def whole(bench: Bench, job: Job, format: RecordsFormat) -> bytes:
    return b"".join([chunk async for chunk in stream(bench.pool, job.id, format)])


@pytest.mark.parametrize("records", [1, 250, 251, 700])
async def test_the_report_contains_every_error_in_order_as_lines_and_as_an_array(bench: Bench, records: int) -> None:
    job = await faulty(bench, records)
    lines = [json.loads(line) for line in (await whole(bench, job, NDJSON)).splitlines()]
    assert lines == json.loads(await whole(bench, job, JSON))
    assert [line["recordIndex"] for line in lines] == [index for index in range(records) for _ in range(2)]
    assert [line["field"] for line in lines[:2]] == ["name", "role"]
    assert list(lines[0]) == MEMBERS
    assert lines[1]["value"] == [1, 1.1, "é"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["createdAt"])


async def test_a_slow_client_uses_no_database_connection(bench: Bench) -> None:
    job = await faulty(bench, 600)
    sending = stream(bench.pool, job.id, NDJSON)
    async for _ in sending:
        stats = bench.pool.get_stats()
        assert stats["pool_size"] == stats["pool_available"]


async def test_the_pages_together_are_the_whole_report(bench: Bench) -> None:
    job = await faulty(bench, 25)
    found, cursor, pages = [], None, 0
    async with bench.pool.connection() as connection:
        while True:
            got = await page(connection, job.id, cursor=cursor, limit=7)
            found += [(error.record_index, error.field) for error in got.errors]
            pages += 1
            if (cursor := got.next_cursor) is None:
                break
    assert found == [(index, field) for index in range(25) for field in ("name", "role")]
    assert pages == 8


async def test_an_import_without_errors_has_no_report(bench: Bench) -> None:
    job = await bench.run("users", [user(1)])
    async with bench.pool.connection() as connection:
        assert not await exists(connection, job.id)
    assert await whole(bench, job, JSON) == b""
    assert msgspec.to_builtins(import_status(job, bench.settings)).keys() == {"importJob"}


@pytest.mark.parametrize("cursor", ["", "x", "MS4y!", "MQ", "é"])
async def test_an_invalid_cursor_is_refused(bench: Bench, cursor: str) -> None:
    job = await faulty(bench, 1)
    async with bench.pool.connection() as connection:
        with pytest.raises(Invalid) as refused:
            await page(connection, job.id, cursor=cursor, limit=5)
    assert list(refused.value.fields) == ["cursor"]


async def test_the_view_of_a_job_has_its_counts_times_and_report(bench: Bench) -> None:
    job = await faulty(bench, 2)
    settings = bench.settings.model_copy(update={"import_error_report_download_base_url": "https://x.y"})
    status = msgspec.to_builtins(import_status(job, settings))
    assert status["errorReportUrl"] == f"https://x.y/api/v1/imports/{job.id}/errors/download"
    assert status["errorReportStatus"] == "ready"
    shown = msgspec.to_builtins(import_job(job))
    assert shown == status["importJob"]
    last = {"code": "BATCH_FAILED", "message": "Every record has errors"}
    assert shown["errorSummary"] == {"FIELD_TOO_SHORT.name": 2, "INVALID_FIELD_TYPE.role": 2, "lastError": last}
    assert (shown["status"], shown["errorCount"], shown["processedRecords"], shown["onConflict"]) == (
        "failed",
        2,
        2,
        "error",
    )
    for name in ("createdAt", "startedAt", "completedAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown[name])


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)], ids=str)
@pytest.mark.parametrize("bad", [0, 1, 250, 500])
async def test_the_progress_is_100_once_the_file_has_been_read(bench: Bench, bad: int, options: ImportOptions) -> None:
    records = [user(n) if n > bad else user(n, name="") for n in range(1, 501)]
    job = await bench.run("users", records, options=options)
    assert (job.status, job.progress) == (
        "succeeded" if not bad else "failed" if options.atomic or bad == 500 else "partial",
        100,
    )


async def test_the_progress_of_an_import_that_failed_is_where_it_stopped(bench: Bench) -> None:
    job = await bench.run("users", b"[" + json.dumps(user(1)).encode() + b", nonsense]", format="json")
    assert job.status == "failed"
    assert job.progress < 100


@pytest.mark.parametrize("before", [0, 200], ids=["looked up", "all new so far"])
async def test_every_fault_of_a_record_is_reported_in_one_pass(authored: Bench, before: int) -> None:
    await authored.run("articles", [article(1000)])
    bad = {"slug": "article-1000", "title": "", "body": "b", "author_id": 999}
    job = await authored.run("articles", [*(article(n) for n in range(1, before + 1)), bad])
    assert await authored.faults(job) == [
        (before, "FIELD_TOO_SHORT", "title"),
        (before, "DUPLICATE_VALUE", "slug"),
        (before, "INVALID_REFERENCE", "author_id"),
    ]
    assert (job.success_count, job.error_count) == (before, 1)


async def test_the_error_that_ended_a_job_is_the_last_error_in_its_summary(bench: Bench) -> None:
    job = await bench.run("users", b'[{"email": "a@b.c", "name": "A"},', format="json")
    shown = msgspec.to_builtins(import_job(job))
    assert job.error is not None
    assert shown["errorSummary"] == {
        "PARSE_ERROR": 1,
        "lastError": {"code": "PARSE_ERROR", "message": job.error["message"]},
    }


async def test_all_errors_of_a_record_have_the_same_record_id(bench: Bench) -> None:
    first = {"email": "dup@x.yz", "name": "First"}
    job = await bench.run("users", [first, {"email": " DUP@x.yz", "name": ""}])
    assert {(error["errorName"], error["recordId"]) for error in await bench.errors(job)} == {
        ("FIELD_TOO_SHORT", "DUP@x.yz"),
        ("DUPLICATE_VALUE", "DUP@x.yz"),
    }
