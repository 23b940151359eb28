"""Alice owns the jobs, Bob is an operator, Charlie is a stranger: who may do what with Alice's jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.postgres import TestServer
from tests.problems import problem_of
from tests.processes import PASSWORD, SECRET, Service, finished, forked_service, import_file
from wherry.app import create_app
from wherry.settings import load_settings

HIDDEN = "alices-secret"
ROWS = f'{{"email":"{HIDDEN}@example.com","name":"One"}}\n{{"email":"no {HIDDEN}","name":"Two"}}\n'.encode()
EXPORT = {"resource": "users", "filters": {"email": f"{HIDDEN}@example.com"}}


@dataclass(frozen=True)
class People:
    """Three clients of one service."""

    alice: httpx.Client
    bob: httpx.Client
    charlie: httpx.Client


@contextmanager
def people_of(running: Service, database_url: str) -> Iterator[People]:
    with (
        running.admin() as bob,  # the first account is an operator
        registered(running, "alice") as alice,
        registered(running, "charlie") as charlie,
        psycopg.connect(database_url) as connection,
    ):
        # an operator need not be an admin, and an admin is no operator
        connection.execute("update wherry.users set role = case when operator then 'user' else 'admin' end")
        connection.commit()
        yield People(alice, bob, charlie)


def registered(running: Service, name: str) -> httpx.Client:
    user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    with running.client() as client:
        token = client.post("/api/users", json={"user": user}).raise_for_status().json()["user"]["token"]
    return running.client(headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def people(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Of a service with a worker."""
    url, folder = postgres_server.create(), tmp_path_factory.mktemp("operators")
    with forked_service(url, folder, TRANSFER_ROLES="user,admin") as running, people_of(running, url) as people:
        yield people
    postgres_server.drop(url)


@pytest.fixture
def waiting(database_url: str, tmp_path: Path) -> Iterator[People]:
    """Of a service without workers: jobs stay queued."""
    limit = {"IMPORT_CONCURRENT_LIMIT_USER": "2"}
    with forked_service(database_url, tmp_path, workers=0, TRANSFER_ROLES="user,admin", **limit) as running:
        with people_of(running, database_url) as people:
            yield people


def alices_import(people: People, key: str) -> dict[str, Any]:
    return import_file(people.alice, "users", ROWS, key=f"{HIDDEN}-{key}", name=f"{HIDDEN}.ndjson")


def alices_export(people: People, key: str) -> dict[str, Any]:
    headers = {"Idempotency-Key": f"{HIDDEN}-{key}"}
    return dict(
        people.alice.post("/api/v1/exports", json=EXPORT, headers=headers).raise_for_status().json()["exportJob"]
    )


@pytest.fixture(scope="module")
def ended(people: People) -> Mapping[str, str]:
    """The ids of an import of Alice that is partial, and of an export of hers that succeeded, by kind."""
    imported = finished(people.alice, alices_import(people, "ended")["id"])
    exported = finished(people.alice, alices_export(people, "ended")["id"])
    assert (imported["status"], exported["status"]) == ("partial", "succeeded")
    return {"imports": imported["id"], "exports": exported["id"], "jobs": imported["id"]}


OWN, STEERED, KEY = (200, 404, 404), (200, 200, 404), (401, 401, 401)
EXPECTED: Mapping[str, tuple[int, int, int]] = {
    "GET /api/v1/imports/{job_id}": OWN,
    "GET /api/v1/imports/{job_id}/errors": OWN,
    "GET /api/v1/imports/{job_id}/errors/download": OWN,
    "GET /api/v1/imports/{job_id}/rejects/download": OWN,
    "DELETE /api/v1/imports/{job_id}": (409, 409, 404),
    "GET /api/v1/exports/{job_id}": OWN,
    "GET /api/v1/exports/{job_id}/download": OWN,
    "GET /api/v1/jobs/{job_id}": STEERED,
    "GET /api/v1/jobs/{job_id}/events": STEERED,
    "GET /api/v1/jobs/{job_id}/timeline": STEERED,
    "GET /api/v1/jobs/{job_id}/deliveries": STEERED,
    "POST /api/v1/jobs/{job_id}/retry": (409, 409, 404),
    "DELETE /api/v1/jobs/{job_id}": (409, 409, 404),
    "GET /v1/exports/{job_id}": KEY,
    "GET /v1/exports/{job_id}/events": KEY,
    "GET /v1/exports/{job_id}/events/stream": KEY,
    "GET /v1/exports/{job_id}/download": KEY,
    "DELETE /v1/exports/{job_id}": KEY,
    # Only the owner can delete an artifact. It comes last, because it changes the job.
    "DELETE /api/v1/exports/{job_id}": (200, 409, 404),
}
"""What Alice, Bob and Charlie get from each route for jobs of Alice that have ended."""


def test_every_route_of_a_job_is_in_the_table() -> None:
    app = create_app(load_settings(jwt_secret=SECRET, database_url="postgresql://unused/unused"))
    paths = {
        route.path_format: getattr(route, "methods", set()) for route in app.routes if "{job_id}" in route.path_format
    }
    routes = {f"{method} {path}" for path, methods in paths.items() for method in methods - {"HEAD", "OPTIONS"}}
    assert routes == EXPECTED.keys()


def _noun(path: str) -> str:
    return path.partition("/{")[0].rpartition("/")[2]


@pytest.mark.parametrize("route", EXPECTED)
def test_the_owner_an_operator_and_a_stranger(people: People, ended: Mapping[str, str], route: str) -> None:
    method, _, template = route.partition(" ")
    path = template.format(job_id=ended[_noun(template)])
    charlie, bob = people.charlie.request(method, path), people.bob.request(method, path)
    alice = people.alice.request(method, path)
    assert (alice.status_code, bob.status_code, charlie.status_code) == EXPECTED[route]
    if method == "GET" and template.startswith("/api"):
        heads = (client.head(path).status_code for client in (people.alice, people.bob, people.charlie))
        assert tuple(heads) == EXPECTED[route]
    assert HIDDEN not in bob.text
    assert HIDDEN not in charlie.text


def test_an_operator_sees_how_a_job_is_doing(people: People, ended: Mapping[str, str]) -> None:
    path = f"/api/v1/jobs/{ended['imports']}"
    whole, seen = people.alice.get(path).json()["job"], people.bob.get(path).json()["job"]
    hidden = {"idempotencyKey", "fileName", "webhookUrl"}
    assert {name: value for name, value in whole.items() if name not in hidden}.items() <= seen.items()
    assert {name: seen[name] for name in hidden} == dict.fromkeys(hidden)
    assert (whole["kind"], whole["fileName"]) == ("import", f"{HIDDEN}.ndjson")
    assert seen["errorSummary"] == {"INVALID_FIELD_FORMAT.email": 1}
    types = [event["type"] for event in people.bob.get(f"{path}/timeline").json()["events"]]
    assert types[0] == "created"


def test_operators_list_the_jobs_of_anybody(people: People, ended: Mapping[str, str]) -> None:
    def ids(client: httpx.Client, **query: str | int) -> set[str]:
        return {job["id"] for job in client.get("/api/v1/jobs", params=query).raise_for_status().json()["jobs"]}

    alice_id = people.alice.get("/api/user").json()["user"]["id"]
    both = {ended["imports"], ended["exports"]}
    assert both <= ids(people.bob, owner="all", limit=200)
    assert both <= ids(people.bob, owner=alice_id)
    assert both <= ids(people.alice, owner=alice_id)
    assert not both & ids(people.bob)
    assert ids(people.bob, owner=alice_id, kind="export", resource=" Users") >= {ended["exports"]}
    assert ids(people.bob, owner="all", resource="articles") == ids(people.alice, resource="articles") == set()
    assert HIDDEN not in people.bob.get("/api/v1/jobs", params={"owner": "all"}).text
    for owner in ("all", alice_id):
        problem_of(people.charlie.get("/api/v1/jobs", params={"owner": owner}), 403, "FORBIDDEN")
    for owner in ("everybody", "-1", "1e3", "\0"):
        problem_of(people.bob.get("/api/v1/jobs", params={"owner": owner}), 422, field="owner")


@pytest.mark.parametrize("kind", ["import", "export"])
@pytest.mark.parametrize("route", ["/api/v1/{kind}s/{id}", "/api/v1/jobs/{id}"])
def test_an_operator_cancels_and_retries_the_jobs_of_others(waiting: People, kind: str, route: str) -> None:
    job_id = (alices_import if kind == "import" else alices_export)(waiting, "k")["id"]
    path, retry = route.format(kind=kind, id=job_id), f"/api/v1/jobs/{job_id}/retry"
    problem_of(waiting.bob.post(retry), 409, "JOB_NOT_RETRYABLE")
    for client in (waiting.bob, waiting.alice):
        problem_of(waiting.charlie.delete(path), 404, "JOB_NOT_FOUND")
        cancelled = client.delete(path)
        assert (cancelled.status_code, next(iter(cancelled.json().values()))["status"]) == (200, "cancelled")
        assert (HIDDEN in cancelled.text) == (client is waiting.alice)
        problem_of(waiting.charlie.post(retry), 404, "JOB_NOT_FOUND")
        retried = client.post(retry)
        assert (retried.status_code, retried.json()["job"]["status"]) == (202, "queued")
        assert (HIDDEN in retried.text) == (client is waiting.alice)
    job = waiting.alice.get(f"/api/v1/jobs/{job_id}").json()["job"]
    assert (job["round"], job["ownerId"]) == (3, waiting.alice.get("/api/user").json()["user"]["id"])


def test_a_retry_counts_among_the_unfinished_jobs_of_its_owner(waiting: People) -> None:
    job_id = alices_import(waiting, "first")["id"]
    waiting.alice.delete(f"/api/v1/jobs/{job_id}").raise_for_status()
    for key in ("second", "third"):
        alices_import(waiting, key)
    for client in (waiting.alice, waiting.bob):
        problem_of(client.post(f"/api/v1/jobs/{job_id}/retry"), 429, "CONCURRENT_LIMIT")
    assert waiting.alice.get(f"/api/v1/jobs/{job_id}").json()["job"]["status"] == "cancelled"


def test_a_retry_counts_against_the_limit_of_an_hour(database_url: str, tmp_path: Path) -> None:
    """Otherwise, retries and cancels in turn could call a webhook without end."""
    limit = {"IMPORT_RATE_LIMIT_PER_HOUR": "2"}
    with (
        forked_service(database_url, tmp_path, workers=0, TRANSFER_ROLES="user,admin", **limit) as running,
        people_of(running, database_url) as people,
    ):
        path = f"/api/v1/jobs/{alices_import(people, 'limited')['id']}"
        people.alice.delete(path).raise_for_status()
        retried = people.alice.post(f"{path}/retry")
        assert retried.status_code == 202
        assert retried.headers["RateLimit"].startswith('"imports";r=0;')
        people.alice.delete(path).raise_for_status()
        problem_of(people.alice.post(f"{path}/retry"), 429, "RATE_LIMITED")
        assert people.alice.get(path).json()["job"]["status"] == "cancelled"


def test_only_operators_see_pause_and_resume_the_queue(people: People) -> None:
    routes = [("GET", "/api/v1/queue"), *(("POST", f"/api/v1/queue/import/{verb}") for verb in ("pause", "resume"))]
    for method, path in routes:
        problem_of(people.alice.request(method, path), 403, "FORBIDDEN")
    for verb, paused in (("pause", True), ("pause", True), ("resume", False), ("resume", False)):
        kinds = people.bob.post(f"/api/v1/queue/import/{verb}").raise_for_status().json()["kinds"]
        assert {kind: state["paused"] for kind, state in kinds.items()} == {
            "import": paused,
            "export": False,
            "capsule": False,
        }
        assert people.bob.get("/api/v1/queue").raise_for_status().json()["kinds"] == kinds
    for kind in ("boat", "IMPORT", "%00"):
        problem_of(people.bob.post(f"/api/v1/queue/{kind}/pause"), 404)


def test_an_event_stream_shows_an_operator_no_more_than_the_job_does(people: People, ended: Mapping[str, str]) -> None:
    stream = people.bob.get(f"/api/v1/jobs/{ended['imports']}/events").text
    [data] = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert json.loads(data) == people.bob.get(f"/api/v1/jobs/{ended['imports']}").json()["job"]
