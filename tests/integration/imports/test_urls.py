"""The content of a URL is fetched by the run, stored, and then imported like any other source."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, lines, user
from wherry.errors import ErrorCode, JobFailed
from wherry.imports.runner import ImportRunner
from wherry.jobs import ledger
from wherry.storage.remote import fetch

CONTENT = gzip.compress(lines([user(n) for n in range(1, 51)]))
URL = "https://data.example.com/users.ndjson.gz"


class Remote:
    """A host on the internet that records its requests."""

    def __init__(self, *chunks: bytes | Exception, wait: asyncio.Event | None = None) -> None:
        self.chunks = chunks
        self.wait = wait
        self.requests: list[tuple[str, tuple[str, ...], int]] = []

    async def __call__(self, url: str, *, allowed_hosts: Sequence[str], max_bytes: int) -> AsyncIterator[bytes]:
        self.requests.append((url, tuple(allowed_hosts), max_bytes))
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
        if self.wait:
            await self.wait.wait()


def runner(bench: Bench, remote: Remote) -> ImportRunner:
    return bench.runner(fetch=remote)


async def test_the_content_of_a_url_is_imported_and_its_digest_stored(bench: Bench) -> None:
    bench = bench.with_settings(import_allowed_hosts=("example.com",))
    remote = Remote(CONTENT[:100], CONTENT[100:])
    job = await bench.execute(await bench.submit("users", None, url=URL), runner(bench, remote))
    assert (job.status, job.success_count) == ("succeeded", 50)
    assert job.source is not None
    assert (job.source["fileSize"], job.source["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert remote.requests == [(URL, ("example.com",), 1 << 30)]


async def test_a_url_is_not_fetched_again_once_it_is_stored(bench: Bench) -> None:
    remote = Remote(CONTENT)
    job = await bench.submit("users", CONTENT, url=URL)
    assert (await bench.execute(job, runner(bench, remote))).status == "succeeded"
    assert remote.requests == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("format", "wrap"), [("ndjson", lines), ("json", lambda users: json.dumps(users).encode())])
async def test_the_format_of_a_url_is_detected_from_its_content(
    bench: Bench, format: str, wrap: Callable[[list[Any]], bytes], packed: bool
) -> None:
    content = wrap([user(n) for n in range(1, 4)])
    remote = Remote(gzip.compress(content) if packed else content)
    job = await bench.submit("users", None, url="https://data.example.com/", format="json", format_is_known=False)
    done = await bench.execute(job, runner(bench, remote))
    assert (done.status, done.success_count, done.format) == ("succeeded", 3, format)


@pytest.mark.parametrize("code", [ErrorCode.URL_FETCH_FAILED, ErrorCode.URL_NOT_ALLOWED, ErrorCode.FILE_TOO_LARGE])
async def test_a_fetch_that_fails_fails_the_job_and_stores_nothing(bench: Bench, code: ErrorCode) -> None:
    remote = Remote(CONTENT[:100], JobFailed(code, "because"))
    job = await bench.execute(await bench.submit("users", None, url=URL), runner(bench, remote))
    assert job.status == "failed"
    assert job.error == {"code": code.name, "number": int(code), "message": "because"}
    assert await bench.faults(job) == [(-1, code.name, None)]
    assert [stored async for stored in bench.store.list()] == []


async def test_a_private_url_fails_the_job(bench: Bench) -> None:
    job = await bench.submit("users", None, url="http://127.0.0.1:9/users.ndjson")
    done = await bench.execute(job, bench.runner(fetch=partial(fetch)))
    assert await bench.faults(done) == [(-1, "URL_NOT_ALLOWED", None)]


async def test_a_fetch_can_be_cancelled(bench: Bench) -> None:
    job = await bench.submit("users", None, url=URL)
    work = asyncio.create_task(bench.execute(job, runner(bench, Remote(CONTENT, wait=asyncio.Event()))))
    while (await bench.job(job)).status != "running":
        await asyncio.wait({work}, timeout=0.01)
    async with bench.pool.connection() as connection, connection.transaction():
        await ledger.cancel(connection, job.id)
    async with asyncio.timeout(3):
        done = await work
    assert done.status == "cancelled"
    assert [stored async for stored in bench.store.list()] == []
