"""The service behind PgBouncer in transaction mode, on a database whose defaults are unusual."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.faults.load import ARTICLES
from tests.pgbouncer import SESSIONS, change_defaults, pgbouncer
from tests.postgres import TestServer
from tests.processes import PASSWORD, Service, finished, forked_service, import_file

TABLE = """
create table public.odd (
  id int primary key, at timestamptz, took interval, raw bytea, ratio float8, small float4, tags timestamptz[]
);
insert into public.odd values (
  1, '2024-07-01 12:00Z', '1 day -2 hours', '\\x00ff', 0.1::float8 + 0.2::float8, 0.1, '{2024-07-01 12:00Z}'
);
"""
RECORD = {
    "id": 1,
    "at": "2024-07-01T12:00:00Z",
    "took": "P1DT-2H",
    "raw": "AP8=",
    "ratio": 0.30000000000000004,
    "small": 0.1,
    "tags": ["2024-07-01T12:00:00Z"],
}
QUOTA = 12
SECONDS = 10.0
"""Less than the keep-alive interval of a stream, at which it would look at the job without a notification, too."""

BLOCKED = "select count(*) from pg_locks where not granted and relation = 'wherry.articles'::regclass"


@pytest.fixture(scope="module")
def database(postgres_server: TestServer) -> Iterator[str]:
    url = postgres_server.create()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    change_defaults(url)
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def running(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API and a worker whose connections share the few sessions of a pooler."""
    folder = tmp_path_factory.mktemp("pooled")
    tables = folder / "tables.toml"
    tables.write_text('[tables]\nodd = "public.odd"\n')
    settings = {
        "DATABASE_DIRECT_URL": database,
        "TABLES_FILE": str(tables),
        "TRANSFER_ROLES": "user,admin",
        "EXPORT_RATE_LIMIT_PER_HOUR": str(QUOTA),
        "IMPORT_BATCH_SIZE": "100",
    }
    with pgbouncer(database) as url, forked_service(url, folder, **settings) as up:
        yield up


@pytest.fixture
def user(running: Service, admin: httpx.Client) -> Iterator[httpx.Client]:
    """Somebody who is not an admin, and has limits of their own."""
    with running.client() as client:
        fields = {"username": "deckhand", "email": "deckhand@example.com", "password": PASSWORD}
        client.post("/api/users", json={"user": fields}).raise_for_status()
        login = client.post("/api/users/login", json={"user": fields}).raise_for_status()
        client.headers["Authorization"] = f"Bearer {login.json()['user']['token']}"
        yield client


def _count(database: str, table: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(sql.SQL("select count(*) from wherry.{}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("options", [{}, {"atomic": "true"}])
def test_imports_write_every_record_once(admin: httpx.Client, database: str, options: dict[str, str]) -> None:
    before = _count(database, "articles")
    number = 1 + len(options)
    job = import_file(admin, "articles", ARTICLES.content(number, 1050), key=f"import {options}", **options)
    job = finished(admin, job["id"], SECONDS)
    assert (job["status"], job["successCount"], job["progress"]) == ("succeeded", 1050, 100)
    assert _count(database, "articles") == before + 1050


def test_a_dry_run_writes_nothing(admin: httpx.Client, database: str) -> None:
    before = _count(database, "articles")
    content = ARTICLES.content(9, 250) + b'{"slug": "", "title": ""}\n'
    job = finished(admin, import_file(admin, "articles", content, key="dry run", dryRun="true")["id"], SECONDS)
    assert (job["status"], job["successCount"], job["errorCount"]) == ("partial", 250, 1)
    assert admin.get(f"/api/v1/imports/{job['id']}/errors").json()["errors"][0]["recordIndex"] == 250
    assert _count(database, "articles") == before


def test_files_and_pages_contain_what_they_would_with_ordinary_defaults(admin: httpx.Client) -> None:
    asked = admin.post("/api/v1/exports", json={"resource": "odd"}).raise_for_status().json()["exportJob"]
    job = finished(admin, asked["id"], SECONDS)
    assert json.loads(admin.get(job["downloadUrl"]).text) == RECORD
    for _ in range(2 * SESSIONS):
        page = admin.get("/api/v1/exports", params={"resource": "odd", "format": "json"})
        assert page.json()["data"] == [RECORD]


def test_times_in_answers_are_in_utc(admin: httpx.Client) -> None:
    asked = admin.post("/api/v1/exports", json={"resource": "users"})
    job = asked.json()["exportJob"]
    seen = admin.get(asked.headers["Location"]).json()["exportJob"]
    assert seen["createdAt"] == job["createdAt"]
    assert job["createdAt"].endswith("Z")


@contextmanager
def _locked_articles(database: str) -> Iterator[Callable[[], None]]:
    """Lock the articles; yields what waits until somebody waits for them."""
    with psycopg.connect(database) as gate, psycopg.connect(database, autocommit=True) as observer:
        gate.execute("lock table wherry.articles in access exclusive mode")

        def wait() -> None:
            deadline = time.monotonic() + SECONDS
            while observer.execute(BLOCKED).fetchone() == (0,):
                assert time.monotonic() < deadline, "nobody waits for the articles"

        yield wait


def test_cancelling_an_export_ends_its_query(admin: httpx.Client, database: str) -> None:
    with _locked_articles(database) as wait:
        asked = admin.post("/api/v1/exports", json={"resource": "articles"})
        wait()
        assert admin.delete(asked.headers["Location"]).status_code == 202
        job = finished(admin, asked.json()["exportJob"]["id"], SECONDS)
        assert job["status"] == "cancelled"  # while the articles are still locked


def test_an_import_is_cancelled_after_its_batch(admin: httpx.Client, database: str) -> None:
    before = _count(database, "articles")
    with _locked_articles(database) as wait:
        job = import_file(admin, "articles", ARTICLES.content(5, 1000), key="to be cancelled")
        wait()
        assert admin.delete(f"/api/v1/imports/{job['id']}").status_code == 202
    job = finished(admin, job["id"], SECONDS)
    assert (job["status"], _count(database, "articles")) == ("cancelled", before + job["successCount"])


def test_a_quota_is_exact_however_many_use_it_at_once(user: httpx.Client) -> None:
    with ThreadPoolExecutor(2 * QUOTA) as many:
        answers = list(many.map(lambda _: user.post("/api/v1/exports", json={"resource": "users"}), range(2 * QUOTA)))
    assert sorted(answer.status_code for answer in answers) == [202] * QUOTA + [429] * QUOTA


def test_a_capsule_is_built(capsules: httpx.Client) -> None:
    graph = {
        "sessionId": "s",
        "projectName": "p",
        "source": {"type": "folder", "baseName": "pooled"},
        "nodes": [{"id": "f", "label": "File"}, {"id": "g", "label": "Function", "properties": {"name": "greet"}}],
        "relationships": [{"id": "r", "sourceId": "f", "targetId": "g", "type": "DEFINES"}],
    }
    path = f"/v1/exports/{capsules.post('/v1/exports', json=graph).raise_for_status().json()['jobId']}"
    with capsules.stream("GET", f"{path}/events/stream", timeout=SECONDS) as events:
        assert any('"job_completed"' in line for line in events.iter_lines())
    assert capsules.get(path).json()["status"] == "completed"


def test_the_clients_of_the_pooler_share_its_sessions(running: Service, admin: httpx.Client, database: str) -> None:
    with ThreadPoolExecutor(20) as many:
        answers = list(many.map(lambda _: admin.get("/api/v1/jobs").status_code, range(200)))
    assert set(answers) == {200}
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "select application_name, count(*) from pg_stat_activity where datname = current_database() group by 1"
        )
        names = dict(found.fetchall())
    assert names["wherry notifications"] == 1
    assert names["wherry queue"] >= 1
    assert sum(count for name, count in names.items() if name in ("wherry api", "wherry worker")) <= SESSIONS
