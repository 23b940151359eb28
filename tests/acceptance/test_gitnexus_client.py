"""The GitNexus browser client makes a capsule, with excerpts of a real project's files: this one's."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cross_origin import PageOfAnotherOrigin
from tests.gitnexus import GitNexusClient
from tests.processes import API_KEY, Service
from wherry.capsules.snippets import NO_SOURCE
from wherry.memvid import sdk
from wherry.memvid.safe_text import restore

SOURCE = Path(__file__).resolve().parents[2] / "src" / "wherry"
ENDED = ("completed", "failed", "canceled", "expired")
POLL_SECONDS = 0.2


def project(*packages: str) -> dict[str, Any]:
    """The graph of some packages, with whole files."""
    files = [path for package in packages for path in sorted((SOURCE / package).glob("*.py"))]
    contents = {str(path.relative_to(SOURCE)): path.read_text() for path in files}
    nodes = [node for path, text in contents.items() for node in _nodes(path, text)]
    symbols = [node for node in nodes if node["label"] != "File"]
    return {
        "sessionId": "s",
        "projectName": "wherry",
        "source": {"type": "folder", "baseName": "wherry"},
        "nodes": nodes,
        "relationships": [
            {
                "id": f"r{number}",
                "sourceId": f"File:{node['properties']['filePath']}",
                "targetId": node["id"],
                "type": "X",
            }
            for number, node in enumerate(symbols)
        ],
        "fileContents": contents,
        "options": {
            "semanticEnabled": False,
            "maxSnippetChars": 1400,
            "maxNodeFrames": 9000,
            "maxRelationFrames": 9000,
        },
    }


def _nodes(path: str, text: str) -> list[dict[str, Any]]:
    nodes = [{"id": f"File:{path}", "label": "File", "properties": {"name": Path(path).name, "filePath": path}}]
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and item.end_lineno:
            label = "Class" if isinstance(item, ast.ClassDef) else "Function"
            lines = {"startLine": item.lineno - 1, "endLine": item.end_lineno - 1}
            properties = {"name": item.name, "filePath": path, **lines}
            nodes.append({"id": f"{label}:{path}:{item.name}:{item.lineno}", "label": label, "properties": properties})
    return nodes


@pytest.fixture(scope="module")
def graph() -> dict[str, Any]:
    return project("jobs", "capsules", "http")


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[GitNexusClient]:
    """The client runs in a page of another origin, as it does if it is hosted separately."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with running.client(transport=PageOfAnotherOrigin(), headers=headers) as http:
        yield GitNexusClient(http)


@pytest.fixture(scope="module")
def made(client: GitNexusClient, graph: dict[str, Any]) -> dict[str, Any]:
    """A job that the client has waited for as it does: by asking again and again."""
    job_id, deadline = client.start(graph)["jobId"], time.monotonic() + 60
    while (job := client.status(job_id))["status"] not in ENDED:
        assert time.monotonic() < deadline, job
        time.sleep(POLL_SECONDS)
    assert job["status"] == "completed", job
    return job


def test_the_client_sees_every_event_of_a_job_as_it_happens(client: GitNexusClient, graph: dict[str, Any]) -> None:
    job_id = client.start(graph)["jobId"]
    events = list(client.stream(job_id))
    assert [event["seq"] for event in events] == list(range(1, client.status(job_id)["lastEventSeq"] + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("job_started", "job_completed")
    assert {event["type"] for event in events[1:-1]} <= {"stage_progress", "stage_heartbeat"}
    assert {"transform", "write_capsule", "finalize", "download_ready"} <= {event["stage"] for event in events}
    assert all(event["emoji"] for event in events)
    assert list(client.stream(job_id, since=events[1]["seq"])) == events[2:]


@pytest.mark.parametrize("limit", [1, 2, 400])
def test_the_client_pages_through_the_log_without_a_gap_or_a_repetition(
    client: GitNexusClient, made: dict[str, Any], limit: int
) -> None:
    assert [event["seq"] for event in client.log(made["jobId"], limit)] == list(range(1, made["lastEventSeq"] + 1))


def test_no_frame_of_the_capsule_shows_a_line_that_is_not_its_own(
    client: GitNexusClient, made: dict[str, Any], graph: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    capsule = tmp_path / made["artifact"]["fileName"]
    capsule.write_bytes(client.download(made))
    reader = sdk.open_for_reading(capsule)
    shown = 0
    try:
        for node in graph["nodes"]:
            snippet = restore(reader.blob(f"mv2://nodes/{node['id']}").decode()).split("\n\n", 1)[1]
            properties = node["properties"]
            lines = graph["fileContents"][properties["filePath"]].split("\n")
            own = "\n".join(lines[properties.get("startLine", 0) : properties.get("endLine", 79) + 1])
            if snippet != NO_SOURCE:
                assert own.startswith(snippet.split("\n… [cut: ")[0]), node["id"]
                shown += "startLine" in properties
    finally:
        reader.close()
    assert shown > 0.4 * len(graph["nodes"]), "about half of the symbols are in what is sent"


def test_the_client_cancels_a_job(client: GitNexusClient, graph: dict[str, Any]) -> None:
    job_id = client.start(graph)["jobId"]
    assert client.cancel(job_id)["status"] == "canceled"
    assert list(client.stream(job_id))[-1]["type"] == "job_canceled"
