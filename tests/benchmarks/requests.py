"""Measures small requests through one API process: the rate and the latency of the status of a job.

    python -m tests.benchmarks.requests [--seconds 20] [--connections 32] [--url postgresql://…]

Each row is a path that is requested over keep-alive connections, as fast as responses arrive. `/healthz` needs neither
an account nor the database, so it shows what every request costs. The client is a separate process, on half of the
CPUs, and understands just enough of HTTP/1.1 to cost less than the server. On a shared machine only the API's CPU time
per request and the ratio to `/healthz` are worth much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from tests.processes import Service, import_file, service
from wherry.database.migrations import migrate
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.server_account import temporary_folder
from wherry.this_process import leave_half_of_the_cpus

WARM_SECONDS = 3.0
RECORD = b'{"id": 9, "email": "new@example.com", "name": "N", "role": "admin"}'
OK = b"HTTP/1.1 200"


@dataclass(frozen=True)
class Load:
    """What the client requests, and for how long."""

    port: int
    path: str
    token: str
    connections: int
    seconds: float


class Client(asyncio.Protocol):
    """Sends one request after the other over one connection, and notes their latencies."""

    def __init__(self, load: Load) -> None:
        self._request = f"GET {load.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {load.token}\r\n\r\n".encode()
        self._end = time.perf_counter() + load.seconds
        self._sent = 0.0
        self._received = b""
        self.latencies: list[float] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if blank and len(body) == int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0]):
            assert head.startswith(OK), head
            self.latencies.append(time.perf_counter() - self._sent)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None) if exc is None else self.ended.set_exception(exc)

    def _send(self) -> None:
        self._received, self._sent = b"", time.perf_counter()
        if self._sent < self._end:
            self._transport.write(self._request)
        else:
            self._transport.close()


async def _measure(load: Load) -> list[float]:
    connect = partial(asyncio.get_running_loop().create_connection, partial(Client, load), "127.0.0.1", load.port)
    clients = [client for _, client in await asyncio.gather(*(connect() for _ in range(load.connections)))]
    await asyncio.gather(*(client.ended for client in clients))
    return sorted(latency for client in clients for latency in client.latencies)


def be_client() -> None:
    """The client's process: reads a load, writes the latencies."""
    leave_half_of_the_cpus()
    json.dump(uvloop.run(_measure(Load(**json.loads(sys.stdin.read())))), sys.stdout)


def measured(load: Load) -> list[float]:
    """The sorted latencies of a load, in seconds."""
    command = [sys.executable, "-c", "from tests.benchmarks.requests import be_client; be_client()"]
    client = subprocess.run(command, input=json.dumps(asdict(load)), stdout=subprocess.PIPE, text=True, check=True)
    return [float(latency) for latency in json.loads(client.stdout)]


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cases(running: Service) -> Iterator[tuple[str, str, str]]:
    """What is measured: a name, a path and a token."""
    with running.admin() as admin:
        jwt = admin.headers["Authorization"].removeprefix("Bearer ")
        made = admin.post("/api/user/tokens", json={"apiToken": {"name": "benchmark"}}).raise_for_status()
        api_token = made.json()["apiToken"]["token"]
        import_id = import_file(admin, "users", RECORD, key="k")["id"]
        export = admin.post("/api/v1/exports", json={"resource": "users"}).raise_for_status()
        export_id = export.json()["exportJob"]["id"]
    yield "/healthz", "/healthz", jwt
    yield "import, with a JWT", f"/api/v1/imports/{import_id}", jwt
    yield "import, with an API token", f"/api/v1/imports/{import_id}", api_token
    yield "export, with a JWT", f"/api/v1/exports/{export_id}", jwt


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """The given database, or one on a new server."""
    if url is not None:
        yield url
        return
    with temporary_folder("wherry-benchmark-") as folder, EmbeddedPostgres(folder / "postgres") as server:
        asyncio.run(migrate(server.url))
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="how long each path is measured")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--url", help="measure with this database, migrated before, instead of a new server")
    asked = parser.parse_args()
    print(f"{'request':28} {'per s':>7} {'of /healthz':>12} {'p50 ms':>7} {'p99 ms':>7} {'CPU µs':>7}")
    with (
        database(asked.url) as url,
        TemporaryDirectory(prefix="wherry-benchmark-") as folder,
        service(url, Path(folder), workers=0) as running,
    ):
        pid, port, fastest = running.api().pid, int(running.url.rpartition(":")[2]), 0.0
        for name, path, token in cases(running):
            load = Load(port, path, token, asked.connections, WARM_SECONDS)
            measured(load)
            used = cpu_seconds(pid)
            latencies = measured(replace(load, seconds=asked.seconds))
            cpu = (cpu_seconds(pid) - used) / len(latencies)
            rate = len(latencies) / asked.seconds
            fastest = fastest or rate
            middle, late = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
            print(
                f"{name:28} {rate:7,.0f} {rate / fastest:12.2f} {middle * 1e3:7.1f} {late * 1e3:7.1f} {cpu * 1e6:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
