"""Whatever schemathesis generates from `/openapi.json`, the response is one that the document describes.

Every check of the responses is on, for every route and every phase, and no failure is suppressed. The checks that are
left out judge requests instead: whether a body that the document allows is accepted (a registration with a taken
name is not), and whether one that it forbids is refused (unknown members are ignored).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import SMALL_GRAPH
from tests.postgres import TestServer
from tests.processes import API_KEY, Service, finished, import_file, service

pytestmark = pytest.mark.security

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance"),
)
UNLIMITED = {
    **dict.fromkeys(("IMPORT_RATE_LIMIT_PER_HOUR", "EXPORT_RATE_LIMIT_PER_HOUR"), "1000000"),
    **dict.fromkeys(("IMPORT_CONCURRENT_LIMIT_USER", "EXPORT_CONCURRENT_LIMIT_USER"), "1000000"),
    "MEMVID_EXPORT_QUEUE_CAPACITY": "1000000",
    "LOG_LEVEL": "warning",
}
ROUTES = {
    "records": "^/api/v1/",
    "accounts": "^/api/user",
    "capsules": "^/v1/",
    "health": "^/(healthz|readyz)",
}
EXAMPLES = [pytest.param(10, id="short"), pytest.param(300, id="long", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def unlimited(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with very high limits: with the usual ones, every response would soon be a 429."""
    url = postgres_server.create()
    with service(url, tmp_path_factory.mktemp("conformance"), **UNLIMITED) as running:
        yield running
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def credentials(unlimited: Service) -> dict[str, str]:
    """By name of `ROUTES`. Requests for accounts change the password, which ends their own JWT: 401 from then on."""
    with unlimited.admin() as admin:
        made = admin.post("/api/user/tokens", json={"name": "conformance"}).raise_for_status()
        login = admin.headers["Authorization"]
    token, key = f"Bearer {made.json()['apiToken']['token']}", f"Bearer {API_KEY}"
    return {"records": token, "accounts": login, "capsules": key, "health": key}


@pytest.fixture(scope="module")
def known_jobs(unlimited: Service, credentials: dict[str, str]) -> dict[str, str]:
    """By path prefix, a job that has ended and whose routes have something to show."""
    with unlimited.client(headers={"Authorization": credentials["records"]}) as client:
        imported = import_file(client, "users", b'{"email": "a@example.com", "name": "A"}\n{"name": ""}\n', key="known")
        finished(client, imported["id"])
        exported = client.post("/api/v1/exports", json={"resource": "users"}).raise_for_status().json()["exportJob"]
        finished(client, exported["id"])
    with unlimited.capsule_client() as client:
        capsule = client.post("/v1/exports", json=SMALL_GRAPH).raise_for_status().json()["jobId"]
        client.get(f"/v1/exports/{capsule}/events/stream").raise_for_status()
    return {
        "/api/v1/imports/": imported["id"],
        "/api/v1/exports/": exported["id"],
        "/api/v1/jobs/": imported["id"],
        "/v1/exports/": capsule,
    }


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ROUTES)
def test_every_response_is_described_in_the_openapi_document(
    unlimited: Service, credentials: dict[str, str], tmp_path: Path, name: str, examples: int
) -> None:
    _conform(unlimited, credentials[name], tmp_path, ROUTES[name], examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["records", "capsules"])
def test_every_response_about_an_existing_job_is_described(
    unlimited: Service,
    credentials: dict[str, str],
    known_jobs: dict[str, str],
    tmp_path: Path,
    name: str,
    examples: int,
) -> None:
    configured = [
        f'[[operations]]\ninclude-path-regex = "^{prefix}"\nparameters = {{ job_id = "{job_id}" }}\n'
        for prefix, job_id in known_jobs.items()
    ]
    (tmp_path / "schemathesis.toml").write_text("\n".join(configured))
    _conform(unlimited, credentials[name], tmp_path, rf"{ROUTES[name]}(imports|exports|jobs)/\{{job_id", examples)


def test_all_routes_are_tested(unlimited: Service) -> None:
    with unlimited.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert [path for path in paths if not any(re.search(pattern, path) for pattern in ROUTES.values())] == []


def _conform(running: Service, credential: str, folder: Path, routes: str, examples: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"]
    options = {
        "--header": f"Authorization: {credential}",
        "--include-path-regex": routes,
        "--checks": ",".join(CHECKS),
        "--max-examples": str(examples),
        "--request-timeout": "30",
        "--seed": "1",
    }
    words = [word for option in options.items() for word in option]
    done = subprocess.run([*command, *words, "--no-color"], cwd=folder, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: ([0-9]+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) > 0
