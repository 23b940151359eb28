"""Removes what has expired, in small batches.

That is artifacts, sources, import errors, jobs, stored files that belong to no job, and temporary folders on this host
whose process is gone. A job outlives its artifact: the download then answers 410. A download in progress
continues, as it keeps the object open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from psycopg import sql

from wherry.database.pools import Pool
from wherry.database.queries import fetch_all, load
from wherry.jobs import ledger
from wherry.jobs.states import Kind
from wherry.storage.store import Listed, Store
from wherry.storage.workspaces import remove_abandoned
from wherry.times import now

BATCH = 500
ORPHAN_AGE = timedelta(hours=1)
"""A younger file may belong to a request whose job is not committed yet."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retention:
    """Finds and removes everything that has expired: sources and import errors `import_keep` after their job's end."""

    pool: Pool
    sources: Mapping[Kind, Store]
    artifacts: Mapping[Kind, Store]
    import_keep: timedelta
    job_keep: timedelta
    orphan_age: timedelta = ORPHAN_AGE

    async def sweep(self) -> dict[str, int]:
        """Remove everything that has expired; return how many of each."""
        removed = {
            "artifacts": await _until_done(self._remove_artifacts),
            "sources": await _until_done(self._remove_sources),
            "import_errors": await _until_done(partial(self._delete, "delete_expired", "import_errors")),
            "import_rejects": await _until_done(partial(self._delete, "delete_expired", "import_rejects")),
            "import_rows": await _until_done(partial(self._delete, "delete_abandoned", "import_rows")),
            "import_postponed": await _until_done(partial(self._delete, "delete_abandoned", "import_postponed")),
            "jobs": await _until_done(self._delete_jobs),
            "orphans": await self._remove_orphans(),
            "workspaces": await asyncio.to_thread(remove_abandoned),
        }
        if any(removed.values()):
            log.info("retention removed", **removed)
        return removed

    async def _remove_artifacts(self) -> int:
        rows = await self._rows("expired_artifacts", limit=BATCH)
        for row in rows:
            # The file first: if this is interrupted, the row still names the file, and the next sweep tries again.
            await self.artifacts[Kind(row["kind"])].delete(row["key"])
            async with self.pool.connection() as connection, connection.transaction():
                await ledger.retire_artifact(connection, row["id"])
        return len(rows)

    async def _remove_sources(self) -> int:
        rows = await self._rows("spent_sources", limit=BATCH, import_keep=self.import_keep)
        for row in rows:
            # The row first: otherwise the job could be retried without its source. If this is interrupted, the file
            # belongs to no job, and a later sweep removes it.
            kind = Kind(row["kind"])
            keep = self.import_keep if kind is Kind.IMPORT else timedelta(0)
            async with self.pool.connection() as connection:
                is_spent = await ledger.retire_source(connection, row["id"], keep)
            if is_spent:
                await self.sources[kind].delete(row["key"])
        return len(rows)

    async def _delete(self, query: str, table: str) -> int:
        """Delete rows of one of wherry's tables."""
        statement = sql.SQL(load("retention")[query]).format(table=sql.Identifier("wherry", table))
        async with self.pool.connection() as connection:
            values = {"import_keep": self.import_keep, "limit": BATCH}
            return (await connection.execute(statement, values)).rowcount

    async def _delete_jobs(self) -> int:
        async with self.pool.connection() as connection:
            return await ledger.delete_ended(connection, self.job_keep, BATCH)

    async def _remove_orphans(self) -> int:
        stores = {store.root: store for store in (*self.sources.values(), *self.artifacts.values())}
        total = 0
        for store in stores.values():
            total += await asyncio.to_thread(store.remove_abandoned_uploads, self.orphan_age.total_seconds())
            async for batch in _batches(store, now() - self.orphan_age):
                total += await self._remove_unnamed(store, batch)
        return total

    async def _remove_unnamed(self, store: Store, batch: list[Listed]) -> int:
        owners = {item.key: _owner(item.key) for item in batch}
        ids = [owner for owner in owners.values() if owner is not None]
        known = {row["id"]: row for row in await self._rows("known_jobs", ids=ids)}
        orphans = [key for key, owner in owners.items() if owner is not None and not _named(key, known.get(owner))]
        for key in orphans:
            log.info("orphan removed", key=key)
            await store.delete(key)
        return len(orphans)

    async def _rows(self, query: str, **values: object) -> list[dict[str, Any]]:
        async with self.pool.connection() as connection:
            return await fetch_all(connection, load("retention")[query], values)


async def _until_done(step: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while count := await step():
        total += count
    return total


def _owner(key: str) -> UUID | None:
    """The job whose folder contains a file, or None if it is in no job's folder; such a file is not ours and stays."""
    try:
        return UUID(key.split("/", 1)[0])
    except ValueError:
        return None


def _named(key: str, job: Mapping[str, Any] | None) -> bool:
    if job is None:
        return False
    if job["unfinished"]:
        return True
    return (key == job["source_key"] and not job["source_removed"]) or (
        key == job["artifact_key"] and not job["artifact_removed"]
    )


async def _batches(store: Store, newest: datetime) -> AsyncIterator[list[Listed]]:
    batch: list[Listed] = []
    async for item in store.list():
        if item.modified_at < newest:
            batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
