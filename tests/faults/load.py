"""Imports to disturb, and checks of their results.

In: a running service. Out: jobs that are under way; at the end, for each job, its counters against the tables.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from tests.processes import import_file

ENDED = ("succeeded", "partial", "failed", "cancelled")
POLL_SECONDS = 0.2
AUTHOR = 1


def articles(job: int, count: int) -> bytes:
    """New articles without ids, so that an article that is written twice is a second row or an error."""
    body = "salt and timber " * 20
    return b"".join(
        json.dumps({"slug": f"job-{job}-{n}", "title": f"Article {n}", "body": body, "author_id": AUTHOR}).encode()
        + b"\n"
        for n in range(count)
    )


@dataclass
class Outcome:
    """A finished import, and what it left in the tables."""

    job: dict[str, Any]
    rows: int
    errors: int

    @property
    def is_exact(self) -> bool:
        """Whether the counters agree with the tables."""
        counted = (self.job["successCount"], self.job["errorCount"], self.job["processedRecords"])
        return counted == (self.rows, self.errors, self.rows + self.errors)


def submit(client: httpx.Client, first: int, jobs: int, records: int) -> list[str]:
    """Submit imports, numbered from `first`; returns their ids."""
    numbers = range(first, first + jobs)
    return [import_file(client, "articles", articles(job, records), key=f"load-{job}")["id"] for job in numbers]


def state(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job as it is now."""
    return dict(client.get(f"/api/v1/imports/{job_id}").raise_for_status().json()["importJob"])


def all_ended(client: httpx.Client, job_ids: list[str]) -> bool:
    """Whether all of them have ended."""
    return all(state(client, job_id)["status"] in ENDED for job_id in job_ids)


def wait_for_end(client: httpx.Client, job_ids: list[str], seconds: float) -> None:
    """Wait until all have ended. The API may fail now and then, while its database is down."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if all_ended(client, job_ids):
                return
        except httpx.HTTPError:
            pass  # asked again until the deadline, which then says so
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not all of {len(job_ids)} jobs ended within {seconds} s")


def unfinished(database_url: str) -> int:
    """How many jobs have not ended, according to the database."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select count(*) from wherry.jobs where completed_at is null").fetchone()
    assert row is not None
    return int(row[0])


def progress(database_url: str) -> int:
    """How many records all jobs have processed."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select coalesce(sum(processed_records), 0) from wherry.jobs").fetchone()
    assert row is not None
    return int(row[0])


def outcomes(client: httpx.Client, database_url: str, job_ids: list[str]) -> list[Outcome]:
    """The result of each job."""
    found = []
    with psycopg.connect(database_url) as connection:
        for job_id in job_ids:
            rows = connection.execute(
                "select count(*) from wherry.articles where import_job_id = %s", [job_id]
            ).fetchone()
            errors = connection.execute(
                "select count(distinct record_index) from wherry.import_errors where job_id = %s and record_index >= 0",
                [job_id],
            ).fetchone()
            assert rows is not None
            assert errors is not None
            found.append(Outcome(state(client, job_id), rows[0], errors[0]))
    return found
