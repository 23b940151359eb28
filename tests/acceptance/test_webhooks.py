"""Webhooks, as those who request and receive them see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.acceptance.test_http_document import assert_described
from tests.commands import wherry
from tests.factories import SMALL_GRAPH
from tests.postgres import TestServer
from tests.problems import problem_of
from tests.processes import SECRET, Service, bare_environment, finished, forked_service
from tests.receivers import WEBHOOK_SECRET, Receiver, receiving

USERS = b'{"email":"a@example.com","name":"A"}\n'
URL = "https://hooks.example/a?token=x"
TYPE = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The operator's receiver."""
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def hooked(
    postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> Iterator[Service]:
    """A service of an operator who has a webhook."""
    url, folder = postgres_server.create(), tmp_path_factory.mktemp("hooked")
    settings = {
        "WEBHOOK_URL": receiver.url,
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
        "WEBHOOK_ALLOWED_HOSTS": "localhost",
        "WEBHOOK_RETRY_SECONDS": ",".join(["1"] * 60),
    }
    with forked_service(url, folder, **settings) as running:
        yield running
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def owner(hooked: Service) -> Iterator[httpx.Client]:
    with hooked.admin() as client:
        yield client


@pytest.fixture(scope="module")
def document(owner: httpx.Client) -> Any:
    return owner.get("/openapi.json").raise_for_status().json()


def asked(client: httpx.Client, way: str, url: Any, key: str = "one") -> httpx.Response:
    """A request with a `webhookUrl`, in each of the ways that it can be given."""
    headers = {"Idempotency-Key": f"{way} {key}"}
    if way == "form":
        data = {"resource": "users", "webhookUrl": url}
        return client.post("/api/v1/imports", files={"file": ("u.ndjson", USERS)}, data=data, headers=headers)
    if way == "query":
        params = {"resource": "users", "webhookUrl": url}
        return client.post("/api/v1/imports", params=params, content=USERS, headers={**headers, **TYPE})
    body = {"resource": "users", "webhookUrl": url}
    if way == "url":
        return client.post("/api/v1/imports", json={**body, "url": "https://wherry.invalid/a"}, headers=headers)
    return client.post("/api/v1/exports", json=body, headers=headers)


WAYS = pytest.mark.parametrize("way", ["form", "query", "url", "export"])


def job_in(answer: httpx.Response) -> dict[str, Any]:
    return dict(next(iter(answer.json().values())))


def stored_url(service: Service, job_id: str) -> str | None:
    with psycopg.connect(service.environment["DATABASE_URL"]) as connection:
        row = connection.execute("select webhook_url from wherry.jobs where id = %s", [job_id]).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


@WAYS
def test_a_webhook_can_be_requested_and_belongs_to_the_request(
    hooked: Service, owner: httpx.Client, receiver: Receiver, document: Any, way: str
) -> None:
    made = asked(owner, way, URL)
    assert made.status_code == 202, made.text
    assert_described(document, made)
    job = job_in(made)
    assert job["webhookUrl"] == URL
    assert stored_url(hooked, job["id"]) == URL
    assert job_in(asked(owner, way, f" {URL} "))["id"] == job["id"]
    problem_of(asked(owner, way, "https://hooks.example/b"), 422, "IDEMPOTENCY_KEY_REUSED")
    without = job_in(asked(owner, way, "", key="without"))
    assert "webhookUrl" not in without
    assert stored_url(hooked, without["id"]) == receiver.url


@WAYS
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/", "http://[::ffff:10.0.0.1]/", "http://u:p@hooks.example/", "x"]
)
def test_a_url_that_is_not_public_is_refused(owner: httpx.Client, document: Any, way: str, url: str) -> None:
    refused = asked(owner, way, url, key=url)
    problem = problem_of(refused, 422, "URL_NOT_ALLOWED")
    assert list(problem["errors"]) == ["webhookUrl"]
    assert_described(document, refused)


@WAYS
def test_without_a_secret_no_webhook_can_be_requested(admin: httpx.Client, way: str) -> None:
    problem = problem_of(asked(admin, way, URL), 422, "VALIDATION_FAILED")
    assert problem["errors"] == {"webhookUrl": ["webhookUrl cannot be used: this server has no WEBHOOK_SECRET"]}


def test_a_capsule_has_the_operators_webhook(hooked: Service, receiver: Receiver) -> None:
    with hooked.capsule_client() as client:
        made = client.post("/v1/exports", content=json.dumps(SMALL_GRAPH), headers={"Content-Type": "application/json"})
    assert stored_url(hooked, made.json()["jobId"]) == receiver.url


def test_the_attempts_of_a_webhook_are_listed(
    hooked: Service, owner: httpx.Client, receiver: Receiver, document: Any
) -> None:
    """The operator's URL, which may contain a secret, is not shown whole."""
    for key, url, shown in (("mine", URL, URL), ("operators", None, f"http://127.0.0.1:{receiver.port}")):
        job_id = job_in(asked(owner, "export", url, key=f"listed {key}"))["id"]
        values = {"id": f"msg_{key}", "job": job_id, "url": url or receiver.url}
        with psycopg.connect(hooked.environment["DATABASE_URL"]) as connection:
            connection.execute(
                "insert into wherry.webhook_events (job_id, round, id, url, type, ended_at, data, attempts, next_at)"
                " values (%(job)s, 7, %(id)s, %(url)s, 'job.failed', now(), '{}', 1, '2100-01-31')",
                values,
            )
            connection.execute(
                "insert into wherry.webhook_attempts (event_id, number, ts, response_status, error, duration_ms)"
                " values (%(id)s, 1, '2026-01-31T12:00:00.0126Z', 500, 'no', 3)",
                values,
            )
        answer = owner.get(f"/api/v1/jobs/{job_id}/deliveries")
        assert_described(document, answer)
        attempt = {"number": 1, "ts": "2026-01-31T12:00:00.012Z", "status": 500, "error": "no", "durationMs": 3}
        assert answer.json()["deliveries"][-1] == {
            "id": f"msg_{key}",
            "url": shown,
            "type": "job.failed",
            "status": "pending",
            "nextAttemptAt": "2100-01-31T00:00:00.000Z",
            "attempts": [attempt],
        }


def test_a_job_without_a_webhook_has_no_deliveries(admin: httpx.Client) -> None:
    job = job_in(asked(admin, "export", None))
    assert admin.get(f"/api/v1/jobs/{job['id']}/deliveries").json() == {"deliveries": []}


def event_of(job_id: str) -> str:
    return f"msg_{job_id.replace('-', '')}_1"


@pytest.mark.parametrize("way", ["form", "export"])
def test_a_receiver_that_was_down_gets_the_end_of_a_job_once(owner: httpx.Client, way: str) -> None:
    with receiving(status=500) as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        job_id = job_in(asked(owner, way, url, key="end"))["id"]
        event = event_of(job_id)
        receiver.wait_until(lambda: len(receiver.requests_for(event)) == 2)
        receiver.status = 204
        receiver.wait_until(lambda: event in receiver.accepted)
        job = finished(owner, job_id)
        (delivery,) = _ended_deliveries(owner, job_id)
        assert receiver.accepted == [event]
        requests = receiver.received
    assert {each.id for each in requests} == {event}
    assert len({each.body for each in requests}) == 1
    for body in (each.verified() for each in requests):
        assert (body["type"], body["timestamp"]) == (f"job.{job['status']}", job["completedAt"])
        told = {name: body["data"][name] for name in ("id", "kind", "status", "processedRecords", "completedAt")}
        assert told == {name: job[name] for name in told}
    assert (delivery["status"], delivery["url"]) == ("delivered", url)
    assert [each["status"] for each in delivery["attempts"]] == [each.status for each in requests]


def _ended_deliveries(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """The deliveries, once none is pending: an attempt is recorded after its response was sent."""
    while True:
        found = client.get(f"/api/v1/jobs/{job_id}/deliveries").raise_for_status().json()["deliveries"]
        if found and all(each["status"] != "pending" for each in found):
            return list(found)


def test_the_operator_gets_the_end_of_a_capsule(hooked: Service, receiver: Receiver) -> None:
    with hooked.capsule_client() as client:
        made = client.post("/v1/exports", content=json.dumps(SMALL_GRAPH), headers={"Content-Type": "application/json"})
    event = event_of(made.json()["jobId"])
    receiver.wait_until(lambda: event in receiver.accepted)
    (request,) = receiver.requests_for(event)
    body = request.verified()
    assert (body["type"], body["data"]["kind"]) == ("job.succeeded", "capsule")


def test_each_end_of_a_retried_job_has_its_own_event(owner: httpx.Client, receiver: Receiver) -> None:
    job_id = job_in(asked(owner, "url", None, key="retried"))["id"]
    first = event_of(job_id)
    second = first.removesuffix("1") + "2"
    receiver.wait_until(lambda: first in receiver.accepted)
    owner.post(f"/api/v1/jobs/{job_id}/retry").raise_for_status()
    receiver.wait_until(lambda: second in receiver.accepted)
    for event in (first, second):
        (request,) = receiver.requests_for(event)
        assert request.verified()["type"] == "job.failed"
    assert [each["id"] for each in _ended_deliveries(owner, job_id)] == [first, second]


@pytest.mark.parametrize("command", ["api", "worker"])
def test_an_operators_url_without_a_secret_stops_the_start(tmp_path: Path, command: str) -> None:
    settings = {"JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://127.0.0.1:1/x", "WEBHOOK_URL": URL}
    ended = wherry(tmp_path, {**bare_environment(), **settings}, command)
    assert ended.returncode == 2
    assert ended.stderr.startswith("wherry: WEBHOOK_SECRET must be set, because WEBHOOK_URL is")
