"""The health routes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.accounts_app import Running, running
from wherry.database.migrations import migrate


async def test_a_live_process_reports_its_status_and_the_time(client: httpx.AsyncClient) -> None:
    alive = (await client.get("/healthz")).json()
    assert (alive["ok"], alive["status"]) == (True, "ok")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(alive["timestamp"])) < timedelta(seconds=30)


async def test_a_healthy_service_is_ready(app: Running, client: httpx.AsyncClient) -> None:
    await app.execute("insert into wherry.procrastinate_workers default values")
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "storage": "ok", "workers": "ok"},
    }


@pytest.mark.parametrize("last_heartbeat", [None, "a minute ago"])
async def test_without_a_live_worker_a_service_is_ready_but_degraded(
    app: Running, client: httpx.AsyncClient, last_heartbeat: str | None
) -> None:
    if last_heartbeat:
        await app.execute(
            "insert into wherry.procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')"
        )
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert ready.json()["checks"]["workers"] == "no worker is alive"


async def test_a_database_without_all_migrations_is_not_ready(empty_database_url: str, tmp_path: Path) -> None:
    async with running(empty_database_url, tmp_path) as app, app.client() as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "MIGRATIONS_PENDING")
        assert int(answer.headers["retry-after"]) > 0

        await migrate(empty_database_url)
        assert (await client.get("/readyz")).status_code == 200


async def test_without_its_database_a_service_is_alive_but_not_ready(app: Running, client: httpx.AsyncClient) -> None:
    await app.pool.close()
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_ERROR")
    assert (await client.get("/healthz")).status_code == 200


async def test_without_its_storage_a_service_is_not_ready(app: Running, client: httpx.AsyncClient) -> None:
    shutil.rmtree(app.parts.export_store.root)
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_ERROR")
