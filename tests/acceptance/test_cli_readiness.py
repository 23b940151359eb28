"""A database that accepts connections but does not respond."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.accounts_app import running
from tests.outages import frozen
from wherry.database.migrations import migrate
from wherry.http import health
from wherry.local.embedded import EmbeddedPostgres


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server's sessions in /proc")
async def test_a_frozen_database_is_not_ready_in_time_and_nothing_stays_behind(
    own_postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 1)
    await migrate(own_postgres.url)
    async with running(own_postgres.url, tmp_path) as app, app.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        with frozen(own_postgres):
            started = time.monotonic()
            answers = await asyncio.gather(*(client.get("/readyz") for _ in range(3)))
            assert time.monotonic() - started < 8
            assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "TIMEOUT")] * 3
        left = {task for task in asyncio.all_tasks() if task.get_name() == "readiness check"}
        assert left
        assert not (await asyncio.wait(left, timeout=30))[1]
        async with AsyncExitStack() as held:
            for _ in range(app.pool.max_size):  # every connection of the pool can be had again
                await held.enter_async_context(app.pool.connection(timeout=30))
        assert (await client.get("/readyz")).status_code == 200
