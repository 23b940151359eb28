"""Graphs that are made to hurt."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.factories import SMALL_GRAPH
from tests.processes import finished, import_file, pids_of, service
from wherry.capsules import offload
from wherry.capsules.graph_frames import graph_frames
from wherry.capsules.offload import IN_PROCESS_BYTES, check_file, transform
from wherry.capsules.reading import read_graph
from wherry.capsules.submission import CHECKS_AT_ONCE, SMALL_BYTES, SMALL_CHECKS_AT_ONCE, Submissions
from wherry.database.pools import make_pool
from wherry.errors import Invalid, JobFailed, TooLarge
from wherry.jobs.models import Job
from wherry.storage.store import Store
from wherry.this_process import NICENESS

pytestmark = pytest.mark.security

FIRST_NODE = b'{"id":"a","label":"F",'
HEAD = b'{"sessionId":"s","projectName":"p","source":{"type":"folder","baseName":"b"},"nodes":[' + FIRST_NODE
TAIL = b'}],"relationships":[{"id":"r","sourceId":"a","targetId":"a","type":"C"}]}'
SECONDS = 8
FLAT = 96 << 20
"""Bytes of memory that a body of 40 MB may take; Python and the modules take a third of it."""

PLAIN = HEAD + b'"x":0' + TAIL
FLOODS = {
    "lists as nodes": (lambda: PLAIN.replace(FIRST_NODE, _lists()[:-2] + FIRST_NODE), "VALIDATION_FAILED"),
    "lists in an unknown member": (lambda: PLAIN[:-1] + b',"x":[' + _lists() + b"]}", "nodes"),
    "small nodes": (lambda: PLAIN.replace(FIRST_NODE, b'{"id":"","label":""},' * 2_000_000 + FIRST_NODE), "2000001"),
    "a long file": (lambda: PLAIN[:-1] + b',"fileContents":{"a":"' + b"\\n" * 20_000_000 + b'"}}', "nodes"),
    "text to repair": (lambda: PLAIN[:-1] + b',"x":"' + b"x" * 40_000_000 + b'\\ud800"}', "nodes"),
}
"""What makes a body of 40 MB, not made before it is needed, and what the answer to it contains."""


def _lists() -> bytes:
    return b"[]," * 13_000_000 + b"[]"


@pytest.mark.parametrize("command", ["check", "transform"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_process_takes_little_memory_whatever_the_body(tmp_path: Path, flood: str, command: str) -> None:
    make_body, expected = FLOODS[flood]
    request = tmp_path / "request.json"
    request.write_bytes(make_body())
    files = [request] if command == "check" else [request, tmp_path / "frames"]
    done = subprocess.run(
        [sys.executable, "-m", "wherry.capsules.process", str(os.getpid()), command, *map(str, files)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (FLAT, FLAT)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert expected in done.stdout.replace("Expected `object`, got `array`", "VALIDATION_FAILED")
    assert "memory" not in done.stdout


async def test_a_body_that_takes_thirty_times_its_size_is_refused_before_it_does(tmp_path: Path) -> None:
    body = HEAD + b'"properties":{"x":[' + _lists() + b"]}" + TAIL
    file = tmp_path / "request.json"
    file.write_bytes(body)
    with pytest.raises(TooLarge, match="far more memory"):
        await check_file(file, len(body))
    with pytest.raises(JobFailed, match="far more memory"):
        await transform(file, tmp_path / "frames")


def test_nodes_behind_lines_of_a_megabyte_are_found_without_reading_these_again() -> None:
    """20,000 nodes would take six minutes if each of them read the 50 MB before its lines."""
    symbol = {"name": "f", "filePath": "a.js", "startLine": 58, "endLine": 58}
    graph = {
        **SMALL_GRAPH,
        "nodes": [{"id": str(n), "label": "Function", "properties": symbol} for n in range(20_000)],
        "fileContents": {"a.js": ("x" * 870_000 + "\n") * 60},
    }
    read = read_graph(msgspec.json.encode(graph))
    began = time.monotonic()
    assert sum(1 for _ in graph_frames(read)) == 20_002
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("levels", [3, 900])
def test_a_fault_is_named_in_the_same_time_however_deep_it_lies(levels: int) -> None:
    deep = b'{"a":' * levels + b"[" + b"1," * (1 << 21) + b"1e999999999]" + b"}" * levels
    began = time.monotonic()
    with pytest.raises(Invalid, match=r'out of range at \$\.nodes\[0\]\.properties\["a"\]'):
        read_graph(HEAD + b'"properties":' + deep + TAIL)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("task", ["check", "transform"])
async def test_a_graph_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(offload, "BASE_SECONDS", 1.0)
    request = tmp_path / "request"
    os.mkfifo(request)  # reading it waits for ever
    if task == "check":
        with pytest.raises(TooLarge, match="limit for its size"):
            await check_file(request, IN_PROCESS_BYTES + 1)
    else:
        with pytest.raises(JobFailed, match="could not be turned into frames within 1 s"):
            await transform(request, tmp_path / "frames")


async def test_small_graphs_do_not_wait_for_large_ones(database_url: str, tmp_path: Path) -> None:
    async with submissions_to(database_url, tmp_path) as submissions:
        for _ in range(CHECKS_AT_ONCE):
            await submissions._large_checks.acquire()
        async with asyncio.timeout(20):
            job, replayed = await hand_in(submissions, SMALL_GRAPH)
    assert (job.kind, replayed) == ("capsule", False)


async def test_large_graphs_take_no_place_of_small_ones(database_url: str, tmp_path: Path) -> None:
    large = {**SMALL_GRAPH, "padding": "x" * SMALL_BYTES}
    async with submissions_to(database_url, tmp_path) as submissions:
        for _ in range(SMALL_CHECKS_AT_ONCE):
            await submissions._small_checks.acquire()
        async with asyncio.timeout(20):
            job, replayed = await hand_in(submissions, large)
    assert (job.kind, replayed) == ("capsule", False)


@asynccontextmanager
async def submissions_to(database_url: str, folder: Path) -> AsyncIterator[Submissions]:
    async with make_pool(database_url, name="test", max_size=2) as pool:
        yield Submissions(pool, Store(str(folder)), max_body_bytes=2 * SMALL_BYTES, capacity=10)


async def hand_in(submissions: Submissions, graph: dict[str, Any]) -> tuple[Job, bool]:
    async def body() -> AsyncIterator[bytes]:
        yield msgspec.json.encode(graph)

    return await submissions.hand_in(body(), declared_bytes=None, idempotency_key=None)


async def test_the_process_that_reads_a_large_body_lets_the_api_go_first_and_leaves_it_cpus(tmp_path: Path) -> None:
    request = tmp_path / "request"
    os.mkfifo(request)
    checking = asyncio.create_task(check_file(request, IN_PROCESS_BYTES + 1))
    with await asyncio.to_thread(request.open, "wb") as pipe:  # waits until the process reads
        (process,) = pids_of(request)
        assert os.getpriority(os.PRIO_PROCESS, process) >= NICENESS > os.getpriority(os.PRIO_PROCESS, os.getpid())
        assert os.getsid(process) == process
        ours = os.sched_getaffinity(0)
        assert len(os.sched_getaffinity(process)) == len(ours) - len(ours) // 2
        pipe.write(msgspec.json.encode(SMALL_GRAPH))
    assert (await checking).nodes == len(SMALL_GRAPH["nodes"])


def test_an_import_does_not_wait_for_large_capsules(database_url: str, tmp_path: Path) -> None:
    place = {"filePath": "a.js", "startLine": 0, "endLine": 0}
    nodes = [{"id": str(n), "label": "Function", "properties": {"name": f"f{n}", **place}} for n in range(60_000)]
    graph = msgspec.json.encode({**SMALL_GRAPH, "nodes": nodes, "fileContents": {"a.js": "f(x);" * 9_900_000}})
    assert len(graph) > 55_000_000
    with service(database_url, tmp_path) as running, running.admin() as admin, running.capsule_client() as client:
        headers = {"Content-Type": "application/json"}
        jobs = [client.post("/v1/exports", content=graph, headers=headers).raise_for_status().json() for _ in range(4)]
        paths = [f"/v1/exports/{job['jobId']}" for job in jobs]
        for path in paths[:2]:  # as many as one worker runs at a time
            with client.stream("GET", f"{path}/events/stream") as events:
                next(line for line in events.iter_lines() if line == "event: job_started")
        job = import_file(admin, "users", b'{"email": "one@example.com", "name": "One"}\n', key="one")
        assert finished(admin, job["id"])["status"] == "succeeded"
        assert {client.delete(path).raise_for_status().json()["status"] for path in paths} == {"canceled"}
