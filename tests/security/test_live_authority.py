"""Clients that lose their rights while they are connected, or that upload too much at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.processes import Service, import_file, service

pytestmark = pytest.mark.security

RECORD = b'{"id": 9, "email": "new@example.com", "name": "N", "role": "admin"}'


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """An API without workers: jobs stay queued."""
    with service(database_url, tmp_path, workers=0, IMPORT_CONCURRENT_LIMIT_USER="3") as running:
        yield running


@pytest.mark.parametrize("change", ["active = false", "role = 'user'", "password_changed_at = now() + interval '1 s'"])
def test_an_event_stream_ends_when_its_reader_loses_access(place: Service, database_url: str, change: str) -> None:
    with place.admin() as admin:
        job = import_file(admin, "users", RECORD, key="k")
        # keep-alives are 15 s apart: a stream that goes on is silent for longer than the timeout
        with admin.stream("GET", f"/api/v1/jobs/{job['id']}/events", timeout=10) as events:
            lines = events.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == "event: progress"
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(f"update wherry.users set {change}".encode())
            began = time.monotonic()
            rest = list(lines)
    assert time.monotonic() - began < 10
    assert not [line for line in rest if line.startswith("event: ")]


def test_an_operators_stream_of_somebody_elses_job_ends_with_the_flag(place: Service, database_url: str) -> None:
    with place.admin() as operator, psycopg.connect(database_url, autocommit=True) as connection:
        job = import_file(operator, "users", RECORD, key="k")
        connection.execute("update wherry.jobs set owner_id = null")
        with operator.stream("GET", f"/api/v1/jobs/{job['id']}/events", timeout=10) as events:
            lines = events.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == "event: progress"
            connection.execute("update wherry.users set operator = false")
            assert not [line for line in lines if line.startswith("event: ")]
        assert operator.get(f"/api/v1/jobs/{job['id']}").status_code == 404


def begin_upload(place: Service, token: str, number: int) -> socket.socket:
    """An endless upload that the service is receiving."""
    address = urlsplit(place.url)
    assert address.hostname is not None
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=20)
    connection.sendall(
        f"POST /api/v1/imports?resource=users HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: {token}\r\n"
        f"Idempotency-Key: {number}\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    return connection


def test_uploads_in_progress_count_among_unfinished_imports(place: Service) -> None:
    with place.admin() as admin:
        import_file(admin, "users", RECORD, key="queued")
        uploads = [begin_upload(place, admin.headers["Authorization"], number) for number in range(2)]

        def attempt() -> httpx.Response:
            headers = {"Idempotency-Key": "one more", "Content-Type": "application/x-ndjson"}
            return admin.post("/api/v1/imports?resource=users", content=RECORD, headers=headers)

        refused = attempt()
        assert (refused.status_code, refused.json()["code"]) == (429, "CONCURRENT_LIMIT")
        for upload in uploads:
            upload.close()
        deadline = time.monotonic() + 10
        while (answer := attempt()).status_code == 429 and time.monotonic() < deadline:
            pass
        assert answer.status_code == 202  # what was cut off no longer counts


def test_jobs_and_reports_are_not_cached(place: Service, database_url: str) -> None:
    with place.admin() as admin:
        job = import_file(admin, "users", RECORD, key="k")
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "insert into wherry.import_errors (job_id, record_index, code, name, message) "
                "values (%s, 0, 1001, 'X', 'x')",
                [job["id"]],
            )
        one = f"/api/v1/imports/{job['id']}"
        for path in ("/api/v1/jobs", one, f"{one}/errors", f"{one}/errors/download"):
            answer = admin.get(path)
            assert (answer.status_code, answer.headers.get("cache-control")) == (200, "no-store"), path
        answers = [admin.delete(one), admin.post("/api/v1/exports", json={"resource": "users"})]
        assert {answer.headers.get("cache-control") for answer in answers} == {"no-store"}
