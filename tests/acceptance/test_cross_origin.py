"""Web pages of other origins can use the API, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.cross_origin import ORIGIN, Blocked, PageOfAnotherOrigin
from tests.postgres import TestServer
from tests.processes import API_KEY, Service, finished, forked_service, import_file

USERS = b'{"email": "ada@example.com", "name": "Ada"}\n{"email": "nowhere", "name": "Nobody"}\n'


@pytest.fixture(scope="module")
def page(running: Service, admin: httpx.Client) -> Iterator[httpx.Client]:
    """A page of another origin that has the administrator's token."""
    headers = {"Authorization": admin.headers["Authorization"]}
    with running.client(transport=PageOfAnotherOrigin(), headers=headers) as client:
        yield client


def test_a_page_moves_records_in_and_out(page: httpx.Client) -> None:
    job = import_file(page, "users", USERS, key="from a page")
    assert finished(page, job["id"])["status"] == "partial"
    shown = page.get(f"/api/v1/imports/{job['id']}").raise_for_status().json()
    report = page.get(shown["errorReportUrl"])
    assert f"{job['id']}-errors.ndjson" in report.headers["Content-Disposition"]
    made = page.post("/api/v1/exports", json={"resource": "users"}, headers={"Idempotency-Key": "export-1"})
    assert (made.status_code, made.headers["Location"]) == (202, f"/api/v1/exports/{made.json()['exportJob']['id']}")
    assert "RateLimit" in made.headers
    assert "X-Request-Id" in made.headers
    again = page.post("/api/v1/exports", json={"resource": "users"}, headers={"Idempotency-Key": "export-1"})
    assert again.headers["Idempotent-Replayed"] == "true"
    job = finished(page, made.json()["exportJob"]["id"])
    part = page.get(job["downloadUrl"], headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    assert "Repr-Digest" in part.headers
    assert part.headers["ETag"]
    assert page.delete(f"/api/v1/exports/{job['id']}").status_code == 200


def test_a_page_resumes_a_stream_of_events(page: httpx.Client) -> None:
    job = import_file(page, "users", USERS, key="events for a page")
    finished(page, job["id"])
    seen = page.get(f"/api/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "1"})
    assert "event: finished" in seen.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/jobs", 401),
        ("GET", "/api/nowhere", 404),
        ("PATCH", "/api/user", 405),
        ("POST", "/api/users", 422),
        ("POST", "/v1/exports", 401),
        ("GET", "/v1/nowhere", 404),
    ],
)
def test_a_page_can_read_errors(running: Service, method: str, path: str, status: int) -> None:
    with running.client(headers={"Origin": ORIGIN}) as client:
        answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/api/v1/imports", "/api/user", "/v1/exports", "/v1/exports/x", "/api/nowhere"])
def test_a_preflight_request_needs_no_credential(running: Service, path: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, x-client-version, not a name",
    }
    with running.client() as client:
        answer = client.options(path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "X-Request-Id" in answer.headers
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Range"} < set(allowed)
    assert "x-client-version" in allowed
    assert "not a name" not in allowed
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/set-password", "/apiary", "/v1x", "/healthz"])
def test_only_the_api_allows_other_origins(running: Service, path: str) -> None:
    with running.client() as client:
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
        answers = [client.get(path, headers={"Origin": ORIGIN}), client.options(path, headers=asked)]
    assert not any(name.startswith("access-control-") for answer in answers for name in answer.headers)


def test_only_the_origins_that_are_set_may_call(
    postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, folder = postgres_server.create(), tmp_path_factory.mktemp("origins")
    allowed = f"{ORIGIN}, https://second.example:8443"
    with forked_service(url, folder, workers=0, CORS_ALLOWED_ORIGINS=allowed) as running:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        for origin in (ORIGIN, "https://second.example:8443"):
            with running.client(transport=PageOfAnotherOrigin(origin), headers=headers) as page:
                assert page.get("/v1/exports/none").status_code == 404
        for origin in ("https://other.example", "https://second.example", f"{ORIGIN}.evil.example"):
            with running.client(transport=PageOfAnotherOrigin(origin), headers=headers) as page:
                with pytest.raises(Blocked):
                    page.get("/v1/exports/none")
        with running.client(headers={"Origin": "https://other.example"}) as client:
            assert client.get("/v1/exports/none").headers["Vary"] == "Origin"
    postgres_server.drop(url)
