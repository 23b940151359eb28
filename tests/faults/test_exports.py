"""Exports under faults: eventually a complete artifact or a clear failure, never a partial or orphaned file."""

from __future__ import annotations

import hashlib
import random
import time
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.faults import load
from tests.processes import Service, finished, service
from wherry.database.pools import make_pool
from wherry.jobs.retention import Retention
from wherry.jobs.states import Kind
from wherry.storage.store import Store

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

SEED = 11
ROWS = {"comments": 400_000, "prices": 200_000}


def _fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into wherry.users (email, username, name) select e, e, 'N' from"
            " (select 'u' || n || '@example.com' as e from generate_series(1, 10) as n) as made"
        )
        connection.execute(
            "insert into wherry.articles (slug, title, body, description, author_id, status)"
            " select 'a-' || n, 'T', 'B', 'T', 1, 'draft' from generate_series(1, 10) as n"
        )
        connection.execute(
            "insert into wherry.comments (body, article_id, user_id)"
            " select repeat('words ', 30), 1, 1 from generate_series(1, %s)",
            [ROWS["comments"]],
        )
        connection.execute("truncate shop.price")
        connection.execute(
            "insert into shop.price (tenant, sku, amount, meta, supplier_id)"
            " select n %% 10, 'S-' || n, n, jsonb_build_object('n', n, 'text', repeat('words ', 30)), n %% 10 + 1"
            " from generate_series(1, %s) as n",
            [ROWS["prices"]],
        )


def _kill_mid_export(up: Service, client: httpx.Client, kills: int) -> None:
    chance = random.Random(SEED)
    store = Store(str(up.data_dir / "exports"))
    worker = up.worker()
    for _ in range(kills):
        jobs = {resource: _export(client, resource) for resource in ROWS}
        for job_id in jobs.values():
            _wait_until_running(client, job_id)
        time.sleep(chance.uniform(0.05, 1.0))
        worker.kill()
        worker.wait()
        worker = up.worker()
        for resource, job_id in jobs.items():
            _expect_file_or_none(client, store, job_id, ROWS[resource])


def _export(client: httpx.Client, resource: str) -> str:
    answer = client.post("/api/v1/exports", json={"resource": resource}).raise_for_status()
    return str(answer.json()["exportJob"]["id"])


def _expect_file_or_none(client: httpx.Client, store: Store, job_id: str, rows: int) -> None:
    job = finished(client, job_id)
    assert job["status"] in ("succeeded", "failed"), job
    if job["status"] == "failed":
        assert job["error"]["message"]
        return
    content = client.get(job["downloadUrl"]).raise_for_status().content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (job["fileSize"], job["sha256"])
    assert content.count(b"\n") == job["processedRecords"] == rows
    visible = [item for item in _listed(store) if item.startswith(job_id)]
    assert len(visible) == 1, visible


def _listed(store: Store) -> list[str]:
    root = Path(store.root)
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "#" not in path.name]


def _wait_until_running(client: httpx.Client, job_id: str) -> None:
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        if client.get(f"/api/v1/exports/{job_id}").json()["exportJob"]["status"] != "queued":
            return
        time.sleep(0.02)
    raise AssertionError("the export did not begin")


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.long)])
async def test_a_killed_export_leaves_a_complete_file_or_none(database_url: str, tmp_path: Path, kills: int) -> None:
    tables = load.make_shop(database_url, tmp_path)
    with service(database_url, tmp_path, workers=0, **tables) as up, up.admin() as client:
        _fill(database_url)
        _kill_mid_export(up, client, kills)
    async with make_pool(database_url, name="test", max_size=2) as pool:
        store = Store(str(tmp_path / "exports"))
        stores, no_time = dict.fromkeys(Kind, store), timedelta(0)
        async with pool.connection() as connection:
            await connection.execute("update wherry.jobs set expires_at = now() - interval '1 second'")
        await Retention(pool, stores, stores, no_time, no_time, orphan_age=timedelta(seconds=-1)).sweep()
    left = [path for path in (tmp_path / "exports").rglob("*") if path.is_file()]
    assert left == [], "retention must leave no files"
