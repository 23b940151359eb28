"""Capsules, as GitNexus clients request them."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.postgres import TestServer
from tests.processes import ForkedService, Service, forked_service

CAPACITY = 3
MAX_BODY = 2_000_000
POLL_SECONDS = 0.2
STALLED_SECONDS = 15


def _graph(**changes: Any) -> dict[str, Any]:
    return {
        "sessionId": "s",
        "projectName": "p",
        "source": {"type": "folder", "baseName": "Base Name"},
        "nodes": [{"id": "f", "label": "File"}, {"id": "g", "label": "Function", "properties": {"name": "greet"}}],
        "relationships": [{"id": "r", "sourceId": "f", "targetId": "g", "type": "DEFINES"}],
        **changes,
    }


def _ended(client: httpx.Client, job_id: str, seconds: float = 60) -> dict[str, Any]:
    """Poll as the known client does, if more often: it gives up after 15 s without progress."""
    deadline, seen, moved = time.monotonic() + seconds, -1, time.monotonic()
    while time.monotonic() < deadline:
        job = client.get(f"/v1/exports/{job_id}").raise_for_status().json()
        if job["status"] in ("completed", "failed", "canceled", "expired"):
            return dict(job)
        if job["lastEventSeq"] != seen:
            seen, moved = job["lastEventSeq"], time.monotonic()
        assert time.monotonic() - moved < STALLED_SECONDS, f"stalled at {job}"
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"the capsule was not done within {seconds} s")


def test_the_requests_of_an_older_client_work_in_sequence(running: Service, tmp_path: Path) -> None:
    with running.capsule_client() as client:
        accepted = client.post("/v1/exports", json=_graph())
        assert accepted.status_code == 202
        job = accepted.json()
        assert (job["status"], job["progress"], job["currentStage"], job["message"]) == (
            "queued",
            0,
            "queued",
            "Queued for export",
        )
        events = _streamed(client, job["jobId"])
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert {"seq", "type", "stage", "progress", "message"} <= events[0].keys()
        progress = [event["progress"] for event in events]
        assert progress == sorted(progress)
        assert (events[0]["type"], events[-1]["type"], progress[-1]) == ("job_started", "job_completed", 100)
        page = client.get(f"/v1/exports/{job['jobId']}/events", params={"sinceSeq": 0, "limit": 400}).json()
        assert page["events"] == events
        done = _ended(client, job["jobId"])
        artifact = done["artifact"]
        assert artifact["fileName"].startswith("base-name-gitnexus-mem_capsule-20")
        assert artifact["fileName"].endswith(".mv2")
        download = client.get(artifact["downloadUrl"]).raise_for_status()
        assert len(download.content) == artifact["sizeBytes"]
        assert f'filename="{artifact["fileName"]}"' in download.headers["Content-Disposition"]
        part = client.get(artifact["downloadUrl"], headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, download.content[100:200])
        assert client.head(artifact["downloadUrl"]).headers["Content-Length"] == str(artifact["sizeBytes"])
        assert client.delete(f"/v1/exports/{job['jobId']}").json()["status"] == "completed"


def _streamed(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/v1/exports/{job_id}/events/stream") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "BAD_REQUEST"),
        (json.dumps(_graph(nodes=[])).encode(), 400, "INVALID_EXPORT_REQUEST"),
        (json.dumps(_graph(relationships=None)).encode(), 400, "INVALID_EXPORT_REQUEST"),
        (json.dumps(_graph(nodes=[{"id": "x"}])).encode(), 422, "VALIDATION_FAILED"),
        (b'{"x":' + b"[" * 100_000, 400, "BAD_REQUEST"),
    ],
)
def test_a_body_that_is_not_a_graph_is_refused(running: Service, body: bytes, status: int, code: str) -> None:
    with running.capsule_client() as client:
        answer = client.post("/v1/exports", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["message"]


def test_the_error_names_the_place_of_a_wrong_type(running: Service) -> None:
    with running.capsule_client() as client:
        answer = client.post("/v1/exports", json=_graph(nodes=[{"id": "a", "label": "File"}, {"id": 7, "label": "x"}]))
    assert answer.status_code == 422
    assert "$.nodes[1].id" in answer.json()["detail"]


def test_capsule_routes_need_the_key(running: Service) -> None:
    with running.client() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            answer = client.get("/v1/exports/x", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")


def test_an_unknown_job_is_not_found(running: Service) -> None:
    with running.capsule_client() as client:
        for job_id in ("nonsense", "00000000-0000-7000-8000-000000000000"):
            for path in ("", "/events", "/events/stream", "/download"):
                answer = client.get(f"/v1/exports/{job_id}{path}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "JOB_NOT_FOUND")


def test_a_repeated_request_returns_the_same_job(running: Service) -> None:
    with running.capsule_client() as client:
        headers = {"Idempotency-Key": "capsule-1"}
        first = client.post("/v1/exports", json=_graph(), headers=headers)
        again = client.post("/v1/exports", json=_graph(), headers=headers)
        other = client.post("/v1/exports", json=_graph(projectName="q"), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert first.json()["jobId"] == again.json()["jobId"]
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.fixture(scope="module")
def idle(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a worker, so that jobs stay queued."""
    url = postgres_server.create()
    folder = tmp_path_factory.mktemp("idle")
    temporary = folder / "tmp"
    temporary.mkdir()
    limits = {"MEMVID_EXPORT_QUEUE_CAPACITY": str(CAPACITY), "MEMVID_EXPORT_MAX_BODY_BYTES": str(MAX_BODY)}
    with forked_service(url, folder, workers=0, TMPDIR=str(temporary), **limits) as up:
        yield up
    postgres_server.drop(url)


@pytest.fixture
def queue(idle: Service) -> Iterator[httpx.Client]:
    """A client whose queued jobs are cancelled at the end."""
    with idle.capsule_client() as client:
        yield client
        for folder in (idle.data_dir / "capsules").iterdir():
            client.delete(f"/v1/exports/{folder.name}")
    assert _files(idle) == []


def _files(idle: Service) -> list[Path]:
    return [path for name in ("capsules", "tmp") for path in (idle.data_dir / name).rglob("*") if path.is_file()]


def test_a_full_queue_a_large_body_and_a_cancel(idle: Service, queue: httpx.Client) -> None:
    jobs = [queue.post("/v1/exports", json=_graph()).raise_for_status().json()["jobId"] for _ in range(CAPACITY)]
    full = queue.post("/v1/exports", json=_graph())
    assert (full.status_code, full.json()["error"]["code"]) == (503, "QUEUE_UNAVAILABLE")
    assert int(full.headers["Retry-After"]) > 0
    early = queue.get(f"/v1/exports/{jobs[0]}/download")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "ARTIFACT_NOT_READY")
    canceled = queue.delete(f"/v1/exports/{jobs[0]}").json()
    assert (canceled["status"], canceled["currentStage"], canceled["lastEventSeq"]) == ("canceled", "canceled", 1)
    assert [event["type"] for event in _streamed(queue, jobs[0])] == ["job_canceled"]
    large = queue.post("/v1/exports", json=_graph(fileContents={"a": "x" * MAX_BODY}))
    assert large.status_code == 413
    assert len(_files(idle)) == CAPACITY - 1, "only the waiting jobs' requests may be left"


def test_the_size_limit_applies_to_the_decompressed_graph(idle: Service, queue: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    content = json.dumps(_graph(fileContents={"a": "x" * (MAX_BODY - 1000)})).encode()
    assert len(gzip.compress(content)) < MAX_BODY / 100
    fits = queue.post("/v1/exports", content=gzip.compress(content), headers=headers)
    assert fits.status_code == 202, fits.text
    before = _files(idle)
    bomb = gzip.compress(content + b" " * 300 * MAX_BODY, 1)
    large = queue.post("/v1/exports", content=bomb, headers=headers)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    for damaged in (gzip.compress(content)[:-9], b"", content, gzip.compress(content) + b"rest"):
        refused = queue.post("/v1/exports", content=damaged, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BAD_REQUEST"), refused.text
    assert _files(idle) == before, "nothing is left of what was refused"


def test_a_repeated_request_may_be_compressed_differently(queue: httpx.Client) -> None:
    content = json.dumps(_graph()).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "packed"}
    packed = {**headers, "Content-Encoding": "x-gzip"}
    answers = [
        queue.post("/v1/exports", content=content, headers=headers),
        *(queue.post("/v1/exports", content=gzip.compress(content, level), headers=packed) for level in (1, 9)),
        queue.post("/v1/exports", content=gzip.compress(content[:50]) + gzip.compress(content[50:]), headers=packed),
    ]
    assert [answer.status_code for answer in answers] == [202, 200, 200, 200]
    assert len({answer.json()["jobId"] for answer in answers}) == 1


def test_a_replay_is_answered_while_the_queue_is_full(queue: httpx.Client) -> None:
    headers = {"Idempotency-Key": "before-it-was-full"}
    first = queue.post("/v1/exports", json=_graph(), headers=headers).raise_for_status().json()
    for _ in range(CAPACITY - 1):
        queue.post("/v1/exports", json=_graph()).raise_for_status()
    again = queue.post("/v1/exports", json=_graph(), headers=headers)
    assert (again.status_code, again.json()["jobId"]) == (200, first["jobId"])
    other = queue.post("/v1/exports", json=_graph(projectName="q"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    new = queue.post("/v1/exports", json=_graph(), headers={"Idempotency-Key": "too-late"})
    assert (new.status_code, new.json()["code"]) == (503, "QUEUE_UNAVAILABLE")


async def test_concurrent_requests_never_exceed_the_queue_capacity(idle: Service, queue: httpx.Client) -> None:
    async with httpx.AsyncClient(base_url=idle.url, headers=queue.headers, timeout=60, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post("/v1/exports", json=_graph()) for _ in range(60)))
    assert sorted(answer.status_code for answer in answers) == [202] * CAPACITY + [503] * (60 - CAPACITY)


def test_a_full_disk_is_reported_by_the_api_and_by_the_job(database_url: str, tmp_path: Path) -> None:
    limit, lines = 1_000_000, "x = 1\n" * 500
    nodes = [{"id": f"n{n}", "label": "File", "properties": {"filePath": "a.py"}} for n in range(3000)]
    up = ForkedService(database_url, tmp_path)
    try:
        processes = up.api(), up.worker()
        with up.capsule_client() as client:
            _ended(client, client.post("/v1/exports", json=_graph()).json()["jobId"])
            for process in processes:
                # Writing then fails, as it does on a full disk.
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
            refused = client.post("/v1/exports", json=_graph(fileContents={"a.py": "x" * limit}))
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "STORAGE_ERROR"), refused.text
            assert int(refused.headers["Retry-After"]) > 0
            accepted = client.post("/v1/exports", json=_graph(nodes=nodes, fileContents={"a.py": lines}))
            job = _ended(client, accepted.raise_for_status().json()["jobId"])
    finally:
        up.stop()
    message = "This host cannot keep temporary files: file too large"
    assert (job["status"], job["error"]) == ("failed", {"code": "EXPORT_FAILED", "message": message})


@pytest.mark.parametrize("name", ["minimedium", pytest.param("procrastinate", marks=pytest.mark.long)])
def test_a_real_graph_becomes_a_capsule(running: Service, shared_data: Path, name: str) -> None:
    graph = gzip.decompress((shared_data / f"graph-{name}.json.gz").read_bytes())
    with running.capsule_client() as client:
        started = time.monotonic()
        answer = client.post("/v1/exports", content=graph, headers={"Content-Type": "application/json"})
        job = _ended(client, answer.raise_for_status().json()["jobId"], 300)
        print(f"{name}: {time.monotonic() - started:.1f} s from POST to completed")
    assert job["status"] == "completed", job
