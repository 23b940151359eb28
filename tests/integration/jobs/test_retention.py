"""Retention removes what has expired and what belongs to no job, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.factories import submitted
from wherry.database.pools import Connection, Pool, make_pool
from wherry.jobs import history, ledger
from wherry.jobs.events import events_since
from wherry.jobs.models import Job, Outcome, new_job_id
from wherry.jobs.retention import Retention
from wherry.jobs.states import Kind, Status
from wherry.storage.store import Store


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=4) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def retention(pool: Pool, store: Store) -> Retention:
    kinds = dict.fromkeys(Kind, store)
    return Retention(pool, kinds, kinds, import_keep=timedelta(hours=1), job_keep=timedelta(days=1))


async def _stored(store: Store, key: str) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"bytes"

    await store.put(key, chunks())
    return key


async def _ended(connection: Connection, store: Store, kind: Kind, ended_ago: timedelta, **changes: str) -> Job:
    """A finished job with its source and its expired artifact in storage."""
    job_id = new_job_id()
    source = {"key": await _stored(store, f"{job_id}/source")}
    await submitted(connection, id=job_id, kind=kind, source=source, format="mv2", **changes)
    claim = await ledger.claim(connection, job_id)
    assert claim is not None
    artifact = {"key": await _stored(store, f"{job_id}/1.bin")}
    outcome = Outcome(status=Status.SUCCEEDED, artifact=artifact, keep_for=timedelta(seconds=-1))
    job = await ledger.finish(connection, claim.lease, outcome)
    await connection.execute("update wherry.jobs set completed_at = now() - %s where id = %s", [ended_ago, job_id])
    return job


async def _keys(store: Store) -> set[str]:
    return {item.key async for item in store.list()}


async def test_an_expired_artifact_is_removed_and_its_job_stays(pool: Pool, store: Store, retention: Retention) -> None:
    async with pool.connection() as connection:
        job = await _ended(connection, store, Kind.CAPSULE, timedelta(minutes=1))
        removed = await retention.sweep()
        assert (removed["artifacts"], removed["sources"], removed["jobs"]) == (1, 1, 0)
        assert await _keys(store) == set()
        after = await ledger.get(connection, job.id)
        assert after is not None
        assert after.artifact is not None
        assert "removedAt" in after.artifact
        events = await events_since(connection, job.id, 0, 10)
        assert (events[-1].type, events[-1].stage) == ("job_expired", "expired")
        assert (await history.timeline(connection, job))[-1].type == "artifact_expired"
    assert not any((await retention.sweep()).values()), "a second sweep finds nothing to do"


async def test_an_imports_source_and_errors_are_removed_when_they_expire(
    pool: Pool, store: Store, retention: Retention
) -> None:
    async with pool.connection() as connection:
        young = await _ended(connection, store, Kind.IMPORT, timedelta(minutes=59))
        old = await _ended(connection, store, Kind.IMPORT, timedelta(minutes=61))
        for job in (young, old):
            await connection.execute(
                "insert into wherry.import_errors (job_id, record_index, code, name, message)"
                " select %s, n, 3001, 'PARSE_ERROR', 'm' from generate_series(1, 700) as n",
                [job.id],
            )
            rejects = "insert into wherry.import_rejects (job_id, indexes) values (%s, '{1, 2}')"
            await connection.execute(rejects, [job.id])
        removed = await retention.sweep()
        assert (removed["sources"], removed["import_errors"], removed["import_rejects"]) == (1, 700, 1)
        left = await (await connection.execute("select distinct job_id from wherry.import_errors")).fetchall()
        assert left == [(young.id,)]
    assert await _keys(store) == {f"{young.id}/source"}


async def test_a_job_is_deleted_with_everything_that_belongs_to_it(
    pool: Pool, store: Store, retention: Retention
) -> None:
    async with pool.connection() as connection:
        old = await _ended(connection, store, Kind.EXPORT, timedelta(days=2))
        waiting = await submitted(connection)
        assert (await retention.sweep())["jobs"] == 1
        assert await ledger.get(connection, old.id) is None
        assert await ledger.get(connection, waiting.id) is not None


async def test_a_job_is_kept_until_its_webhook_was_called(pool: Pool, store: Store, retention: Retention) -> None:
    async with pool.connection() as connection:
        job = await _ended(connection, store, Kind.EXPORT, timedelta(days=2), webhook_url="https://receiver.example/")
        assert (await retention.sweep())["jobs"] == 0
        await connection.execute("update wherry.webhook_events set status = 'delivered'")
        assert (await retention.sweep())["jobs"] == 1
        assert await ledger.get(connection, job.id) is None
        left = await connection.execute(
            "select job_id from wherry.job_history union select job_id from wherry.webhook_events"
        )
        assert await left.fetchall() == []


async def test_old_files_that_belong_to_no_job_are_removed(
    pool: Pool, store: Store, retention: Retention, tmp_path: Path
) -> None:
    async with pool.connection() as connection:
        running = await submitted(connection)
        await ledger.claim(connection, running.id)
    orphan = await _stored(store, f"{new_job_id()}/source")
    recent = await _stored(store, f"{new_job_id()}/source")
    in_use = await _stored(store, f"{running.id}/1.ndjson")
    foreign = await _stored(store, "somebody-elses/file")
    abandoned = tmp_path / "store" / "upload#1"
    abandoned.write_bytes(b"half")
    hours_ago = time.time() - 2 * 3600
    for path in (tmp_path / "store" / orphan, tmp_path / "store" / in_use, tmp_path / "store" / foreign, abandoned):
        os.utime(path, (hours_ago, hours_ago))
    assert (await retention.sweep())["orphans"] == 2
    assert await _keys(store) == {recent, in_use, foreign}
    assert not abandoned.exists()
