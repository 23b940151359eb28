"""Web pages that pretend to be the server's own, or try to avoid a preflight request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.accounts_app import SECRET
from wherry.app import create_app
from wherry.settings import load_settings

pytestmark = pytest.mark.security

USER = b'{"user": {"username": "mallory", "email": "mallory@example.com", "password": "a long and salty password"}}'
OWN = [
    "127.0.0.1",
    "127.0.0.1:3000",
    "[::1]:3000",
    "localhost",
    "LOCALHOST:1",
    "localhost.",
    "10.1.2.3:80",
    "[fe80::1]",
]
PRIVATE = ["wherry:8080", "api", "nas.local", "host.docker.internal", "wherry.default.svc.cluster.local", "a.localhost"]
FOREIGN = [
    *("attacker.example", "attacker.example:3000", "127.0.0.1.attacker.example", "localhost.attacker.example"),
    *("attacker.example.", "2130706433.attacker.example", "wherry.example.attacker.example", "xn--localhost-.com"),
    *("127.0.0.1@attacker.example", "a b", "[::1", "attacker.example/localhost", "", "\u00fc.example"),
]


@asynccontextmanager
async def served(database_url: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        load_settings(
            jwt_secret=SECRET, database_url=database_url, wherry_data_dir=folder, public_url="https://wherry.example/x"
        )
    )
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:3000") as speaking:
            yield speaking


async def test_hosts_that_no_attacker_can_have_are_served(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as client:
        for host in (*OWN, *PRIVATE, "wherry.example", "wherry.example:443", socket.gethostname()):
            assert (await client.get("/healthz", headers={"Host": host})).status_code == 200, host


async def test_dns_rebinding_is_refused(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as client:
        for host in FOREIGN:
            headers = {"Host": host.encode(), "Origin": f"http://{host}".encode(), "Content-Type": b"application/json"}
            for path in ("/api/users", "/v1/exports", "/healthz"):
                answer = await client.post(path, content=USER, headers=headers)
                assert answer.status_code == 421, host
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["x-request-id"]
                problem = answer.json()
                assert "PUBLIC_URL" in problem["detail"]
                assert ("errors" in problem, "error" in problem) == (path.startswith("/api"), path.startswith("/v1"))


async def test_two_host_headers_are_refused(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as client:
        answer = await client.get("/healthz", headers=[("Host", "localhost"), ("Host", "attacker.example")])
        assert answer.status_code == 400


async def test_a_foreign_page_must_send_a_content_type(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as client:
        for origin in ("https://attacker.example", "null", "http://localhost:3001", "http://127.0.0.1:3000"):
            for path in ("/api/users", "/api/users/login", "/api/users/password/reset", "/v1/exports"):
                for content_type in ({}, {"Content-Type": ""}, {"Content-Type": " "}):
                    answer = await client.post(path, content=USER, headers={"Origin": origin, **content_type})
                    assert answer.status_code == 415, (origin, path)
                    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://wherry.example"}])
async def test_other_clients_may_omit_the_content_type(
    database_url: str, tmp_path: Path, origin: dict[str, str]
) -> None:
    async with served(database_url, tmp_path) as client:
        assert (await client.post("/api/users", content=USER, headers=origin)).status_code == 201


async def test_a_body_with_a_content_type_is_accepted_from_every_origin(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path) as client:
        headers = {"Origin": "https://app.example", "Content-Type": "application/json"}
        assert (await client.post("/api/users/login", content=USER, headers=headers)).status_code == 403


async def test_a_request_without_a_host_is_served() -> None:
    """Health checks with HTTP/1.0 send no Host header; browsers always do."""
    app = create_app(load_settings(jwt_secret=SECRET, database_url="postgresql://localhost/nothing"))
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/healthz",
        "headers": [],
        "query_string": b"",
        "raw_path": b"/healthz",
    }
    started: asyncio.Queue[int] = asyncio.Queue()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            started.put_nowait(message["status"])  # type: ignore[arg-type]

    await app({**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}, None, send)  # type: ignore[arg-type]
    assert started.get_nowait() == 200


async def test_a_server_for_other_machines_accepts_every_host_unless_it_has_a_public_url(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"jwt_secret": SECRET, "database_url": database_url, "wherry_data_dir": tmp_path}
    reached = [{"host": "0.0.0.0"}, {"memvid_export_bind_addr": "[::]:8080"}]
    closed = [{}, {"host": "localhost"}, {"host": "0.0.0.0", "public_url": "https://wherry.example"}]
    for statuses, choices in ((200, reached), (421, closed)):
        for choice in choices:
            app = create_app(load_settings(**settings, **choice))
            async with app.lifespan():
                transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
                async with httpx.AsyncClient(transport=transport, base_url="http://wherry.corp.example:3000") as client:
                    assert (await client.get("/healthz")).status_code == statuses, choice
