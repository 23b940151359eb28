"""What settings change for a client: limits, addresses, roles, a capsule key that is not there."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from tests.postgres import TestServer
from tests.problems import NEVER, problem_of
from tests.processes import Service, forked_service
from wherry.settings import load_settings

USERS = b'{"email":"one@example.com","name":"One"}\n'
URL = "https://files.wherry.invalid/users.ndjson"


@pytest.fixture(scope="module")
def strict(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a worker and without a capsule key, in which nothing is allowed more than a few times."""
    url = postgres_server.create()
    settings = {
        "MEMVID_EXPORT_API_KEY": "",
        "TRANSFER_ROLES": "user,admin",
        "IMPORT_CONCURRENT_LIMIT_USER": "1",
        "EXPORT_CONCURRENT_LIMIT_USER": "3",
        "EXPORT_RATE_LIMIT_PER_HOUR": "2",
        "IMPORT_MAX_FILE_SIZE": "1000",
        "IMPORT_ALLOWED_HOSTS": "wherry.invalid, example.com",
        "EXPORT_STREAM_MAX_LIMIT": "1",
    }
    with forked_service(url, tmp_path_factory.mktemp("strict"), workers=0, **settings) as up:
        yield up
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def user(strict: Service) -> Iterator[httpx.Client]:
    """Somebody who is not the first, and so no administrator."""
    with strict.admin(), strict.client() as client:
        fields = {"username": "deckhand", "email": "deckhand@example.com", "password": "some long password"}
        token = client.post("/api/users", json={"user": fields}).raise_for_status().json()["user"]["token"]
        client.headers["Authorization"] = f"Token {token}"
        yield client


def _import(client: httpx.Client, key: str, content: bytes = USERS) -> httpx.Response:
    files = {"file": ("users.ndjson", content)}
    return client.post("/api/v1/imports", headers={"Idempotency-Key": key}, files=files, data={"resource": "users"})


def test_roles_open_the_transfer_routes_but_not_those_of_administrators(user: httpx.Client) -> None:
    assert user.get("/api/v1/jobs").status_code == 200
    problem_of(user.post("/api/v1/users/1/onboarding-link"), 403, "FORBIDDEN")


def test_an_unfinished_import_over_the_limit_is_a_429(user: httpx.Client) -> None:
    first = _import(user, "first")
    assert first.status_code == 202
    problem_of(_import(user, "second"), 429, "CONCURRENT_LIMIT")
    assert _import(user, "first").status_code == 200, "a replay is no new job"
    cancelled = user.delete(first.headers["Location"])
    assert (cancelled.status_code, cancelled.json()["importJob"]["status"]) == (200, "cancelled")
    assert user.delete(first.headers["Location"]).status_code == 200
    assert _import(user, "third").status_code == 202


def test_an_export_over_the_hourly_limit_is_a_429(user: httpx.Client) -> None:
    jobs = [user.post("/api/v1/exports", json={"resource": "users"}) for _ in range(2)]
    assert [job.headers["RateLimit"].partition(";t=")[0] for job in jobs] == ['"exports";r=1', '"exports";r=0']
    refused = user.post("/api/v1/exports", json={"resource": "users"})
    problem_of(refused, 429, "RATE_LIMITED")
    assert refused.headers["RateLimit"].startswith('"exports";r=0;t=')
    assert refused.headers["RateLimit-Policy"] == '"exports";q=2;w=3600'
    early = problem_of(user.get(f"{jobs[0].headers['Location']}/download"), 409)
    assert "queued" in early["detail"]
    cancelled = user.delete(jobs[0].headers["Location"])
    assert (cancelled.status_code, cancelled.json()["exportJob"]["status"]) == (200, "cancelled")


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_over_the_limit_is_a_413_however_it_is_sent(strict: Service, declared: bool) -> None:
    body = b"x" * 2000
    with strict.admin() as client:
        problem_of(_import(client, "large", body), 413, "FILE_TOO_LARGE", field="file")
        answer = client.post(
            "/api/v1/imports?resource=users",
            content=body if declared else iter([body]),
            headers={"Idempotency-Key": "large", "Content-Type": "application/x-ndjson"},
        )
        problem_of(answer, 413, "FILE_TOO_LARGE", field="file")
    assert [
        path for path in (strict.data_dir / "imports").rglob("*") if path.is_file() and path.stat().st_size > 999
    ] == []


@pytest.mark.parametrize("host", ["example.org", "notexample.com", "example.com.example.org", "xwherry.invalid"])
def test_urls_are_fetched_from_allowed_hosts_only(strict: Service, host: str) -> None:
    with strict.admin() as client:
        answer = client.post(
            "/api/v1/imports",
            json={"import": {"resource": "users", "url": f"https://{host}/users.ndjson"}},
            headers={"Idempotency-Key": host},
        )
    problem_of(answer, 422, "URL_NOT_ALLOWED", field="url")


def test_a_subdomain_of_an_allowed_host_is_allowed(strict: Service) -> None:
    with strict.admin() as client:
        headers = {"Idempotency-Key": "subdomain"}
        answer = client.post("/api/v1/imports", json={"resource": "users", "url": URL}, headers=headers)
    assert answer.status_code == 202, answer.text


def test_a_page_has_no_more_records_than_the_setting_says(user: httpx.Client) -> None:
    page = user.get("/api/v1/exports", params={"resource": "users", "format": "json"}).json()
    assert (len(page["data"]), page["nextCursor"]) == (1, 1)
    problem_of(user.get("/api/v1/exports", params={"resource": "users", "limit": 2}), 422, field="limit")


@pytest.mark.parametrize("path", ["", "/events", "/events/stream", "/download"])
@pytest.mark.parametrize("credential", ["", "Bearer ", "Bearer a key for tests"])
def test_without_a_configured_key_no_key_opens_the_capsule_routes(strict: Service, path: str, credential: str) -> None:
    with strict.client(headers={"Authorization": credential.strip()}) as client:
        problem_of(client.get(f"/v1/exports/{NEVER}{path}"), 503, "API_KEY_NOT_CONFIGURED")
        problem_of(client.post("/v1/exports", json={}), 503, "API_KEY_NOT_CONFIGURED")


def test_options_of_a_database_url_reach_the_server(database_url: str) -> None:
    settings = load_settings(database_url=f"{database_url}?schema=public&options=-c%20statement_timeout%3D60000")
    with psycopg.connect(settings.require_database_url()) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("1min",)
