"""The whole service on buckets: no process needs a file that another one wrote to its own disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.factories import SMALL_GRAPH
from tests.object_store import ObjectStore
from tests.postgres import TestServer
from tests.processes import Service, finished, forked_service, import_file

USERS = b"".join(b'{"id":%d,"email":"user%d@example.com","name":"User"}\n' % (n, n) for n in range(2, 3_002))


@pytest.fixture(scope="module")
def buckets(s3: ObjectStore) -> dict[str, Path]:
    """The folders of the three."""
    return {name: s3.bucket(f"test-{name}") for name in ("imports", "exports", "capsules")}


@pytest.fixture(scope="module", params=["false", "true"], ids=["served", "redirected"])
def running(
    request: pytest.FixtureRequest,
    postgres_server: TestServer,
    tmp_path_factory: pytest.TempPathFactory,
    s3: ObjectStore,
    buckets: dict[str, Path],
) -> Iterator[Service]:
    url = postgres_server.create()
    settings = {
        **s3.environment,
        "IMPORT_STORAGE_PATH": "s3://test-imports/in",
        "EXPORT_STORAGE_PATH": "s3://test-exports",
        "MEMVID_EXPORT_ROOT": "s3://test-capsules/deep/prefix",
        "DOWNLOAD_REDIRECT": request.param,
    }
    with forked_service(url, tmp_path_factory.mktemp("service"), **settings) as up:
        yield up
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def is_redirected(running: Service) -> bool:
    return running.environment["DOWNLOAD_REDIRECT"] == "true"


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _download(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    """Follow a redirect as a client would: without the credentials."""
    answer = client.get(path, headers=headers)
    if answer.status_code == 307:
        answer = httpx.get(answer.headers["Location"], headers=headers, trust_env=False)
    return answer


def test_records_go_in_and_out_through_buckets(
    admin: httpx.Client, running: Service, buckets: dict[str, Path], is_redirected: bool
) -> None:
    job = finished(admin, import_file(admin, "users", USERS, key="bucket")["id"])
    assert (job["status"], job["successCount"]) == ("succeeded", 3_000)
    assert f"in/{job['id']}/source" in _files(buckets["imports"])

    asked = admin.post("/api/v1/exports", json={"resource": "users", "fields": ["id", "email", "name"]}).json()
    export = finished(admin, asked["exportJob"]["id"])
    assert export["status"] == "succeeded"
    first = admin.get(export["downloadUrl"])
    assert first.status_code == (307 if is_redirected else 200)
    whole = _download(admin, export["downloadUrl"])
    assert hashlib.sha256(whole.content).hexdigest() == export["sha256"]
    assert [json.loads(line)["id"] for line in whole.text.splitlines()] == list(range(1, 3_002))
    part = _download(admin, export["downloadUrl"], Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])

    assert admin.delete(f"/api/v1/exports/{export['id']}").status_code == 200
    assert not [name for name in _files(buckets["exports"]) if export["id"] in name]
    assert admin.get(export["downloadUrl"]).status_code == 410


def test_capsules_go_through_buckets(capsules: httpx.Client, buckets: dict[str, Path]) -> None:
    job_id = capsules.post("/v1/exports", json=SMALL_GRAPH).raise_for_status().json()["jobId"]
    with capsules.stream("GET", f"/v1/exports/{job_id}/events/stream") as events:
        assert "event: job_completed" in list(events.iter_lines())
    job = capsules.get(f"/v1/exports/{job_id}").json()
    content = _download(capsules, job["artifact"]["downloadUrl"]).content
    assert hashlib.sha256(content).hexdigest() == job["artifact"]["sha256"]
    assert [name for name in _files(buckets["capsules"]) if job_id in name and name.startswith("deep/prefix/")]


def test_readyz_reports_a_missing_bucket(running: Service, s3: ObjectStore) -> None:
    moved = s3.folder / "moved"
    (s3.folder / "test-exports").rename(moved)
    try:
        with running.client() as client:
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_ERROR")
    finally:
        moved.rename(s3.folder / "test-exports")
