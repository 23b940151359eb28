"""A run of a capsule job, where its storage is slow."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from tests.factories import SMALL_GRAPH
from tests.object_store import object_store
from tests.processes import pids_of
from wherry.capsules.runner import CapsuleRunner
from wherry.capsules.submission import Submissions
from wherry.database.pools import Pool, make_pool
from wherry.jobs import ledger
from wherry.jobs.events import Event, events_since
from wherry.jobs.executor import Executor
from wherry.jobs.states import Kind, Status
from wherry.settings import load_settings
from wherry.storage.store import Store

SILENT_SECONDS = 2.0
CANCEL_SECONDS = 1.0
"""A running job has seen that it was cancelled after this long."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=4) as opened:
        yield opened


async def _body() -> AsyncIterator[bytes]:
    yield json.dumps(SMALL_GRAPH).encode()


async def _events(pool: Pool, job_id: UUID) -> list[Event]:
    async with pool.connection() as connection:
        return await events_since(connection, job_id, 0, 1000)


async def _until(pool: Pool, job_id: UUID, stage: str, kind: str, *, times: int = 1) -> None:
    """Wait for so many events of this stage and type."""
    deadline = asyncio.get_running_loop().time() + 30
    while [(event.stage, event.type) for event in await _events(pool, job_id)].count((stage, kind)) < times:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_while_a_capsule_is_stored_slowly_progress_is_told_and_a_cancel_is_seen(
    pool: Pool, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    with object_store(tmp_path) as bucket:
        bucket.bucket("capsules")
        (server,) = pids_of(tmp_path)
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        store = Store("s3://capsules")
        job, _ = await Submissions(pool, store, max_body_bytes=1 << 20, capacity=1).hand_in(
            _body(), declared_bytes=None, idempotency_key=None
        )
        runner = CapsuleRunner(store, load_settings(database_url=database_url))
        running = asyncio.create_task(Executor(pool, {Kind.CAPSULE: runner}).execute(job.id))
        await _until(pool, job.id, "frame_prep", "stage_progress")
        os.kill(server, signal.SIGSTOP)
        try:
            await _until(pool, job.id, "finalize", "stage_heartbeat", times=2)
            if is_cancelled:
                async with pool.connection() as connection, connection.transaction():
                    await ledger.cancel_now(connection, job.id)
                await asyncio.sleep(CANCEL_SECONDS)
        finally:
            os.kill(server, signal.SIGCONT)
        await asyncio.wait_for(running, 20)
        stored = [path.name for path in (tmp_path / "capsules").rglob("*.mv2")]
    async with pool.connection() as connection:
        ended = await ledger.get(connection, job.id)
    assert ended is not None
    assert (ended.status, stored) == ((Status.CANCELLED, []) if is_cancelled else (Status.SUCCEEDED, ["1.mv2"]))
    finalize = [event for event in await _events(pool, job.id) if event.stage == "finalize"]
    storing = [event.type for event in finalize if event.message == "Storing the capsule"]
    assert storing == ["stage_progress", *["stage_heartbeat"] * (len(storing) - 1)]
    assert "stage_heartbeat" in storing
    times = [event.ts for event in finalize]
    assert len(times) > 3
    assert max((later - earlier).total_seconds() for earlier, later in pairwise(times)) < SILENT_SECONDS
