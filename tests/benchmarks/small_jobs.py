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
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
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

numbers = count(1)


def _form(number: int) -> dict[str, object]:
    record = json.dumps({"id": number, "email": f"{number}@example.com", "name": "N", "role": "admin"}).encode()
    return {"files": {"file": ("records.ndjson", record)}, "data": {"resource": "users"}}


async def _post(client: httpx.AsyncClient, series: str) -> str:
    number = next(numbers) + 1000
    answer = await client.post("/api/v1/imports", headers={"Idempotency-Key": f"{series}-{number}"}, **_form(number))  # type: ignore[arg-type]
    return str(answer.raise_for_status().json()["importJob"]["id"])


async def _wait_for_end(client: httpx.AsyncClient, job_id: str) -> None:
    async with client.stream("GET", f"/api/v1/jobs/{job_id}/events") as events:
        async for line in events.aiter_lines():
            if line == "event: finished":
                return
    raise AssertionError("the stream ended without an end of the job")


async def one_after_the_other(client: httpx.AsyncClient, jobs: int) -> list[float]:
    """The sorted times of imports of one record, in seconds."""
    times = []
    for _ in range(jobs):
        started = time.perf_counter()
        await _wait_for_end(client, await _post(client, "single"))
        times.append(time.perf_counter() - started)
    return sorted(times)


async def post_all(client: httpx.AsyncClient, jobs: int, connections: int, series: str) -> None:
    """Post imports of one record over so many connections."""
    rest = iter(range(jobs))

    async def post_some() -> None:
        for _ in rest:
            await _post(client, series)

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
        headers = dict(admin.headers)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(
        base_url=running.url, headers=headers, limits=limits, timeout=120, trust_env=False
    ) as client:
        await one_after_the_other(client, WARM)
        for run in range(runs):
            times = await one_after_the_other(client, 200)
            print(f"one after the other: p50 {times[100] * 1e3:.1f} ms, p95 {times[190] * 1e3:.1f} ms", flush=True)
            await post_all(client, jobs, connections, f"burst{run}")
            wait_until_ended(url)
            whole, _ = span(url, f"burst{run}")
            print(f"at once: {jobs} jobs in {whole:.2f} s, {jobs / whole:.0f}/s", flush=True)
            (await client.post("/api/v1/queue/import/pause")).raise_for_status()
            await post_all(client, jobs, connections, f"held{run}")
            (await client.post("/api/v1/queue/import/resume")).raise_for_status()
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
