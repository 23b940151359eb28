"""Measures what a well-behaved client notices of clients that misbehave.

    python -m tests.benchmarks.attacks [--seconds 20] [--only login_flood slow_bodies …]

One service, an API and a worker, is attacked from 127.0.0.2 in one way at a time. Meanwhile a client at 127.0.0.1 asks
for a job's status, a page of records and its account, twenty times a second, and imports one record at a time,
at most once per second. The table has the 99th percentile of its requests without an attack and under it, the ratio
of the two, and the slowest of its imports. The attackers stand for other machines: they run in a session of low
priority and on half of the CPUs, because they would otherwise take the time that the service is measured by.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.postgres import plan
from tests.processes import API_KEY, PASSWORD, Service, service
from wherry.local.server_account import temporary_folder
from wherry.this_process import leave_half_of_the_cpus

ATTACKERS = 8
SLOW_CONNECTIONS = 100
ATTACKER = "127.0.0.2"
INTERVAL = 0.05
SETTINGS = {"IMPORT_CONCURRENT_LIMIT_USER": "20"}


@dataclass(frozen=True)
class Target:
    """Where an attacker finds the service, and the credentials of an account of its own."""

    url: str
    token: str

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, int(url.port or 80)


Attack = Callable[[httpx.AsyncClient, Target], Awaitable[object]]
KEYS = map("attack {}".format, itertools.count())
MARKS = "a" + "\u0301" * 15_900 + "\u0327" * 15_900
GZIP = {"Content-Encoding": "gzip", "Content-Type": "application/json"}


def packed(value: object) -> bytes:
    """JSON, as gzip."""
    return gzip.compress(json.dumps(value).encode())


LOGIN_WITH_MARKS = packed({"user": {"email": MARKS + "@x.y", "password": "x"}})
RESET_WITH_MARKS = packed({"email": MARKS + "@x.y"})
MANY_ARRAYS = b'{"user": [' + b"[]," * 20_000 + b"[]]}"
NESTED_GRAPH = b'{"sessionId": ' + b"[" * 900 + b"]" * 900 + b', "nodes": [' + b"{}," * 400_000 + b"{}]}"
MANY_ERRORS = gzip.compress(b"{}\n" * 200_000)
LONG_SLUG = gzip.compress(b'{"slug": "' + b"a-" * 7_500_000 + b'", "title": "t", "body": "b", "author_id": 1}\n')
LONG_ELEMENT = gzip.compress(b"[" + b'{"title": [' + b'"",' * 13_000_000 + b'""]}]')
ONE_LINE = json.dumps(
    {
        "sessionId": "s",
        "projectName": "p",
        "source": {"type": "folder", "baseName": "b"},
        "nodes": [
            {
                "id": f"n{n}",
                "label": "Function",
                "properties": {"name": f"f{n}", "filePath": "a.js", "startLine": 0, "endLine": 0},
            }
            for n in range(20_000)
        ],
        "relationships": [{"id": "r", "sourceId": "n0", "targetId": "n1", "type": "X"}],
        "fileContents": {"a.js": "f(x);" * 2_000_000},
    }
).encode()


async def marks(client: httpx.AsyncClient, target: Target) -> None:
    """Log in, and ask for a link, as an address of 31,800 combining marks."""
    await client.post("/api/users/login", content=LOGIN_WITH_MARKS, headers=GZIP)
    await client.post("/api/users/password/reset", content=RESET_WITH_MARKS, headers=GZIP)


async def login_flood(client: httpx.AsyncClient, target: Target) -> None:
    """Guess passwords."""
    await client.post(
        "/api/users/login", json={"user": {"email": "captain@example.com", "password": os.urandom(8).hex()}}
    )


async def resets(client: httpx.AsyncClient, target: Target) -> None:
    """Ask for password links, which a mail server that says nothing is to send."""
    await client.post("/api/users/password/reset", json={"email": "captain@example.com"})


async def taken_names(client: httpx.AsyncClient, target: Target) -> None:
    """Ask whether an e-mail address is known."""
    user = {"email": f"{os.urandom(4).hex()}@example.com", "username": "captain"}
    await client.put("/api/user", json={"user": user}, headers={"Authorization": target.token})


async def key_guesses(client: httpx.AsyncClient, target: Target) -> None:
    """Guess the key of the capsule routes."""
    await client.get("/v1/exports/x", headers={"Authorization": f"Bearer {os.urandom(8).hex()}"})


async def arrays(client: httpx.AsyncClient, target: Target) -> None:
    """Send a small body of many objects."""
    await client.post("/api/users", content=MANY_ARRAYS, headers={"Content-Type": "application/json"})


async def nested_graphs(client: httpx.AsyncClient, target: Target) -> None:
    """Send graphs with a fault deep inside."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    await client.post("/v1/exports", content=NESTED_GRAPH, headers=headers)


async def one_line_graphs(client: httpx.AsyncClient, target: Target) -> None:
    """Have capsules made of 20,000 symbols on one line of ten megabytes."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    answer = await client.post("/v1/exports", content=ONE_LINE, headers=headers)
    if answer.status_code == 202:
        await asyncio.sleep(2)


async def slow_bodies(client: httpx.AsyncClient, target: Target) -> None:
    """Keep a hundred connections that send a byte per second, and open a new one for each that is closed."""
    fields = (b"Host: localhost", b"Content-Type: application/json", b"Content-Length: 60000")
    head = b"\r\n".join((b"POST /api/users HTTP/1.1", *fields, b"", b""))
    streams: list[asyncio.StreamWriter] = []
    try:
        while True:
            streams = [writer for writer in streams if not writer.is_closing()]
            while len(streams) < SLOW_CONNECTIONS:
                _, writer = await asyncio.open_connection(*target.address, local_addr=(ATTACKER, 0))
                writer.write(head)
                streams.append(writer)
            for writer in streams:
                writer.write(b" ")
            await asyncio.sleep(1)
    except OSError:
        await asyncio.sleep(0.5)
    finally:
        for writer in streams:
            writer.close()


def _import(content: bytes, resource: str, format: str) -> Attack:
    async def attack(client: httpx.AsyncClient, target: Target) -> None:
        headers = {"Authorization": target.token, "Idempotency-Key": f"{os.getpid()} {next(KEYS)}"}
        headers["Content-Type"] = "application/x-ndjson"
        params = {"resource": resource, "format": format}
        answer = await client.post("/api/v1/imports", params=params, content=content, headers=headers)
        if answer.status_code != 202:
            await asyncio.sleep(0.5)

    return attack


ATTACKS: dict[str, Attack] = {
    **{each.__name__: each for each in (marks, login_flood, resets, taken_names, key_guesses, arrays)},
    **{each.__name__: each for each in (nested_graphs, one_line_graphs, slow_bodies)},
    "many_errors": _import(MANY_ERRORS, "users", "ndjson"),
    "long_slug": _import(LONG_SLUG, "articles", "ndjson"),
    "long_element": _import(LONG_ELEMENT, "articles", "json"),
}


async def _attack(name: str, target: Target, seconds: float) -> None:
    async def again_and_again() -> None:
        transport = httpx.AsyncHTTPTransport(local_address=ATTACKER)
        async with httpx.AsyncClient(base_url=target.url, transport=transport, timeout=60) as client:
            while True:
                try:
                    await ATTACKS[name](client, target)
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)

    attackers = [asyncio.create_task(again_and_again()) for _ in range(ATTACKERS)]
    await asyncio.wait(attackers, timeout=seconds)
    for attacker in attackers:
        attacker.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)


def _attacker(name: str, target: Target, seconds: float) -> None:
    os.setsid()
    os.nice(19)
    leave_half_of_the_cpus()
    if (autogroup := Path("/proc/self/autogroup")).exists():  # then nice values only count within a session
        autogroup.write_text("19")
    asyncio.run(_attack(name, target, seconds))


@dataclass(frozen=True)
class Seen:
    """What the well-behaved client met: milliseconds per request and per import, and refusals."""

    requests: list[float]
    imports: list[float]
    refused: int

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.requests, n=100)[98]


def _work(client: httpx.Client, job_id: str, seconds: float) -> Seen:
    with ThreadPoolExecutor(1) as thread:
        stop = threading.Event()
        importing = thread.submit(_import_until, client, stop)
        try:
            requests, refused = _ask(client, job_id, seconds)
        finally:
            stop.set()
        return Seen(requests, importing.result(), refused)


def _ask(client: httpx.Client, job_id: str, seconds: float) -> tuple[list[float], int]:
    paths = itertools.cycle([f"/api/v1/imports/{job_id}", "/api/v1/exports?resource=users&limit=10", "/api/user"])
    requests: list[float] = []
    refused = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        refused += not client.get(next(paths)).is_success
        requests.append(1000 * (time.perf_counter() - started))
        time.sleep(INTERVAL)
    return requests, refused


def _import_until(client: httpx.Client, stop: threading.Event) -> list[float]:
    imports = [_import_one(client)]
    while not stop.wait(max(0, 1 - imports[-1] / 1000)):
        imports.append(_import_one(client))
    return imports


def _import_one(client: httpx.Client) -> float:
    started = time.perf_counter()
    answer = client.post(
        "/api/v1/imports",
        params={"resource": "users", "onConflict": "update"},
        content=b'{"email": "one@example.com", "name": "One"}\n',
        headers={"Idempotency-Key": f"good {next(KEYS)}", "Content-Type": "application/x-ndjson"},
    )
    job_id = answer.raise_for_status().json()["importJob"]["id"]
    client.get(f"/api/v1/jobs/{job_id}/events").raise_for_status()
    return 1000 * (time.perf_counter() - started)


def _mallory(running: Service) -> str:
    with running.admin() as admin, running.client() as client:
        user = {"username": "mallory", "email": "mallory@example.com", "password": PASSWORD}
        token = client.post("/api/users", json={"user": user}).raise_for_status().json()["user"]["token"]
        admin.get("/api/user").raise_for_status()
    return f"Bearer {token}"


def measure(names: list[str], seconds: float, folder: Path) -> None:
    """Print a line per attack."""
    silent = socket.create_server(("127.0.0.1", 0))
    settings = {**SETTINGS, "TRANSFER_ROLES": "admin,user", "SMTP_URL": f"smtp://127.0.0.1:{silent.getsockname()[1]}"}
    print(f"{'attack':16} {'calm p99 ms':>12} {'p99 ms':>8} {'ratio':>6} {'slowest import ms':>18} {'refused':>8}")
    with plan("auto").open() as server:
        for name in names:
            place = folder / name
            place.mkdir()
            with service(server.create(), place, **settings) as running, running.admin() as client:
                target = Target(running.url, _mallory(running))
                _print_line(name, client, target, seconds)
    silent.close()


def _print_line(name: str, client: httpx.Client, target: Target, seconds: float) -> None:
    client.timeout = httpx.Timeout(60)
    job: dict[str, Any] = client.post(
        "/api/v1/imports",
        params={"resource": "users"},
        content=b'{"email": "first@example.com", "name": "First"}\n',
        headers={"Idempotency-Key": "first", "Content-Type": "application/x-ndjson"},
    ).json()["importJob"]
    _work(client, job["id"], 2)  # warm
    calm = _work(client, job["id"], seconds / 2)
    attacker = multiprocessing.get_context("spawn").Process(target=_attacker, args=(name, target, seconds))
    attacker.start()
    attacked = _work(client, job["id"], seconds)
    attacker.join()
    ratio = attacked.p99 / calm.p99
    slowest = max(attacked.imports)
    print(
        f"{name:16} {calm.p99:12.1f} {attacked.p99:8.1f} {ratio:6.1f} {slowest:18.0f} {attacked.refused:8}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    asked = parser.parse_args()
    with temporary_folder("wherry-attacks-", Path("/var/tmp")) as folder:
        measure(asked.only, asked.seconds, folder)


if __name__ == "__main__":
    main()
