"""Many clients watch many jobs through two API processes, which read each job once for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.processes import forked_service, import_file
from tests.round_trips import CountingProxy, counting
from wherry.database.pools import Connection, connect
from wherry.jobs import ledger
from wherry.jobs.models import Advance, Lease, Outcome
from wherry.jobs.states import Status

RECORD = b'{"email": "new@example.com", "name": "N"}'
CHANGES = 3
SECONDS = 60


class Stream:
    """What one client has received: the ids, names and jobs of the events."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.events: list[tuple[int, str, dict[str, Any]]] = []

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next event, or None if the stream has ended."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(("id: ", "event: ", "data: ")):
                name, _, fields[name] = line.partition(": ")
            elif not line and "data" in fields:
                self.events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                return self.events[-1][1:]
        return None

    async def until(self, processed: int) -> None:
        while (event := await self.next()) is None or event[1]["processedRecords"] < processed:
            assert event is not None, "the stream has ended too early"


async def _leases(connection: Connection, job_ids: list[str]) -> list[Lease]:
    claims = [await ledger.claim(connection, UUID(job_id)) for job_id in job_ids]
    return [claim.lease for claim in claims if claim is not None]


async def _watch(
    proxy: CountingProxy, urls: list[str], token: str, job_ids: list[str], count: int
) -> tuple[list[Stream], int]:
    """Open `count` streams, change every job `CHANGES` times, and end it; the streams, and the changes' round trips."""
    headers, limits = {"Authorization": token}, httpx.Limits(max_connections=None)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await connect(proxy.url, name="test"))
        client = await stack.enter_async_context(
            httpx.AsyncClient(headers=headers, limits=limits, timeout=SECONDS, trust_env=False)
        )
        streams = []
        for number in range(count):
            url = f"{urls[number % len(urls)]}/api/v1/jobs/{job_ids[number % len(job_ids)]}/events"
            response = await stack.enter_async_context(client.stream("GET", url))
            streams.append(Stream(response.raise_for_status().aiter_lines()))
        await asyncio.gather(*(stream.next() for stream in streams))
        before = proxy.counts["wherry api"]
        leases = await _leases(connection, job_ids)
        for change in range(1, CHANGES + 1):
            async with connection.transaction():
                for lease in leases:
                    await ledger.advance(connection, lease, Advance(successes=1))
            await asyncio.gather(*(stream.until(change) for stream in streams))
        async with connection.transaction():
            for lease in leases:
                await ledger.finish(connection, lease, Outcome(status=Status.SUCCEEDED))
        for stream in streams:
            while await stream.next():
                pass
        return streams, proxy.counts["wherry api"] - before


@pytest.mark.parametrize(("count", "jobs"), [(60, 6), pytest.param(500, 50, marks=pytest.mark.long)])
def test_every_client_sees_progress_and_one_end(database_url: str, tmp_path: Path, count: int, jobs: int) -> None:
    with counting(database_url) as proxy, forked_service(proxy.url, tmp_path, workers=0) as running:
        urls = [running.url]
        running.api()
        urls.append(running.url)
        with running.admin() as admin:
            job_ids = [import_file(admin, "users", RECORD, key=f"k{number}")["id"] for number in range(jobs)]
            token = admin.headers["Authorization"]
        streams, trips = asyncio.run(_watch(proxy, urls, token, job_ids, count))
    for stream in streams:
        ids, names, _ = zip(*stream.events, strict=True)
        assert list(ids) == sorted(set(ids))
        assert names[:-1] == ("progress",) * (len(names) - 1)
        assert names[-1] == "finished"
    assert trips < count  # fewer than if each stream had read its job even once
