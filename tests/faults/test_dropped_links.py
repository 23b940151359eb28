"""A worker whose packets vanish: it stops within ten seconds, and its jobs finish elsewhere, exactly once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults import load
from tests.faults.proxy import DroppingProxy, serving
from tests.faults.test_imports import IS_PAUSED, PAUSE
from tests.processes import Process, Service, finished, service
from wherry.database.migrations import migrate
from wherry.local.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

STOP_SECONDS = 10.0
LISTENS = "select exists (select from pg_stat_activity where application_name = 'wherry queue listen')"
WAITS_FOR_A_TABLE = "select exists (select from pg_locks where locktype = 'relation' and not granted)"


@pytest.fixture
async def fresh(own_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The test's own migrated server."""
    await migrate(own_postgres.url)
    return own_postgres


@pytest.fixture
def proxy(fresh: EmbeddedPostgres) -> Iterator[DroppingProxy]:
    """The way of the worker that will lose its links."""
    with serving(DroppingProxy(fresh.url)) as proxy:
        yield proxy


@pytest.fixture
def up(fresh: EmbeddedPostgres, tmp_path: Path) -> Iterator[Service]:
    settings = {"IMPORT_BATCH_SIZE": "500", **load.make_shop(fresh.url, tmp_path)}
    with service(fresh.url, tmp_path, workers=0, **settings) as running:
        yield running


def _worker_through(up: Service, url: str) -> Process:
    direct = up.environment["DATABASE_URL"]
    up.environment["DATABASE_URL"] = url
    worker = up.worker()
    up.environment["DATABASE_URL"] = direct
    return worker


def _wait_for(connection: psycopg.Connection[tuple[object, ...]], condition: str, worker: Process) -> None:
    deadline = time.monotonic() + 60
    while connection.execute(condition).fetchone() != (True,):
        assert worker.poll() is None
        assert time.monotonic() < deadline


def _stop(worker: Process) -> float:
    """Stop it; returns how long it took."""
    started = time.monotonic()
    worker.terminate()
    worker.wait(30)
    took = time.monotonic() - started
    print(f"stopped after {took:.1f} s with status {worker.poll()}")
    return took


def test_an_idle_worker_stops(up: Service, fresh: EmbeddedPostgres, proxy: DroppingProxy) -> None:
    with psycopg.connect(fresh.url, autocommit=True) as connection:
        worker = _worker_through(up, proxy.url)
        _wait_for(connection, LISTENS, worker)
        proxy.drop_everything()
        assert _stop(worker) < STOP_SECONDS
        assert worker.poll() == 0


def test_a_worker_stops_in_the_middle_of_a_batch(up: Service, fresh: EmbeddedPostgres, proxy: DroppingProxy) -> None:
    with up.admin() as client, psycopg.connect(fresh.url, autocommit=True) as gate:
        gate.execute(PAUSE)
        submitted = load.submit(client, 0, len(load.LOADS), 5_000)
        worker = _worker_through(up, proxy.url)
        while load.progress(fresh.url) == 0:
            assert worker.poll() is None
        gate.execute("select pg_advisory_lock(1)")
        _wait_for(gate, IS_PAUSED, worker)
        proxy.drop_everything()
        assert _stop(worker) < STOP_SECONDS
        gate.execute("select pg_advisory_unlock(1)")
        up.worker()
        load.wait_for_end(client, submitted, 120)
        for outcome in load.outcomes(client, fresh.url, submitted):
            assert outcome.is_complete, outcome


def test_a_worker_stops_in_the_middle_of_an_export(up: Service, fresh: EmbeddedPostgres, proxy: DroppingProxy) -> None:
    """Its thread waits for a connection that nobody ends; the process ends all the same."""
    with up.admin() as client, psycopg.connect(fresh.url, autocommit=True) as gate:
        with gate.transaction():
            gate.execute("lock table wherry.articles in access exclusive mode")
            answer = client.post("/api/v1/exports", json={"resource": "articles", "format": "ndjson"})
            job_id = answer.raise_for_status().json()["exportJob"]["id"]
            worker = _worker_through(up, proxy.url)
            _wait_for(gate, WAITS_FOR_A_TABLE, worker)
            proxy.drop_everything()
            assert _stop(worker) < STOP_SECONDS
        up.worker()
        assert finished(client, job_id)["status"] == "succeeded"
