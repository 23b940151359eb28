"""Capsules under faults: complete and verified, or failed without leftovers."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import API_KEY, Service, pids_of, service
from wherry.memvid.search import found_in

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

SEED = 5
NODES = 400
END_SECONDS = 120


def _graph(number: int) -> bytes:
    nodes = [{"id": f"n{n}", "label": "Function", "properties": {"name": f"symbol_{n}"}} for n in range(NODES)]
    edges = [{"id": f"r{n}", "sourceId": f"n{n}", "targetId": "n0", "type": "CALLS"} for n in range(NODES)]
    source = {"type": "folder", "baseName": "fire"}
    graph = {"sessionId": str(number), "projectName": "p", "source": source, "nodes": nodes, "relationships": edges}
    return json.dumps(graph).encode()


def _submit(client: httpx.Client, number: int) -> str:
    answer = client.post("/v1/exports", content=_graph(number), headers={"Content-Type": "application/json"})
    return str(answer.raise_for_status().json()["jobId"])


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    with client.stream("GET", f"/v1/exports/{job_id}/events/stream", timeout=END_SECONDS) as stream:
        for _ in stream.iter_lines():
            pass
    return dict(client.get(f"/v1/exports/{job_id}").json())


def _check(client: httpx.Client, job_id: str, folder: Path) -> None:
    job = _ended(client, job_id)
    assert job["status"] in ("completed", "failed"), job
    if job["status"] == "failed":
        assert job["error"]["message"]
        return
    file = folder / "capsule.mv2"
    file.write_bytes(client.get(job["artifact"]["downloadUrl"]).raise_for_status().content)
    assert any("symbol_17" in title for title in found_in(file, "symbol_17"))


def _wait_for_writer(pid: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := pids_of("wherry.memvid.writer_process", parent=pid):
            return found[0]
        time.sleep(0.01)
    raise AssertionError("no writer process was started")


def _clean(up: Service) -> None:
    """Nothing temporary is left."""
    assert list(Path(up.environment["TMPDIR"]).iterdir()) == []


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_killed_writer_loses_no_capsule(database_url: str, tmp_path: Path, kills: int) -> None:
    chance = random.Random(SEED)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with service(database_url, tmp_path, workers=0, TMPDIR=str(temporary)) as up, up.capsule_client() as client:
        worker = up.worker()
        for number in range(kills):
            job_id = _submit(client, number)
            writer = _wait_for_writer(worker.pid)
            time.sleep(chance.uniform(0, 1.0))
            with suppress(ProcessLookupError):  # it was done already
                os.kill(writer, signal.SIGKILL)
            _check(client, job_id, tmp_path)
        _clean(up)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.long)])
def test_a_killed_worker_loses_no_capsule(database_url: str, tmp_path: Path, kills: int) -> None:
    chance = random.Random(SEED)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with service(database_url, tmp_path, workers=0, TMPDIR=str(temporary)) as up, up.capsule_client() as client:
        worker = up.worker()
        for number in range(kills):
            job_id = _submit(client, number)
            writer = _wait_for_writer(worker.pid)
            if number:  # the first is killed at once, in the middle of its work
                time.sleep(chance.uniform(0, 1.0))
            worker.kill()
            worker.wait()
            _wait_until_gone(writer, 2.0)
            worker = up.worker()
            _check(client, job_id, tmp_path)
        _clean(up)


def test_a_killed_api_leaves_no_upload_behind(database_url: str, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with service(database_url, tmp_path, workers=0, TMPDIR=str(temporary)) as up:
        api = up.api()
        address = urlsplit(up.url)
        head = f"POST /v1/exports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
        with socket.create_connection((address.hostname, address.port)) as sender:
            sender.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n[".encode())
            deadline = time.monotonic() + 10
            while not list(temporary.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            api.kill()
            api.wait()
        assert list(temporary.iterdir())
        up.api()
        with up.capsule_client() as client:
            _submit(client, 0)
        _clean(up)


def test_a_cancelled_capsules_writer_is_gone_within_a_second(database_url: str, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with service(database_url, tmp_path, workers=0, TMPDIR=str(temporary)) as up, up.capsule_client() as client:
        worker = up.worker()
        job_id = _submit(client, 0)
        writer = _wait_for_writer(worker.pid)
        assert client.delete(f"/v1/exports/{job_id}").json()["status"] == "canceled"
        _wait_until_gone(writer, 1.5)
        deadline = time.monotonic() + 5
        while list(temporary.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        _clean(up)
        assert not [path for path in (tmp_path / "capsules").rglob("*") if path.is_file()]


def _wait_until_gone(writer: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _is_writer(writer):
        assert time.monotonic() < deadline, f"the writer is still there after {seconds} s"
        time.sleep(0.02)


def _is_writer(pid: int) -> bool:
    try:
        return b"writer_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
