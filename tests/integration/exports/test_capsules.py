"""Exports in the format mv2."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.integration.exports.conftest import Exports
from wherry.jobs import ledger
from wherry.jobs.states import Status
from wherry.memvid import sdk


def read_back(path: Path, uris: Sequence[str], query: str) -> tuple[list[str], list[str]]:
    """The texts of frames, and the URIs that a search finds."""
    capsule = sdk.open_for_reading(path)
    try:
        return [capsule.blob(uri).decode() for uri in uris], [hit["uri"] for hit in capsule.find(query)["hits"]]
    finally:
        capsule.close()


async def test_every_record_is_a_frame_that_its_uri_and_a_search_find(exports: Exports) -> None:
    await exports.fill(30)
    await exports.sql(
        "update wherry.articles set title = 'Pangolins on skates', body = %s where id = 17", "line\n\n  indented 😀"
    )
    job = await exports.execute(await exports.submit(resource="articles", format="mv2", fields="title,body,tags"))
    assert job.status is Status.SUCCEEDED, job.error
    assert job.artifact is not None
    assert job.artifact["fileName"] == f"{job.id}.mv2"
    assert job.artifact["contentType"] == "application/octet-stream"
    assert (job.processed_records, job.total_records, job.progress) == (30, 30, 100.0)
    path = exports.store.local_path(job.artifact["key"])
    assert path is not None
    assert await asyncio.to_thread(sdk.verify, path) == "passed"
    uris = [f"mv2://articles/{number}" for number in range(1, 31)]
    texts, hits = await asyncio.to_thread(read_back, path, uris, "pangolins")
    assert hits == ["mv2://articles/17"]
    assert texts[16] == 'id: 17\ntitle: Pangolins on skates\nbody: line\n\n  indented 😀\ntags: ["t2"]'


async def test_a_capsule_without_records_fails_with_a_reason(exports: Exports) -> None:
    job = await exports.execute(await exports.submit(resource="comments", format="mv2"))
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error["code"] == "EMPTY_FILE"
    assert await exports.keys() == []


async def test_records_that_do_not_fit_fail_with_advice_for_records(exports: Exports) -> None:
    await exports.fill(60)
    await exports.sql("update wherry.articles set body = repeat('x', 1000000)")
    job = await exports.execute(await exports.submit(resource="articles", format="mv2"))
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error["code"] == "CAPSULE_TOO_LARGE"
    assert job.error["message"].startswith("60 frames do not fit ")
    assert job.error["message"].endswith(" would. Select fewer records or fields, or use another format.")


async def test_a_cancelled_capsule_job_ends_at_once_and_leaves_no_files(exports: Exports) -> None:
    await exports.fill(20_000)
    job = await exports.submit(resource="comments", format="mv2")
    running = asyncio.create_task(exports.execute(job))
    async with await psycopg.AsyncConnection.connect(exports.url, autocommit=True) as listener:
        await listener.execute("listen wherry_jobs")
        async for _ in listener.notifies():
            if (await exports.get(job)).processed_records == 20_000:
                break
    async with exports.pool.connection() as connection, connection.transaction():
        await ledger.cancel(connection, job.id)
    ended = await asyncio.wait_for(running, 5)
    assert ended.status is Status.CANCELLED
    assert await exports.keys() == []
