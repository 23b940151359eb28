"""Imports under faults: killed, stopped and resumed workers, a restarting database, connections lost at COMMIT.

Whatever happens: no record lost, none doubled, every counter equal to the tables.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.faults import load
from tests.faults.proxy import cutting
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
def up(fresh: EmbeddedPostgres, tmp_path: Path) -> Iterator[Service]:
    with service(fresh.url, tmp_path, workers=0, IMPORT_BATCH_SIZE="500") as running:
        yield running


@pytest.fixture
def pooled(fresh: EmbeddedPostgres, tmp_path: Path) -> Iterator[Service]:
    """The same behind PgBouncer, whose sessions API and worker share."""
    settings = {"IMPORT_BATCH_SIZE": "500", "DATABASE_DIRECT_URL": fresh.url}
    with pgbouncer(fresh.url) as url, service(url, tmp_path, workers=0, **settings) as running:
        yield running


def _expect_all(client: httpx.Client, url: str, job_ids: list[str], records: int) -> None:
    for outcome in load.outcomes(client, url, job_ids):
        assert (outcome.job["status"], outcome.rows, outcome.errors) == ("succeeded", records, 0), outcome.job
        assert outcome.is_exact, outcome


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
        job_ids = load.submit(client, 0, jobs, records)
        worker = up.worker()
        while killed < kills:
            if not load.unfinished(url):
                job_ids += load.submit(client, len(job_ids), jobs, records)
            slowest = max(slowest, _wait_for_progress(url, load.progress(url), RESUME_SECONDS))
            time.sleep(chance.uniform(0, 0.5))
            worker.kill()
            worker.wait()
            killed += 1
            worker = up.worker()
        load.wait_for_end(client, job_ids, 600)
        print(f"{killed} kills over {len(job_ids)} jobs; slowest resumption {slowest:.1f} s")
        _expect_all(client, url, job_ids, records)


def test_a_killed_worker_loses_and_duplicates_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _kill_repeatedly(up, fresh.url, jobs=2, records=20_000, kills=2)


def test_a_killed_worker_behind_a_pooler_loses_and_duplicates_no_records(
    pooled: Service, fresh: EmbeddedPostgres
) -> None:
    _kill_repeatedly(pooled, fresh.url, jobs=2, records=20_000, kills=2)


@pytest.mark.long
def test_fifty_killed_workers_lose_and_duplicate_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _kill_repeatedly(up, fresh.url, jobs=10, records=100_000, kills=50)


def _stop_and_wake(up: Service, url: str, records: int, zombies: int) -> None:
    with up.admin() as client:
        for round_number in range(zombies):
            job = load.import_file(
                client, "articles", load.articles(round_number, records), key=f"zombie-{round_number}"
            )
            zombie = up.worker()
            _wait_for_progress(url, load.progress(url), RESUME_SECONDS)
            zombie.send_signal(signal.SIGSTOP)
            stopped_at = load.progress(url)
            heir = up.worker()
            _wait_for_progress(url, stopped_at, RESUME_SECONDS)
            zombie.send_signal(signal.SIGCONT)
            load.wait_for_end(client, [job["id"]], 120)
            _expect_all(client, url, [job["id"]], records)
            for process in (zombie, heir):
                _end(process)


def test_a_resumed_worker_writes_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _stop_and_wake(up, fresh.url, records=30_000, zombies=1)


@pytest.mark.long
def test_twenty_five_resumed_workers_write_nothing(up: Service, fresh: EmbeddedPostgres) -> None:
    _stop_and_wake(up, fresh.url, records=100_000, zombies=25)


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
        job = load.import_file(client, "articles", load.articles(0, records), key="paused")
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
        load.wait_for_end(client, [job["id"]], 120)
        _expect_all(client, fresh.url, [job["id"]], records)


def _restart_database(up: Service, server: EmbeddedPostgres, jobs: int, records: int, restarts: int) -> None:
    with up.admin() as client:
        job_ids = load.submit(client, 0, jobs, records)
        worker = up.worker()
        for _ in range(restarts):
            if not load.unfinished(server.url):
                job_ids += load.submit(client, len(job_ids), jobs, records)
            _wait_for_progress(server.url, load.progress(server.url), RESUME_SECONDS)
            server.restart(immediate=True)
        load.wait_for_end(client, job_ids, 300)
        assert worker.poll() is None, "a worker must outlive its database"
        _expect_all(client, server.url, job_ids, records)


def test_a_restart_of_the_database_loses_and_duplicates_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _restart_database(up, fresh, jobs=2, records=20_000, restarts=2)


@pytest.mark.long
def test_ten_restarts_of_the_database_lose_and_duplicate_no_records(up: Service, fresh: EmbeddedPostgres) -> None:
    _restart_database(up, fresh, jobs=4, records=100_000, restarts=10)


def _cut_at_commit(fresh: EmbeddedPostgres, folder: Path, records: int, cuts: int, every: int) -> None:
    with cutting(fresh.url, every=every, cuts=cuts) as proxy:
        with service(fresh.url, folder, workers=0, IMPORT_BATCH_SIZE="500") as up, up.admin() as client:
            job_ids = load.submit(client, 0, 2, records)
            up.environment["DATABASE_URL"] = proxy.url
            up.worker()
            load.wait_for_end(client, job_ids, 600)
            _expect_all(client, fresh.url, job_ids, records)
        assert proxy.made == cuts


def test_a_connection_lost_during_commit_changes_nothing(fresh: EmbeddedPostgres, tmp_path: Path) -> None:
    _cut_at_commit(fresh, tmp_path, records=10_000, cuts=3, every=9)


@pytest.mark.long
def test_twenty_connections_lost_during_commit_change_nothing(fresh: EmbeddedPostgres, tmp_path: Path) -> None:
    _cut_at_commit(fresh, tmp_path, records=100_000, cuts=20, every=17)


def test_a_request_whose_commit_was_interrupted_can_be_retried(fresh: EmbeddedPostgres, tmp_path: Path) -> None:
    with cutting(fresh.url, every=1, cuts=1) as proxy, service(fresh.url, tmp_path) as up:
        with up.admin() as admin:
            token = admin.headers["Authorization"]
        up.environment["DATABASE_URL"] = proxy.url
        up.api()
        with up.client(headers={"Authorization": token, "Idempotency-Key": "again"}) as client:
            form = {"files": {"file": ("a.ndjson", load.articles(0, 10))}, "data": {"resource": "articles"}}
            assert client.post("/api/v1/imports", **form).status_code == 503
            assert proxy.made == 1
            again = client.post("/api/v1/imports", **form)
            assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
            job_ids = [again.json()["importJob"]["id"]]
            load.wait_for_end(client, job_ids, 60)
            _expect_all(client, fresh.url, job_ids, 10)


def test_a_stopped_worker_releases_its_job_at_once(up: Service, fresh: EmbeddedPostgres) -> None:
    with up.admin() as client:
        job_ids = load.submit(client, 0, 1, 60_000)
        first = up.worker()
        _wait_for_progress(fresh.url, 0, RESUME_SECONDS)
        asked = time.monotonic()
        first.terminate()
        first.wait(15)
        assert time.monotonic() - asked < 10
        assert load.state(client, job_ids[0])["status"] == "queued"
        up.worker()
        load.wait_for_end(client, job_ids, 60)
        _expect_all(client, fresh.url, job_ids, 60_000)


def _end(process: Process) -> None:
    process.terminate()
    process.wait(20)
