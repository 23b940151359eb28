"""The log has one line per request, and per run one for its start and one for its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories import SMALL_GRAPH
from tests.processes import API_KEY, PASSWORD, Service, finished, forked_service, import_file

IDENTITY = {"jobId", "kind", "resource", "format", "epoch", "requestId"}
FIGURES = {"status", "durationMs", "processedRecords", "rowsPerSecond", "errorCount", "errorRate", "fileSize"}
SECRET_QUERY = "a-secret-in-a-query"


@pytest.fixture(scope="module")
def story(postgres_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What happened, and every line that a service logged from its start to its end, the workers' included."""
    url, folder = postgres_server.create(), tmp_path_factory.mktemp("service")
    with forked_service(url, folder) as up:
        told = _happen(up)
    yield {**told, "lines": _lines(up), "text": up.log.read_text()}
    postgres_server.drop(url)


def _happen(up: Service) -> dict[str, Any]:
    records = b'{"email":"a@example.com","name":"A"}\n{"email":"b@example.com","name":""}\n'
    with up.admin() as admin:
        admin.headers["X-Request-Id"] = "import-request"
        imported = import_file(admin, "users", records, key="one")["id"]
        finished(admin, imported)
        admin.headers["X-Request-Id"] = "export-request"
        asked = admin.post("/api/v1/exports", json={"resource": "users"})
        exported = asked.raise_for_status().json()["exportJob"]["id"]
        finished(admin, exported)
        del admin.headers["X-Request-Id"]
        size = len(admin.get(f"/api/v1/exports/{exported}/download").content)
        admin.get("/api/v1/exports", params={"resource": SECRET_QUERY})
        admin.get("/no/such/route")
    with up.capsule_client() as capsules:
        made = capsules.post("/v1/exports", json=SMALL_GRAPH).raise_for_status().json()["jobId"]
        capsules.get(f"/v1/exports/{made}/events/stream").raise_for_status()  # ends when the job has
    return {"imported": imported, "exported": exported, "made": made, "sent": len(records), "size": size}


def _lines(up: Service) -> list[dict[str, Any]]:
    """What its processes logged; all of it once they have ended."""
    return [json.loads(line) for line in up.log.read_text().splitlines() if line.startswith("{")]


def _of(story: dict[str, Any], event: str, job: str) -> dict[str, Any]:
    """The one line of an event and a job."""
    (line,) = [line for line in story["lines"] if line["event"] == event and line.get("jobId") == story[job]]
    return dict(line)


@pytest.mark.parametrize("job", ["imported", "exported", "made"])
def test_every_run_logs_once_that_it_started_and_once_how_it_ended(story: dict[str, Any], job: str) -> None:
    started, completed = _of(story, "job.started", job), _of(story, "job.completed", job)
    assert started.keys() >= IDENTITY
    assert completed.keys() >= IDENTITY | FIGURES
    assert {name: started[name] for name in IDENTITY} == {name: completed[name] for name in IDENTITY}
    assert (started["level"], completed["level"]) == ("info", "info")
    assert completed["durationMs"] > 0


def test_an_import_is_logged_with_its_counts_and_request_id(story: dict[str, Any]) -> None:
    line = _of(story, "job.completed", "imported")
    counts = {"status": "partial", "processedRecords": 2, "errorCount": 1, "errorRate": 0.5, "fileSize": story["sent"]}
    assert {name: line[name] for name in counts} == counts
    assert (line["kind"], line["resource"], line["format"], line["epoch"]) == ("import", "users", "ndjson", 1)
    assert line["requestId"] == "import-request"
    assert line["rowsPerSecond"] == pytest.approx(2000 / line["durationMs"], rel=0.2)


def test_an_export_is_logged_with_its_rows_and_file_size(story: dict[str, Any]) -> None:
    line = _of(story, "job.completed", "exported")
    assert (line["status"], line["processedRecords"], line["fileSize"]) == ("succeeded", 2, story["size"])
    assert line["requestId"] == "export-request"


def test_a_request_without_an_id_is_logged_with_the_generated_one(story: dict[str, Any]) -> None:
    (request,) = [x for x in _requests(story) if (x["method"], x["path"]) == ("POST", "/v1/exports")]
    assert _of(story, "job.completed", "made")["requestId"] == request["requestId"]


def test_every_request_is_logged_with_its_status_and_client_address(story: dict[str, Any]) -> None:
    seen = {(line["method"], line["path"]): line for line in _requests(story)}
    assert seen["POST", "/api/v1/imports"]["status"] == 202
    assert seen["GET", "/no/such/route"]["status"] == 404
    assert seen["GET", "/api/v1/exports"]["status"] == 422
    download = seen["GET", f"/api/v1/exports/{story['exported']}/download"]
    assert (download["status"], download["complete"], download["client"]) == (200, True, "127.0.0.1")
    assert all(line["level"] == "info" and line["durationMs"] >= 0 and line["requestId"] for line in _requests(story))


def test_a_stream_is_logged_when_it_ends(story: dict[str, Any]) -> None:
    (stream,) = [line for line in _requests(story) if line["path"] == f"/api/v1/jobs/{story['imported']}/events"]
    completed = _of(story, "job.completed", "imported")
    assert stream["timestamp"] > _of(story, "job.started", "imported")["timestamp"]
    assert stream["complete"]
    assert completed["status"] == "partial"


def test_no_line_shows_a_credential_or_a_query(story: dict[str, Any]) -> None:
    for secret in (SECRET_QUERY, API_KEY, PASSWORD, "Bearer", "eyJ"):
        assert secret not in story["text"]


def _requests(story: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for line in story["lines"] if line["event"] == "request"]


def test_a_client_that_leaves_a_stream_early_is_logged_as_such(database_url: str, tmp_path: Path) -> None:
    with forked_service(database_url, tmp_path, workers=0) as up:
        with up.capsule_client() as capsules:
            job_id = capsules.post("/v1/exports", json=SMALL_GRAPH).json()["jobId"]
            with capsules.stream("GET", f"/v1/exports/{job_id}/events/stream") as stream:
                assert stream.status_code == httpx.codes.OK
    (line,) = [line for line in _lines(up) if line.get("path") == f"/v1/exports/{job_id}/events/stream"]
    assert (line["status"], line["complete"]) == (200, False)


def test_a_capsule_that_is_cancelled_while_it_runs_is_logged_only_as_cancelled(
    database_url: str, tmp_path: Path
) -> None:
    nodes = [
        {"id": f"n{number}", "label": "Function", "properties": {"name": f"f{number}"}} for number in range(20_000)
    ]
    with forked_service(database_url, tmp_path) as up, up.capsule_client() as capsules:
        job_id = capsules.post("/v1/exports", json={**SMALL_GRAPH, "nodes": nodes}).raise_for_status().json()["jobId"]
        with capsules.stream("GET", f"/v1/exports/{job_id}/events/stream") as events:
            next(line for line in events.iter_lines() if "write_capsule" in line)
            assert capsules.delete(f"/v1/exports/{job_id}").json()["status"] == "canceled"
    of_job = [line for line in _lines(up) if line.get("jobId") == job_id]
    assert [line["event"] for line in of_job] == ["job.started", "job.completed"]
    assert (of_job[1]["status"], of_job[1]["kind"]) == ("cancelled", "capsule")
    assert {line["level"] for line in _lines(up)} == {"info"}
