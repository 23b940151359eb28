"""Imports under faults: killed, stopped and resumed workers, a restarting database, connections lost at COMMIT.

Whatever happens, to articles as well as to tables of the user's own: no record lost, none doubled, every counter equal
to the tables.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.faults import load
from tests.faults.proxy import CuttingProxy, serving
from tests.pgbouncer import pgbouncer
from tests.processes import Process, Service, service
from wherry.database.migrations import migrate
from wherry.local.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

RESUME_SECONDS = 45
SEED = 20260131


@pytest.fixture
async def fresh(own_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The test's own migrated server."""
    await migrate(own_postgres.url)
    return own_postgres


@pytest.fixture
def settings(fresh: EmbeddedPostgres, tmp_path: Path) -> dict[str, str]:
    """Small batches, and tables of the user's own."""
    return {"IMPORT_BATCH_SIZE": "500", **load.make_shop(fresh.url, tmp_path)}


@pytest.fixture
def up(fresh: EmbeddedPostgres, tmp_path: Path, settings: dict[str, str]) -> Iterator[Service]:
    with service(fresh.url, tmp_path, workers=0, **settings) as running:
        yield running


@pytest.fixture
def pooled(fresh: EmbeddedPostgres, tmp_path: Path, settings: dict[str, str]) -> Iterator[Service]:
    """The same behind PgBouncer, whose sessions API and worker share."""
    direct = {**settings, "DATABASE_DIRECT_URL": fresh.url}
    with pgbouncer(fresh.url) as url, service(url, tmp_path, workers=0, **direct) as running:
        yield running


def _expect_all(client: httpx.Client, url: str, jobs: Sequence[load.Import]) -> None:
    for outcome in load.outcomes(client, url, jobs):
        assert outcome.is_complete, outcome


def _wait_for_progress(url: str, beyond: int, seconds: float) -> float:
    started = time.monotonic()
    while load.progress(url) <= beyond:
        assert time.monotonic() - started < seconds, f"no progress within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - started


def _kill_repeatedly(up: Service, url: str, jobs: int, records: int, kills: int) -> None:
    """Kill the worker again and again; submits more jobs if all are done too early."""
    chance = random.Random(SEED)
    slowest, killed = 0.0, 0
    with up.admin() as client:
        submitted = load.submit(client, 0, jobs, records)
        worker = up.worker()
        while killed < kills:
            if not load.unfinished(url):
                submitted += load.submit(client, len(submitted), jobs, records)
            slowest = max(slowest, _wait_for_progress(url, load.progress(url), RESUME_SECONDS))
            time.sleep(chance.uniform(0, 0.5))
            worker.kill()
            worker.wait()
            killed += 1
            worker = up.worker()
        load.wait_for_end(client, submitted, 600)
        print(f"{killed} kills over {len(submitted)} jobs; slowest resumption {slowest:.1f} s")
        _expect_all(client, url, submitted)
        assert load.interrupted(url, submitted) == set(load.LOADS)


def test_a_killed_worker_loses_and_duplicates_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _kill_repeatedly(up, fresh.url, jobs=4, records=20_000, kills=2)


def test_a_killed_worker_behind_a_pooler_loses_and_duplicates_no_records(
    pooled: Service, fresh: EmbeddedPostgres
) -> None:
    _kill_repeatedly(pooled, fresh.url, jobs=4, records=20_000, kills=2)


@pytest.mark.long
def test_fifty_killed_workers_lose_and_duplicate_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _kill_repeatedly(up, fresh.url, jobs=12, records=100_000, kills=50)


def _stop_and_wake(up: Service, url: str, records: int, zombies: int) -> None:
    with up.admin() as client:
        for round_number in range(zombies):
            submitted = load.submit(client, round_number * len(load.LOADS), len(load.LOADS), records)
            zombie = up.worker()
            _wait_for_progress(url, load.progress(url), RESUME_SECONDS)
            zombie.send_signal(signal.SIGSTOP)
            stopped_at = load.progress(url)
            heir = up.worker()
            _wait_for_progress(url, stopped_at, RESUME_SECONDS)
            zombie.send_signal(signal.SIGCONT)
            load.wait_for_end(client, submitted, 120)
            _expect_all(client, url, submitted)
            for process in (zombie, heir):
                _end(process)


def test_a_resumed_worker_writes_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _stop_and_wake(up, fresh.url, records=10_000, zombies=1)


@pytest.mark.long
def test_twenty_five_resumed_workers_write_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _stop_and_wake(up, fresh.url, records=30_000, zombies=25)


PAUSE = """
create function pause() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(1);
  return new;
end
$$;
create trigger pause after update on wherry.jobs for each row execute function pause();
"""
IS_PAUSED = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"


@pytest.mark.parametrize("kind", ["up", "pooled"])
def test_a_worker_suspended_before_its_commit_blocks_nobody(
    kind: str, request: pytest.FixtureRequest, fresh: EmbeddedPostgres
) -> None:
    up: Service = request.getfixturevalue(kind)
    records = 5_000
    with up.admin() as client, psycopg.connect(fresh.url, autocommit=True) as gate:
        gate.execute(PAUSE)
        submitted = load.submit(client, 0, len(load.LOADS), records)
        zombie = up.worker()
        _wait_for_progress(fresh.url, 0, RESUME_SECONDS)
        gate.execute("select pg_advisory_lock(1)")
        while gate.execute(IS_PAUSED).fetchone() != (True,):
            assert zombie.poll() is None
        zombie.send_signal(signal.SIGSTOP)
        stopped_at = load.progress(fresh.url)
        gate.execute("select pg_advisory_unlock(1)")
        up.worker()
        _wait_for_progress(fresh.url, stopped_at, RESUME_SECONDS)
        zombie.send_signal(signal.SIGCONT)
        load.wait_for_end(client, submitted, 120)
        _expect_all(client, fresh.url, submitted)


def _restart_database(up: Service, server: EmbeddedPostgres, jobs: int, records: int, restarts: int) -> None:
    with up.admin() as client:
        submitted = load.submit(client, 0, jobs, records)
        worker = up.worker()
        for _ in range(restarts):
            if not load.unfinished(server.url):
                submitted += load.submit(client, len(submitted), jobs, records)
            _wait_for_progress(server.url, load.progress(server.url), RESUME_SECONDS)
            server.restart(immediate=True)
        load.wait_for_end(client, submitted, 300)
        assert worker.poll() is None, "a worker must outlive its database"
        _expect_all(client, server.url, submitted)


def test_a_restart_of_the_database_loses_and_duplicates_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _restart_database(up, fresh, jobs=4, records=20_000, restarts=2)


@pytest.mark.long
def test_ten_restarts_of_the_database_lose_and_duplicate_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _restart_database(up, fresh, jobs=4, records=100_000, restarts=10)


def _cut_at_commit(up: Service, url: str, records: int, cuts: int, every: int) -> None:
    with serving(CuttingProxy(url, every=every, cuts=cuts)) as proxy:
        with up.admin() as client:
            submitted = load.submit(client, 0, len(load.LOADS), records)
            up.environment["DATABASE_URL"] = proxy.url
            worker = up.worker()
            load.wait_for_end(client, submitted, 600)
            _expect_all(client, url, submitted)
            _end(worker)
        assert proxy.made == cuts


def test_a_connection_lost_during_commit_changes_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _cut_at_commit(up, fresh.url, records=10_000, cuts=5, every=7)


@pytest.mark.long
def test_twenty_connections_lost_during_commit_change_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _cut_at_commit(up, fresh.url, records=50_000, cuts=20, every=17)


def test_a_request_whose_commit_was_interrupted_can_be_retried(fresh: EmbeddedPostgres, tmp_path: Path) -> None:
    with serving(CuttingProxy(fresh.url, every=1, cuts=1)) as proxy, service(fresh.url, tmp_path) as up:
        with up.admin() as admin:
            token = admin.headers["Authorization"]
        up.environment["DATABASE_URL"] = proxy.url
        up.api()
        with up.client(headers={"Authorization": token, "Idempotency-Key": "again"}) as client:
            form = {"files": {"file": ("a.ndjson", load.ARTICLES.content(0, 10))}, "data": {"resource": "articles"}}
            assert client.post("/api/v1/imports", **form).status_code == 503
            assert proxy.made == 1
            again = client.post("/api/v1/imports", **form)
            assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
            submitted = [load.Import(again.json()["importJob"]["id"], 0, load.ARTICLES, 10)]
            load.wait_for_end(client, submitted, 60)
            _expect_all(client, fresh.url, submitted)


def test_a_stopped_worker_releases_its_jobs_at_once(up: Service, fresh: EmbeddedPostgres) -> None:
    with up.admin() as client:
        submitted = load.submit(client, 0, len(load.LOADS), 20_000)
        first = up.worker()
        _wait_for_progress(fresh.url, 0, RESUME_SECONDS)
        asked = time.monotonic()
        first.terminate()
        first.wait(15)
        assert time.monotonic() - asked < 10
        assert {load.state(client, job)["status"] for job in submitted} == {"queued"}
        up.worker()
        load.wait_for_end(client, submitted, 60)
        _expect_all(client, fresh.url, submitted)


def _end(process: Process) -> None:
    process.terminate()
    process.wait(20)
