"""Fixtures for tests of exports: a database with a few records, a store, and a way to run jobs like a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wherry.database.pools import Pool, make_pool
from wherry.exports.requests import parse_export
from wherry.exports.runner import ExportRunner
from wherry.jobs import ledger
from wherry.jobs.executor import Executor
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.states import Kind
from wherry.settings import Settings, load_settings
from wherry.storage.store import Store
from wherry.tables.declarations import Declarations
from wherry.tables.registry import Tables


@dataclass
class Exports:
    """What a worker needs for exports, on the test's own database."""

    url: str
    pool: Pool
    store: Store
    settings: Settings
    declarations: Declarations = field(default_factory=Declarations)

    def runner(self, **changed: Any) -> ExportRunner:
        """A runner with some settings changed."""
        return ExportRunner(self.pool, self.tables(), self.url, self.store, self.settings.model_copy(update=changed))

    def tables(self) -> Tables:
        """The tables, read anew from the catalog."""
        return Tables(self.pool, self.declarations)

    async def submit(self, owner_id: int | None = None, **body: Any) -> Job:
        """A queued job, as the API creates it."""
        asked = parse_export(body, await self.tables().current())
        new = NewJob(
            id=new_job_id(),
            kind=Kind.EXPORT,
            owner_id=owner_id,
            resource=asked.selection.table.name,
            format=asked.format,
            options=asked.options(),
        )
        async with self.pool.connection() as connection, connection.transaction():
            job, _ = await ledger.create(connection, new)
        return job

    async def execute(self, job: Job, **changed: Any) -> Job:
        """Run a job as a worker does; returns the finished job."""
        await Executor(self.pool, {Kind.EXPORT: self.runner(**changed)}).execute(job.id)
        return await self.get(job)

    async def get(self, job: Job) -> Job:
        async with self.pool.connection() as connection:
            found = await ledger.get(connection, job.id)
        assert found is not None
        return found

    async def content(self, job: Job) -> bytes:
        """The artifact of a job that succeeded."""
        assert job.artifact is not None, job.error
        return b"".join([chunk async for chunk in self.store.read(job.artifact["key"])])

    async def exported(self, *, settings: dict[str, Any] | None = None, **body: Any) -> bytes:
        """Submit and run a job; returns its artifact."""
        return await self.content(await self.execute(await self.submit(**body), **(settings or {})))

    async def keys(self) -> list[str]:
        """Every file in the store, including incomplete ones."""
        return await asyncio.to_thread(files_below, Path(self.store.root))

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def fill(self, count: int) -> None:
        """Insert users, articles and comments; the n-th of each belongs to the n-th of the others."""
        await self.sql(
            "insert into wherry.users (email, username, name, role, active) "
            "select 'u' || n || '@x.org', 'u' || n, 'User ' || n, case when n = 1 then 'admin' else 'user' end, "
            "n %% 3 > 0 from generate_series(1, %s) n",
            count,
        )
        await self.sql(
            "insert into wherry.articles (slug, title, body, description, author_id, tags, status, published_at) "
            "select 'a-' || n, 'Title ' || n, repeat('words ', 20), '', n, array['t' || n %% 3], "
            "case when n %% 4 = 0 then 'draft' else 'published' end, "
            "case when n %% 4 > 0 then timestamptz '2024-01-01Z' + n * interval '1 hour' end "
            "from generate_series(1, %s) n",
            count,
        )
        await self.sql(
            "insert into wherry.comments (body, article_id, user_id) "
            "select 'Comment ' || n, n, n from generate_series(1, %s) n",
            count,
        )


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
async def exports(database_url: str, tmp_path: Path) -> AsyncIterator[Exports]:
    async with make_pool(database_url, name="tests", max_size=6) as pool:
        yield Exports(database_url, pool, Store(str(tmp_path / "store")), load_settings(database_url=database_url))
