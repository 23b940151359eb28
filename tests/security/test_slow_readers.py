"""Clients that request much and read nothing use up neither database connections nor memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.processes import Service, finished, import_file, service

pytestmark = pytest.mark.security

CLIENTS = 12  # more than the pool has connections


@contextmanager
def unread(running: Service, client: httpx.Client, path: str) -> Iterator[None]:
    """Open requests whose responses are never read."""
    address = urlsplit(running.url)
    authorization = client.headers["Authorization"]
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((address.hostname, address.port))
            sock.sendall(request)
        yield


def peak_megabytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def assert_serving(client: httpx.Client, seconds: float) -> None:
    """Check that the API responds at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert client.get("/api/user", timeout=5).status_code == 200
        time.sleep(0.1)


def test_unread_error_reports_use_no_database_connection(database_url: str, tmp_path: Path) -> None:
    broken = (b'"' + b"x" * 1000 + b'"\n') * 10_000
    with service(database_url, tmp_path) as running, running.admin() as client:
        job = import_file(client, "users", broken, key="broken")["id"]
        assert finished(client, job)["errorCount"] == 10_000
        with unread(running, client, f"/api/v1/imports/{job}/errors/download"):
            assert_serving(client, 3)


def test_unread_pages_of_huge_records_use_no_database_connection_and_little_memory(
    database_url: str, tmp_path: Path
) -> None:
    with service(database_url, tmp_path, workers=0) as running, running.admin() as client:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "insert into wherry.articles (author_id, slug, title, body, description, tags, status) "
                "select 1, 'a-' || n, 't', repeat('x', 1 << 20), '', '{}', 'draft' from generate_series(1, 600) n"
            )
        process = running.api()
        with (
            running.client(headers=client.headers) as reader,
            unread(running, reader, "/api/v1/exports?resource=articles"),
        ):
            assert_serving(reader, 3)
            assert peak_megabytes(process.pid) < 300
