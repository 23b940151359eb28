"""Measures jobs of one record: how long one takes, and how many end per second.

    python -m tests.benchmarks.small_jobs [--jobs 320] [--connections 32] [--runs 3] [--url postgresql://…]

one after the other   imports of one record: from sending the request to the event that it has ended
at once               so many imports over so many connections: from the first request to the last end, and the rate
waiting               the same, posted while imports are paused: from the resumption to the last end

The API, the worker with its default settings, the client and PostgreSQL share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.benchmarks.requests import database
from tests.processes import Service, service

WARM = 50
UNFINISHED = "select count(*) from wherry.jobs where completed_at is null"
SPAN = """
select extract(epoch from max(completed_at) - min(created_at)), extract(epoch from max(completed_at) - min(started_at))
from wherry.jobs
where idempotency_key like %s
"""

Connect = Callable[[], "Client"]

numbers = count(1000)


class Client:
    """Sends requests over one connection, and costs little: client, API, worker and PostgreSQL share the machine."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._head = f"Host: {parts.netloc}\r\nAuthorization: {token}\r\n"

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, path: str, body: bytes = b"", **headers: str) -> Any:
        """Send a POST; returns the JSON of the response."""
        given = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\n{self._head}{given}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
        content = await self._reader.readexactly(length)
        assert answer.split(b" ", 2)[1][:1] == b"2", content
        return json.loads(content)

    async def post_import(self, series: str) -> str:
        """Post an import of one record; returns its id."""
        number = next(numbers)
        record = {"id": number, "email": f"{number}@example.com", "name": "N", "role": "admin"}
        key = {"Idempotency_Key": f"{series}-{number}", "Content_Type": "application/x-ndjson"}
        answer = await self.post("/api/v1/imports?resource=users", json.dumps(record).encode(), **key)
        return str(answer["importJob"]["id"])

    async def wait_for_end(self, job_id: str) -> None:
        """Follow the events of a job until it has ended. Afterwards, the connection cannot be used again."""
        self._writer.write(f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\n{self._head}\r\n".encode())
        await self._reader.readuntil(b"event: finished")


async def one_after_the_other(connect: Connect, jobs: int) -> list[float]:
    """The sorted times of imports of one record, in seconds."""
    times = []
    async with connect() as poster:
        for _ in range(jobs):
            async with connect() as follower:
                started = time.perf_counter()
                await follower.wait_for_end(await poster.post_import("single"))
                times.append(time.perf_counter() - started)
    return sorted(times)


async def post_all(connect: Connect, jobs: int, connections: int, series: str) -> None:
    """Post imports of one record over so many connections."""
    rest = iter(range(jobs))

    async def post_some() -> None:
        async with connect() as client:
            for _ in rest:
                await client.post_import(series)

    await asyncio.gather(*(post_some() for _ in range(connections)))


def wait_until_ended(url: str) -> None:
    """Wait until no job is unfinished."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(UNFINISHED).fetchone() != (0,):
            time.sleep(0.05)


def span(url: str, series: str) -> tuple[float, float]:
    """From the first creation, and from the first start, to the last end of a series, in seconds."""
    with psycopg.connect(url) as connection:
        row = connection.execute(SPAN, [f"{series}-%"]).fetchone()
    assert row is not None
    return float(row[0]), float(row[1])


async def measure(running: Service, url: str, jobs: int, connections: int, runs: int) -> None:
    """Print everything."""
    with running.admin() as admin:
        connect = partial(Client, running.url, admin.headers["Authorization"])
    await one_after_the_other(connect, WARM)
    for run in range(runs):
        times = await one_after_the_other(connect, 200)
        print(f"one after the other: p50 {times[100] * 1e3:.1f} ms, p95 {times[190] * 1e3:.1f} ms", flush=True)
        await post_all(connect, jobs, connections, f"burst{run}")
        wait_until_ended(url)
        whole, _ = span(url, f"burst{run}")
        print(f"at once: {jobs} jobs in {whole:.2f} s, {jobs / whole:.0f}/s", flush=True)
        async with connect() as operator:
            await operator.post("/api/v1/queue/import/pause")
            await post_all(connect, jobs, connections, f"held{run}")
            await operator.post("/api/v1/queue/import/resume")
        wait_until_ended(url)
        _, worked = span(url, f"held{run}")
        print(f"waiting: {jobs} jobs in {worked:.2f} s, {jobs / worked:.0f}/s", flush=True)


@contextmanager
def _service(url: str) -> Iterator[Service]:
    with TemporaryDirectory(prefix="wherry-benchmark-") as folder:
        limits = {"IMPORT_RATE_LIMIT_PER_HOUR": "1000000", "IMPORT_CONCURRENT_LIMIT_USER": "1000000"}
        with service(url, Path(folder), **limits) as running:
            yield running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=320)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--url", help="measure with this database, migrated before, instead of a new server")
    asked = parser.parse_args()
    with database(asked.url) as url, _service(url) as running:
        asyncio.run(measure(running, url, asked.jobs, asked.connections, asked.runs))


if __name__ == "__main__":
    main()
