"""How many round trips to PostgreSQL a request makes, which limits how many requests a process can serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.processes import Service, forked_service, import_file
from tests.round_trips import CountingProxy, counting

RECORD = b'{"id": 9, "email": "new@example.com", "name": "N", "role": "admin"}'
ENOUGH = 10
"""psycopg prepares a statement, which takes a round trip, when a connection has executed it five times."""


@pytest.fixture
def proxy(database_url: str) -> Iterator[CountingProxy]:
    with counting(database_url) as proxy:
        yield proxy


@pytest.fixture
def running(proxy: CountingProxy, tmp_path: Path) -> Iterator[Service]:
    with forked_service(proxy.url, tmp_path, workers=0, DATABASE_POOL_SIZE="1") as running:
        yield running


@pytest.fixture(params=["JWT", "API token"])
def client(running: Service, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client with either kind of credential."""
    with running.admin() as admin:
        if request.param == "API token":
            made = admin.post("/api/user/tokens", json={"apiToken": {"name": "t"}}).raise_for_status()
            admin.headers["Authorization"] = f"Bearer {made.json()['apiToken']['token']}"
        yield admin


def round_trips(proxy: CountingProxy, client: httpx.Client, path: str, status: int = 200) -> float:
    """Of a GET, on average, once its statements are prepared."""
    for _ in range(ENOUGH):
        client.get(path)
    before = proxy.counts["wherry api"]
    assert [client.get(path).status_code for _ in range(ENOUGH)] == [status] * ENOUGH
    return (proxy.counts["wherry api"] - before) / ENOUGH


def test_the_status_of_a_job_takes_one_round_trip(proxy: CountingProxy, client: httpx.Client) -> None:
    import_id = import_file(client, "users", RECORD, key="k")["id"]
    export = client.post("/api/v1/exports", json={"resource": "users"}).raise_for_status().json()["exportJob"]
    assert round_trips(proxy, client, f"/api/v1/imports/{import_id}") == 1
    assert round_trips(proxy, client, f"/api/v1/exports/{export['id']}") == 1
    assert round_trips(proxy, client, f"/api/v1/exports/{import_id}", status=404) == 1
    assert round_trips(proxy, client, f"/api/v1/imports/{uuid4()}", status=404) == 1


def test_a_request_without_a_job_takes_one_round_trip_too(proxy: CountingProxy, client: httpx.Client) -> None:
    assert round_trips(proxy, client, "/api/user") == 1


def test_an_import_of_a_few_records_takes_few_round_trips(proxy: CountingProxy, client: httpx.Client) -> None:
    for number in range(ENOUGH):
        import_file(client, "users", RECORD, key=f"k{number}")
    before = proxy.counts["wherry api"]
    import_file(client, "users", RECORD, key="another")
    assert proxy.counts["wherry api"] - before <= 6
