"""The capsule routes, as GitNexus clients use them, and as nobody should."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.problems import problem_of

NODE = {"id": "a", "label": "File"}
EDGE = {"id": "r", "sourceId": "a", "targetId": "a", "type": "X"}
GRAPH: dict[str, Any] = {
    "sessionId": "s",
    "projectName": "p",
    "source": {"type": "folder", "baseName": "b"},
    "nodes": [NODE],
    "relationships": [EDGE],
}
JSON = {"Content-Type": "application/json"}


def _post(client: httpx.Client, graph: object) -> httpx.Response:
    """As bytes of ASCII: lone surrogates and all."""
    return client.post("/v1/exports", content=json.dumps(graph).encode(), headers=JSON)


def _events(client: httpx.Client, job_id: str, since: int = 0) -> list[dict[str, Any]]:
    """The job's log, from the stream, which ends with the job."""
    answer = client.get(f"/v1/exports/{job_id}/events/stream", params={"sinceSeq": since}, timeout=60)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "\r" not in answer.text
    text = answer.text.strip()
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    events = [json.loads(block["data"]) for block in blocks if "data" in block]
    assert [(block["id"], block["event"]) for block in blocks if "data" in block] == [
        (str(event["seq"]), event["type"]) for event in events
    ]
    return events


@pytest.fixture(scope="module")
def made(capsules: httpx.Client) -> dict[str, Any]:
    """A capsule job that has completed."""
    job_id = _post(capsules, GRAPH).json()["jobId"]
    _events(capsules, job_id)
    return dict(capsules.get(f"/v1/exports/{job_id}").json())


def test_a_graph_is_accepted_with_everything_that_a_client_reads(capsules: httpx.Client) -> None:
    answer = _post(capsules, {**GRAPH, "unknown": 1, "options": None, "fileContents": None})
    assert answer.status_code == 202
    job = answer.json()
    assert UUID(job.pop("jobId")).version == 7
    assert answer.headers["Location"].startswith("/v1/exports/")
    assert job.pop("createdAt").endswith("Z")
    assert job == {
        "status": "queued",
        "progress": 0,
        "currentStage": "queued",
        "stageProgress": 0,
        "message": "Queued for export",
    }


def test_a_completed_job_and_its_artifact(capsules: httpx.Client, made: dict[str, Any]) -> None:
    assert list(made) == [
        *("jobId", "status", "progress", "currentStage", "stageProgress", "message", "createdAt", "elapsedMs"),
        *("lastEventSeq", "updatedAt", "artifact", "error"),
    ]
    assert (made["status"], made["progress"], made["currentStage"], made["error"]) == (
        "completed",
        100,
        "download_ready",
        None,
    )
    artifact = made["artifact"]
    assert artifact["search"] == "full"
    assert artifact["downloadUrl"] == f"/v1/exports/{made['jobId']}/download"
    download = capsules.get(artifact["downloadUrl"])
    assert len(download.content) == artifact["sizeBytes"]
    assert hashlib.sha256(download.content).hexdigest() == artifact["sha256"]
    assert download.headers["Content-Type"] == "application/octet-stream"
    assert download.headers["Content-Disposition"] == f'attachment; filename="{artifact["fileName"]}"'
    assert download.headers["ETag"] == f'"{artifact["sha256"]}"'
    assert {"Accept-Ranges", "Repr-Digest", "Content-Length"} <= {name.title() for name in download.headers}
    part = capsules.get(artifact["downloadUrl"], headers={"Range": "bytes=-7"})
    assert (part.status_code, part.content) == (206, download.content[-7:])
    problem_of(capsules.get(artifact["downloadUrl"], headers={"Range": "bytes=999999999-"}), 416)


def test_the_log_is_the_same_as_a_page_and_as_a_stream(capsules: httpx.Client, made: dict[str, Any]) -> None:
    path = f"/v1/exports/{made['jobId']}/events"
    events = _events(capsules, made["jobId"])
    page = capsules.get(path, params={"limit": 2000}).json()
    assert page["events"] == events
    assert page["nextSeq"] == events[-1]["seq"] + 1 == made["lastEventSeq"] + 1
    assert page["statusSnapshot"] == made
    assert {tuple(event) for event in events} == {
        ("seq", "ts", "jobId", "type", "stage", "progress", "stageProgress", "emoji", "message", "meta")
    }
    assert all(event["emoji"] for event in events)
    some = capsules.get(path, params={"sinceSeq": 1, "limit": 2}).json()
    assert (some["events"], some["nextSeq"]) == (events[1:3], 4)
    assert _events(capsules, made["jobId"], since=2) == events[2:]
    behind = capsules.get(path, params={"sinceSeq": 1000}).json()
    assert (behind["events"], behind["nextSeq"]) == ([], 1001)


def test_deleting_a_completed_job_changes_nothing(capsules: httpx.Client, made: dict[str, Any]) -> None:
    answer = capsules.delete(f"/v1/exports/{made['jobId']}")
    assert (answer.status_code, answer.json()) == (200, made)


ODD_NODE = {"id": "a\0", "label": "\0", "properties": {"name": 5, "startLine": "x", "filePath": [], "k": {}}}


@pytest.mark.parametrize(
    "change",
    [
        {"projectName": "a\0b", "sessionId": "\0", "source": {"type": "\0", "baseName": "a\0b"}, "nodes": [ODD_NODE]},
        {
            "projectName": "\ud800",
            "source": {"type": "zip", "baseName": "\ud800", "url": None},
            "nodes": [{"id": "a", "label": "New", "properties": None}],
            "relationships": [{**EDGE, "targetId": "gone", "confidence": None, "reason": None, "step": None}],
            "fileContents": {"a": None},
            "options": {"maxNodeFrames": 10**30, "maxSnippetChars": 10**30, "semanticEnabled": True},
        },
    ],
)
def test_a_graph_from_a_real_client_becomes_a_capsule(capsules: httpx.Client, change: dict[str, Any]) -> None:
    answer = _post(capsules, GRAPH | change)
    assert answer.status_code == 202, answer.text
    events = _events(capsules, answer.json()["jobId"])
    assert events[-1]["type"] == "job_completed"
    asked = change.get("options", {}).get("semanticEnabled", False)
    assert any("semantic" in str(event).lower() for event in events) == asked, (
        "an event says that there are no embeddings"
    )


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"nodes": []}, 400, "node"),
        ({"nodes": None}, 400, "node"),
        ({"relationships": []}, 400, "relationship"),
        ({"sessionId": None}, 422, "sessionId"),
        ({"projectName": 5}, 422, "projectName"),
        ({"source": None}, 422, "source"),
        ({"source": {"baseName": "b"}}, 422, "type"),
        ({"nodes": {}}, 422, "nodes"),
        ({"nodes": [NODE, {"id": "b"}]}, 422, "nodes[1]"),
        ({"nodes": [{**NODE, "id": 7}]}, 422, "nodes[0].id"),
        ({"relationships": [EDGE, {**EDGE, "confidence": "high"}]}, 422, "relationships[1].confidence"),
        ({"options": {"maxNodeFrames": -1}}, 422, "maxNodeFrames"),
    ],
)
def test_what_is_wrong_with_a_graph_is_named(
    capsules: httpx.Client, change: dict[str, Any], status: int, said: str
) -> None:
    code = "INVALID_EXPORT_REQUEST" if status == 400 else None
    assert said in problem_of(_post(capsules, GRAPH | change), status, code)["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"nonsense", b"\x1f\x8b\x08", b'{"a":' * 100_000])
def test_a_body_that_is_not_json_is_a_400(capsules: httpx.Client, content: bytes) -> None:
    problem_of(capsules.post("/v1/exports", content=content, headers=JSON), 400)


@pytest.mark.parametrize("key", [b"", b'""', b"k" * 256])
def test_an_empty_or_too_long_key_is_a_422(capsules: httpx.Client, key: bytes) -> None:
    problem_of(capsules.post("/v1/exports", json=GRAPH, headers={b"Idempotency-Key": key}), 422)


@pytest.mark.parametrize("name", ["sinceSeq", "limit"])
@pytest.mark.parametrize("text", ["-1", "abc", "1e2", "1.0", "\0", "\u0661", "9" * 30, "9" * 5000])
def test_a_log_takes_whole_numbers_only(capsules: httpx.Client, made: dict[str, Any], name: str, text: str) -> None:
    path = f"/v1/exports/{made['jobId']}/events"
    assert name in problem_of(capsules.get(path, params={name: text}), 422)["detail"]
    if name == "sinceSeq":
        assert name in problem_of(capsules.get(f"{path}/stream", params={name: text}), 422)["detail"]


@pytest.mark.parametrize("text", ["0", "2001"])
def test_a_page_of_a_log_has_1_to_2000_events(capsules: httpx.Client, made: dict[str, Any], text: str) -> None:
    problem = problem_of(capsules.get(f"/v1/exports/{made['jobId']}/events", params={"limit": text}), 422)
    assert "limit must be an integer " in problem["detail"]


def test_a_capsule_job_belongs_to_no_user(admin: httpx.Client, capsules: httpx.Client, made: dict[str, Any]) -> None:
    """But operators see it among everybody's jobs."""
    problem_of(admin.get(f"/api/v1/exports/{made['jobId']}"), 404, "JOB_NOT_FOUND")
    assert admin.get("/api/v1/jobs", params={"kind": "capsule"}).json() == {"jobs": [], "nextCursor": None}
    everybodys = admin.get("/api/v1/jobs", params={"kind": "capsule", "owner": "all", "limit": 200}).json()["jobs"]
    assert made["jobId"] in [job["id"] for job in everybodys]
    export = admin.post("/api/v1/exports", json={"resource": "users"}).json()["exportJob"]
    problem_of(capsules.get(f"/v1/exports/{export['id']}"), 404, "JOB_NOT_FOUND")
