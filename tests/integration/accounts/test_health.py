"""What supervisors are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from tests.accounts_app import Running, running
from wherry.database.migrations import migrate


async def test_a_healthy_service_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"database": "ok", "migrations": "ok", "storage": "ok"}


async def test_a_database_that_lacks_migrations_is_not_ready_until_it_has_them(
    empty_database_url: str, tmp_path: Path
) -> None:
    async with running(empty_database_url, tmp_path) as app, app.client() as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "MIGRATIONS_PENDING")
        assert int(answer.headers["retry-after"]) > 0

        await migrate(empty_database_url)
        assert (await client.get("/readyz")).status_code == 200


async def test_a_database_that_is_gone_is_not_ready_but_the_process_is_alive(
    app: Running, client: httpx.AsyncClient
) -> None:
    await app.pool.close()
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_ERROR")
    assert (await client.get("/healthz")).status_code == 200


async def test_storage_that_is_gone_is_not_ready(app: Running, client: httpx.AsyncClient) -> None:
    shutil.rmtree(app.parts.export_store.root)
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_ERROR")
