"""Runs imports as a worker does, but without HTTP: with a job in the ledger, a source in a store, and the executor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from psycopg.rows import dict_row

from wherry.database.pools import Pool
from wherry.errors import JobReleased
from wherry.imports.models import ImportOptions
from wherry.imports.report import page
from wherry.imports.requests import ImportSource, job_options, source_key
from wherry.imports.runner import ImportRunner
from wherry.jobs import ledger
from wherry.jobs.executor import Executor
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.states import Kind
from wherry.settings import Settings
from wherry.storage.store import Store
from wherry.tables.declarations import Declarations
from wherry.tables.registry import Tables

SETTINGS: dict[str, Any] = {"_env_file": None}


async def chunks_of(data: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    """Bytes as a stream."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def lines(records: Iterable[Any]) -> bytes:
    """Records as ndjson; a `bytes` becomes a line as it is."""
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records)


@dataclass
class Bench:
    """A database, a store and settings to run imports with."""

    pool: Pool
    store: Store
    settings: Settings
    declarations: Declarations = field(default_factory=Declarations)

    @property
    def tables(self) -> Tables:
        """The tables that are declared, as they are now."""
        return Tables(self.pool, self.declarations)

    def with_settings(self, **changes: Any) -> Bench:
        """The same bench with other settings."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def runner(self, **options: Any) -> ImportRunner:
        """A runner of imports."""
        return ImportRunner(self.pool, self.tables, self.store, self.settings, **options)

    async def submit(
        self,
        resource: str,
        data: bytes | None,
        *,
        format: str = "ndjson",
        options: ImportOptions | None = None,
        role: str = "admin",
        url: str | None = None,
        format_is_known: bool = True,
        owner_id: int | None = None,
        charset: str | None = None,
    ) -> Job:
        """A queued import of these bytes."""
        job_id = new_job_id()
        if data is not None:
            await self.store.put(source_key(job_id), chunks_of(data))
        new = NewJob(
            id=job_id,
            kind=Kind.IMPORT,
            owner_id=owner_id,
            resource=resource,
            format=format,
            options=job_options(
                options or ImportOptions(), role, await self.tables.find(resource), format_is_known=format_is_known
            ),
            source=ImportSource(source_key(job_id), file_size=len(data or b""), url=url, charset=charset).as_json(),
        )
        async with self.pool.connection() as connection, connection.transaction():
            job, _ = await ledger.create(connection, new)
        return job

    async def execute(self, job: Job, runner: ImportRunner | None = None) -> Job:
        """Run a job once; return it as it is afterwards."""
        runner = runner or self.runner()
        with suppress(JobReleased):
            await Executor(self.pool, {Kind.IMPORT: runner}).execute(job.id)
        return await self.job(job)

    async def run(self, resource: str, records: Sequence[Any] | bytes, **request: Any) -> Job:
        """Import records to the end."""
        data = records if isinstance(records, bytes) else lines(records)
        async with asyncio.timeout(60):
            return await self.execute(await self.submit(resource, data, **request))

    async def job(self, job: Job) -> Job:
        """The job as it is now."""
        async with self.pool.connection() as connection:
            found = await ledger.get(connection, job.id)
        assert found is not None
        return found

    async def errors(self, job: Job) -> list[dict[str, Any]]:
        """The report, decoded."""
        async with self.pool.connection() as connection:
            found = await page(connection, job.id, cursor=None, limit=100_000)
        return list(json.loads(msgspec.json.encode(found.errors)))

    async def faults(self, job: Job) -> list[tuple[int, str, str | None]]:
        """The index, name and field of every error."""
        return [(error["recordIndex"], error["errorName"], error["field"]) for error in await self.errors(job)]

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows that a query returns."""
        async with self.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()

    async def do(self, statement: str, *values: Any) -> None:
        """Change the database directly."""
        async with self.pool.connection() as connection:
            await connection.execute(statement.encode(), values)


def user(number: int, **fields: Any) -> dict[str, Any]:
    """A valid user."""
    return {"id": number, "email": f"user{number}@example.com", "name": f"User {number}", **fields}


def article(number: int, **fields: Any) -> dict[str, Any]:
    """A valid article by user 1."""
    return {"slug": f"article-{number}", "title": f"Article {number}", "body": "Text", "author_id": 1, **fields}


def comment(number: int, **fields: Any) -> dict[str, Any]:
    """A valid comment by user 1 on article 1."""
    return {"id": number, "body": f"Comment {number}", "article_id": 1, "user_id": 1, **fields}
